"""A text read aloud by a speech engine of this machine: espeak-ng, or piper with the user's voice."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liveportrait.errors import UserError
from liveportrait.media import check_input

LONGEST = 100_000  # characters
SECONDS = 600  # after which an engine is given up


@contextmanager
def spoken(text: str, voice: str = "") -> Iterator[Path]:
    """A WAV file in which `text` is read, which is gone after the block.

    `voice`: a voice of espeak-ng by name, or the .onnx file of a voice of piper-tts. Raises `UserError` where there is
    nothing to read, or no engine to read it.
    """
    if not text.strip():
        raise UserError("the text is empty: say what to say")
    if len(text) > LONGEST:
        raise UserError(f"the text has {len(text)} characters: give at most {LONGEST}")
    with tempfile.TemporaryDirectory(prefix="liveportrait-") as folder:
        path = Path(folder) / "speech.wav"
        command = _piper(Path(voice), path) if voice.endswith(".onnx") else _espeak(voice, path)
        try:
            done = subprocess.run(
                command, input=text.encode(), capture_output=True, timeout=SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{command[0]} does not read the text: {error}") from error
        if done.returncode or not path.is_file():
            told = done.stderr.decode(errors="replace").strip().splitlines()
            raise UserError(
                f"{Path(command[0]).name} cannot read the text: {told[-1] if told else 'no reason given'}"
            )
        yield path


def espeak() -> str:
    """The program of this machine that reads texts without a voice file. Raises `UserError` where there is none."""
    program = shutil.which("espeak-ng") or shutil.which("espeak")
    if program is None:
        raise UserError(
            "no speech engine was found to read a text: install espeak-ng, or 'liveportrait[text]' and name a voice"
            " file of piper as the voice; or give a recording"
        )
    return program


def _espeak(voice: str, out: Path) -> list[str]:
    return [espeak(), "--stdin", "-b", "1", "-w", str(out), *(["-v", voice] if voice else [])]


def _piper(voice: Path, out: Path) -> list[str]:
    if importlib.util.find_spec("piper") is None:
        raise UserError(f"{voice} is a voice of piper, which is missing: pip install 'liveportrait[text]'")
    check_input(voice)
    return [sys.executable, "-m", "piper", "--model", str(voice.absolute()), "--output_file", str(out)]
