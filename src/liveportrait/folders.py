"""Folders of the user: the cache, new ones for results, and what is being written. Every room may import this."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from liveportrait.errors import UserError

HIDDEN = ".liveportrait-"  # how the names of unfinished files and folders begin
_UNFINISHED: set[Path] = set()  # files and folders that are being written, under hidden names


def user_cache(variable: str, name: str) -> Path:
    """The folder that an environment variable names, or liveportrait/`name` in the user's cache."""
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user_cache).expanduser() / "liveportrait" / name


def check_new_folder(path: Path | str, may_be_empty: bool = False) -> Path:
    """The path, if a folder may be made there; otherwise UserError. Nothing is touched.

    A folder that is there is never replaced, whatever is in it; with `may_be_empty` one without anything in it will do.
    """
    path = Path(path)
    if path.exists() and not (may_be_empty and path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already: name a new folder, or remove that one")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder: create it, or write {path.name} elsewhere")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path.parent} cannot be written to: choose another folder")
    return path


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """The hidden name of a file or folder while it is written: however the block ends, nothing is left under it.

    Nor is anything left where the block cannot end, if `remove_unfinished` is called in time.
    """
    _UNFINISHED.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _UNFINISHED.discard(path)


def unfinished_beside(path: Path, suffix: str = "") -> AbstractContextManager[Path]:
    """The hidden name under which the file or folder `path` is written until it is complete, see `unfinished`."""
    return unfinished(path.with_name(f"{HIDDEN}{secrets.token_hex(6)}{suffix}"))


def sweep_unfinished(folder: Path) -> None:
    """Remove what a program that was killed left unfinished in a folder. Nobody may be writing there."""
    for path in folder.glob(f"{HIDDEN}*"):
        _remove(path)


def remove_unfinished() -> None:
    """Remove at once everything that is being written, whichever thread is at it; its writing may fail then."""
    for path in tuple(_UNFINISHED):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # some systems do not remove a file that is open: the block's end does
        if path.is_dir() and not path.is_symlink():
            # A thread that still writes into the folder does not find it under another name.
            moved = path.with_name(f"{path.name}-")
            path.rename(moved)
            shutil.rmtree(moved, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
