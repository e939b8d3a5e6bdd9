"""How commands end: after a signal no unfinished files remain, and a finished run needs no output stream."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from animation_samples import bundled_networks, driving_frames, portrait, write_video

from liveportrait import weights
from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.cli import main
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.folders import remove_unfinished
from liveportrait.media import VideoReader, save_image
from liveportrait.media.files import output_file, output_folder
from liveportrait.media.gif import GifWriter


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_image(folder / "face.png", portrait())
    write_video(folder / "driving.mp4", driving_frames(9))
    weights.save(bundled_networks(), folder / "weights", weights.Metadata("a test", "MIT"))
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch) -> Path:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def animate(out: str, *more: str) -> int:
    return main(
        ["animate", "face.png", "driving.mp4", "-o", out, "--weights", "weights", "--device", "cpu", *more]
    )


def signalled(method, number: signal.Signals, at: int):
    """A method during whose call number `at`, from 0, the process receives a signal."""
    calls = []

    def call(*arguments, **options):
        if len(calls) == at:
            os.kill(os.getpid(), number)
        calls.append(1)
        return method(*arguments, **options)

    return call


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals here")
@pytest.mark.parametrize(
    ("number", "owner", "name", "at", "out"),
    [
        (signal.SIGINT, Engine, "extract_motion", 0, "out.mp4"),
        (signal.SIGTERM, Engine, "layers", 1, "out.mp4"),
        (getattr(signal, "SIGHUP", None), Engine, "layers", 2, "out"),
        (signal.SIGTERM, GifWriter, "_encode", 1, "out.gif"),  # one of two files is complete
    ],
)
def test_a_signal_stops_a_run_and_leaves_no_files(here, monkeypatch, capsys, number, owner, name, at, out):
    before = sorted(here.rglob("*"))
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    handler = signal.signal(number, usual)  # ignored in background jobs
    monkeypatch.setattr(owner, name, signalled(getattr(owner, name), number, at))
    try:
        assert animate(out, "--compare") == 128 + number
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, handler)
    words = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert capsys.readouterr().err == f"liveportrait: {words}\n"
    assert sorted(here.rglob("*")) == before


def test_an_ignored_signal_stays_ignored(here, monkeypatch):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as nohup does with SIGHUP
    try:
        monkeypatch.setattr(Engine, "layers", signalled(Engine.layers, signal.SIGTERM, 1))
        assert animate("out.mp4") == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert VideoReader("out.mp4").info.frame_count == 9


def test_unfinished_files_are_removed_before_their_block_ends(tmp_path):
    with (
        pytest.raises(FileNotFoundError),  # when the file is renamed
        output_folder(tmp_path / "frames") as folder,
        output_file(tmp_path / "out.txt") as file,
    ):
        (folder / "half").write_text("done")
        file.write_text("half")
        remove_unfinished()
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_finished_run_succeeds_with_a_closed_output_stream():
    code = (
        "import sys; from liveportrait.apps.terminal import lenient_streams\n"
        "with lenient_streams():\n    print('wrote \u00e9.mp4'); print('note', file=sys.stderr)"
    )

    def run(**streams) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONIOENCODING": "ascii"}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, text=True, check=False, **streams
        )

    plain = run(capture_output=True)
    assert (plain.returncode, plain.stdout, plain.stderr) == (0, "wrote \\xe9.mp4\n", "note\n")

    reader, writer = os.pipe()
    os.close(reader)
    closed = run(stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (closed.returncode, closed.stderr) == (0, "note\n")

    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            lost = run(stdout=full, stderr=subprocess.PIPE)
            assert lost.returncode == 0
            assert lost.stderr.startswith("note\nliveportrait: cannot write to standard output: ")
            assert run(stdout=full, stderr=full).returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9 GiB"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        OSError(12, "Cannot allocate memory"),
    ],
)
@pytest.mark.parametrize("told_as_damage", [False, True])
def test_running_out_of_memory_is_reported_as_such(monkeypatch, capsys, error, told_as_damage):
    def fails(self):
        if not told_as_damage:
            raise error
        raise UserError("it is damaged") from error

    monkeypatch.setattr(LoadOptions, "load", fails)
    assert animate("out.mp4") == 2
    assert capsys.readouterr().err.startswith("liveportrait: there is too little memory")


def program(code: str) -> subprocess.Popen[str]:
    """Start the program with `code` in place of its command line."""
    code = f"import os, signal, sys, time\nfrom liveportrait.__main__ import run\n{code}\nsys.exit(run([]))"

    def usual() -> None:  # ignored in background jobs
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=usual,
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_a_signal_stops_the_program_even_if_it_is_busy(tmp_path):
    busy = f"""
import liveportrait.apps.cli as cli
from pathlib import Path
from liveportrait.apps.terminal import stopping
from liveportrait.folders import unfinished_beside
def main(args):
    with stopping(), unfinished_beside(Path({str(tmp_path)!r}) / "out.txt") as hidden:
        hidden.write_text("half")
        try:
            print("here", flush=True)
            time.sleep(60)
        finally:
            time.sleep(60)  # like an encoder with much to write
cli.main = main
"""
    with program(busy) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=50)[1] == "liveportrait: stopped by SIGTERM\n"
    assert process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_ctrl_c_during_imports_gives_no_traceback():
    imports = """
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "liveportrait.apps.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
    with program(imports) as process:
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT
