"""Broken and malicious files: every reader reads or refuses each of them, in one sentence and within limits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import av
import hostile_corpus
import pytest
from hostile_pictures import chunk, png
from hostile_roles import MEMORY
from media_samples import make_video

from liveportrait import UserError
from liveportrait.apps.cli import main
from liveportrait.media import VideoReader, load_image, media_kind

WORST_S = 10.0  # s of CPU time for one reading; the slowest takes less than 2 s
WORST_MIB = 1500


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """The corpus, how each reading ended, and whether the address in its playlists was contacted."""
    folder = tmp_path_factory.mktemp("hostile")
    scratch = folder / "beside"
    scratch.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        count = hostile_corpus.write(folder / "corpus", scratch, listener.getsockname()[1])
        command = [sys.executable, str(Path(__file__).with_name("hostile_roles.py"))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}
        ended = subprocess.run(
            [*command, str(folder / "corpus"), str(folder / "report")],
            env=environment, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        listener.setblocking(False)
        try:
            asked = listener.accept() is not None
        except BlockingIOError:
            asked = False
    lines = [json.loads(line) for line in (folder / "report").read_text().splitlines()]
    assert ended.returncode == 0, (lines[-1], ended.stderr[-2000:])
    return count, lines, scratch, asked


def test_every_file_ends_in_output_or_one_sentence(readings):
    count, lines, _, _ = readings
    assert count >= 200
    faults = [line for line in lines if line["end"] == "fault"]
    assert not faults, faults[:5]
    begun = sum(line["end"] == "begun" for line in lines)
    assert begun == sum(line["end"] in ("output", "refused") for line in lines) >= 10 * count
    for line in lines:
        if line["end"] == "refused" and line["role"] != "manifest":  # its message lists every invalid row
            assert "\n" not in line["message"].replace(line["file"], ""), line
            assert "Traceback" not in line["message"], line


def test_no_file_takes_long_or_much_memory(readings):
    _, lines, _, _ = readings
    assert max(line.get("seconds", 0.0) for line in lines) < WORST_S
    assert max(line.get("mib", 0) for line in lines) < WORST_MIB < MEMORY / 2**20


def test_no_code_runs_and_no_file_is_left(readings):
    _, lines, scratch, _ = readings
    assert lines[-1] == {"file": "", "role": "", "end": "left", "message": []}
    # PyTorch's
    left = {path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor_")}
    assert left == {"secret.ts"}  # no mark of code, no temporary file


def test_playlists_are_not_followed(readings, tmp_path):
    _, lines, _, asked = readings
    media = ("media", "sound", "upload")
    lists = [line for line in lines if line["file"].startswith("3-") and line["role"] in media]
    lists = [line for line in lists if line["end"] != "begun"]
    assert len(lists) > 100 and all(line["end"] == "refused" for line in lists)
    assert not asked
    # Why the allow-list is needed: FFmpeg alone follows such a file.
    make_video(tmp_path / "named.ts", 8)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile named.ts\n")
    with av.open(str(playlist)) as container:
        assert container.streams.video
    with pytest.raises(UserError, match="cannot be read as a video"):
        media_kind(playlist)


def test_limits_are_options(tmp_path, monkeypatch, capsys):
    film, photo = make_video(tmp_path / "film.mp4", 4), tmp_path / "photo.png"
    photo.write_bytes(png(2000, 2000, chunk(b"IDAT", b"")))
    monkeypatch.setenv("LIVEPORTRAIT_MAX_FRAMES", "3")
    with pytest.raises(UserError, match=r"has 4 frames or more.*--max-frames"):
        VideoReader(film)
    monkeypatch.setenv("LIVEPORTRAIT_MAX_PIXELS", "1000")
    with pytest.raises(UserError, match=r"too many pixels, 96x64.*--max-pixels"):
        VideoReader(film)
    out = str(tmp_path / "out.png")
    assert main(["edit", str(photo), "--max-pixels", "3999999", "-o", out]) == 2
    assert "too many pixels, 2000x2000" in capsys.readouterr().err
    monkeypatch.setenv("LIVEPORTRAIT_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="whole number above 0"):
        load_image(photo)
    assert main(["edit", str(photo), "--max-pixels", "0", "-o", out]) == 2
