"""Which files are to be prepared, and a short name for each file's content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from liveportrait.errors import UserError

LIST_SUFFIX = ".txt"
SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class Input:
    """One file to prepare."""

    path: Path
    name: str  # for people: relative to the folder that the user named


def find_inputs(named: Iterable[Path]) -> list[Input]:
    """The files that the user's paths stand for, each once, in order of their paths.

    A folder stands for every file in it, subfolders included, but hidden ones; a .txt file for the paths in it,
    one a line (relative ones start at the list's folder; empty lines and lines that begin with # say nothing).
    Raises UserError where a path does not exist or a folder or list names no file.
    """
    found: dict[Path, Input] = {}
    for path in named:
        for entry in _expanded(path):
            found.setdefault(Path(os.path.abspath(entry.path)), entry)
    return [found[path] for path in sorted(found)]


def fingerprint(path: Path) -> str:
    """16 hex digits that stand for a file's content: SHA-256 of its size and of the first, middle and last MiB.

    Raises OSError where the file cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in sorted({0, max(size // 2 - SAMPLED_BYTES // 2, 0), max(size - SAMPLED_BYTES, 0)}):
            file.seek(start)
            digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def _expanded(path: Path) -> Iterator[Input]:
    if path.is_dir():
        yield from _of_folder(path)
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    elif path.suffix.lower() == LIST_SUFFIX:
        yield from _of_list(path)
    else:
        yield Input(path, path.name)


def _of_folder(folder: Path) -> Iterator[Input]:
    count = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                count += 1
                file = Path(place, name)
                yield Input(file, str(file.relative_to(folder)))
    if not count:
        raise UserError(f"{folder} is an empty folder: name one that holds videos or pictures")


def _of_list(path: Path) -> Iterator[Input]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of paths ({error}): save it as UTF-8 text"
        ) from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise UserError(f"{path} lists no path: write one video or picture a line")
    # A listed file that is missing is dropped and reported like any other that cannot be read.
    for line in entries:
        entry = path.parent / line
        if entry.is_dir():
            yield from _of_folder(entry)
        else:
            yield Input(entry, line)
