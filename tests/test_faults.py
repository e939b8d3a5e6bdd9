"""Full or read-only disks and lack of memory are reported in one sentence and leave no partial or hidden files."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from animation_samples import driving_frames, portrait, write_video
from prepare_samples import scene
from safetensors.torch import save_file

from liveportrait.apps.cli import main
from liveportrait.apps.server.settings import Limits
from liveportrait.apps.server.store import JobStore
from liveportrait.apps.server.uploads import Uploads
from liveportrait.errors import DiskFull, OutOfMemory, UserError, user_error
from liveportrait.media import save_image
from liveportrait.motion.templates import Template, bundled_templates, write_template
from liveportrait.training.checkpoint import TrainingState

KIB = 16  # size of the full disk: less than any result


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_image(folder / "face.png", portrait())
    write_video(folder / "video.mp4", driving_frames(3))
    save_image(folder / "scene.png", scene(smile=-15))
    smile = bundled_templates()["smile"]
    write_template(
        folder / "moves.safetensors", Template(smile.motion.rows(range(6)), smile.fps, smile.layout)
    )
    (folder / "jobs.csv").write_text("source,smile\nface.png,0.5\n")
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={KIB}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


# Commands that write something; DISK stands for the folder.
COMMANDS = {
    "video": "animate face.png moves.safetensors -o DISK/out.mp4",
    "frames": "animate face.png moves.safetensors -o DISK/out",
    "picture": "animate face.png face.png -o DISK/out.jpg",
    "edit": "edit face.png --smile 0.5 -o DISK/out.png",
    "template": "template video.mp4 -o DISK/out.safetensors",
    "prepare": "prepare scene.png -o DISK/shards",
}

ROOM = {"prepare": 2, "template": 0}  # free pages of 4096 bytes; one by default


def sentence_of(command: str, inputs: Path, disk: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The error message of a command."""
    os.chdir(inputs)
    assert main(command.replace("DISK", str(disk)).split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("liveportrait: ") and not any("Traceback" in line for line in lines)
    return lines[-1]


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_reported_in_one_sentence(name, inputs, disk, capsys, monkeypatch):
    monkeypatch.chdir(inputs)
    (disk / "other").write_bytes(bytes(1024 * KIB - 4096 * ROOM.get(name, 1)))
    sentence = sentence_of(COMMANDS[name], inputs, disk, capsys)
    assert "No space left" in sentence or "is full" in sentence
    assert str(disk) in sentence and ".liveportrait-" not in sentence
    assert contents(disk) == ["other", "shards/prepare.json"][: 1 + (name == "prepare")]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_folder_is_reported_in_one_sentence(name, inputs, disk, capsys, monkeypatch):
    monkeypatch.chdir(inputs)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    sentence = sentence_of(COMMANDS[name], inputs, disk, capsys)
    assert "cannot be written to" in sentence or "read-only" in sentence.lower()
    assert contents(disk) == []


def test_a_batch_on_a_full_disk_reports_each_job(inputs, disk, capsys, monkeypatch):
    monkeypatch.chdir(inputs)
    (disk / "other").write_bytes(bytes(1024 * KIB - 4096))
    assert main(["batch", "jobs.csv", "--out", str(disk / "results")]) == 1
    printed = capsys.readouterr()
    assert "full" in printed.out + printed.err and "Traceback" not in printed.err
    assert contents(disk) == ["other", "results/batch.jsonl"]


def test_a_full_disk_keeps_the_previous_checkpoint(disk):
    state = TrainingState({"small": torch.nn.Linear(8, 8)}, {}, {})
    state.save(disk / "phase.safetensors", {})
    before = (disk / "phase.safetensors").read_bytes()
    large = TrainingState({"large": torch.nn.Linear(64, 128)}, {}, {})
    with pytest.raises(DiskFull, match="is full: free some space"):
        large.save(disk / "phase.safetensors", {})
    assert (disk / "phase.safetensors").read_bytes() == before
    assert contents(disk) == ["phase.safetensors"]
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(UserError, match="is read-only"):
        state.save(disk / "phase.safetensors", {})


def test_an_upload_to_a_full_disk_is_not_kept(inputs, disk, tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite3")
    uploads = Uploads(disk / "uploads", store, Limits())
    with pytest.raises(DiskFull, match="is full"):
        uploads.keep(io.BytesIO((inputs / "face.png").read_bytes()), "face.png")
    assert not any((disk / "uploads").iterdir())
    store.close()


def refused(act: str, folder: Path) -> Exception:
    """The error that a library raises."""
    try:
        if act == "torch":
            torch.empty(2**62, dtype=torch.uint8)
        elif act == "numpy":
            np.empty(2**62, np.uint8)
        elif act == "python":
            bytearray(2**62)
        elif act == "safetensors":
            save_file({"zeros": torch.zeros(2**15)}, folder / "zeros.safetensors")
        elif act == "file":
            (folder / "file").write_bytes(bytes(2**20))
    except Exception as error:
        return error
    raise AssertionError("it went well")


@pytest.mark.parametrize("act", ["torch", "numpy", "python"])
def test_out_of_memory_in_libraries(act, tmp_path):
    assert isinstance(user_error(refused(act, tmp_path)), OutOfMemory)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libopenvino.so: failed to map segment from shared object"),
        RuntimeError("Exception from src/inference/src/cpp/core.cpp:117:\ncan't alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("Exception from src/inference/src/dev/plugin.cpp:54:\nResource temporarily unavailable"),
        ValueError("(-4:Insufficient memory) Failed to allocate 100000000 bytes"),
    ],
)
def test_other_messages_about_memory(error):
    assert isinstance(user_error(error), OutOfMemory)


@pytest.mark.parametrize("act", ["safetensors", "file"])
def test_libraries_on_a_full_disk(act, disk):
    assert isinstance(user_error(refused(act, disk)), DiskFull)


def test_the_cause_of_an_error_is_reported(tmp_path):
    error = UserError("out.mp4 cannot be written")
    assert user_error(error) is error and user_error(ValueError("a bug")) is None
    error.__cause__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert isinstance(user_error(error), OutOfMemory)
    later = RuntimeError("while the first was handled")
    later.__context__ = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "out.mp4"))
    assert str(user_error(later)) == f"the disk of {tmp_path} is full: free some space, or write elsewhere"


def test_a_low_address_space_limit_is_reported_before_libraries_hang(tmp_path):
    resource = pytest.importorskip("resource")
    most = 400 << 20

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    ended = subprocess.run(
        [sys.executable, "-m", "liveportrait", "edit", "face.png", "--smile", "1", "-o", "out.png"],
        cwd=tmp_path, capture_output=True, text=True, preexec_fn=limited, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 2
    assert re.fullmatch(
        r"liveportrait: .*400 MB of addresses, and at least \d+ MB are needed\n", ended.stderr
    )
