"""Text to speech with an engine on this machine: espeak-ng, or piper with the user's voice."""

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

MAX_CHARACTERS = 100_000
TIMEOUT_S = 600  # for the engine to finish


@contextmanager
def synthesized_speech(text: str, voice: str = "") -> Iterator[Path]:
    """A temporary WAV file with `text` read aloud, deleted after the `with` block.

    `voice` is the name of an espeak-ng voice, or the .onnx file of a piper-tts voice. Raises `UserError` if the text is
    empty or too long, or no engine can read it.
    """
    if not text.strip():
        raise UserError("the text is empty: give some words to say")
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"the text has {len(text)} characters: give at most {MAX_CHARACTERS}")
    with tempfile.TemporaryDirectory(prefix="liveportrait-") as folder:
        path = Path(folder) / "speech.wav"
        command = _piper(Path(voice), path) if voice.endswith(".onnx") else _espeak(voice, path)
        try:
            done = subprocess.run(
                command, input=text.encode(), capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{command[0]} does not read the text: {error}") from error
        if done.returncode or not path.is_file():
            messages = done.stderr.decode(errors="replace").strip().splitlines()
            raise UserError(
                f"{Path(command[0]).name} cannot read the text: {messages[-1] if messages else 'no reason given'}"
            )
        yield path


def espeak() -> str:
    """The path of the espeak program, which needs no voice file. Raises `UserError` if it is not installed."""
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
