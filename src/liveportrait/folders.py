"""Files and folders of the user: the cache, new ones for results, what is being written. Every room may import this.

What is being written has a hidden name, and beside it lies an empty file that its process holds locked. The system
lets go of a lock however a process ends. So whoever next writes into a folder knows which unfinished files nobody
writes any more, and removes them. The lock's name tells the machine: what another one left is removed once it is a day
old, for file systems differ in whether locks reach across machines.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path

from liveportrait.errors import UserError, refusal

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HIDDEN = ".liveportrait-"  # how the names of unfinished files and folders begin
LOCK = ".lock"
FORGOTTEN_S = 24 * 3600.0  # after which what another machine left counts as left
_NAME = re.compile(rf"{re.escape(HIDDEN)}([0-9a-f]{{12}})(?![0-9a-f])")
_UNFINISHED: set[Path] = set()  # files and folders that are being written, under hidden names
_SWEPT: set[Path] = set()  # folders that this process has swept


def user_cache(variable: str, name: str) -> Path:
    """The folder that an environment variable names, or liveportrait/`name` in the user's cache."""
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user_cache).expanduser() / "liveportrait" / name


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    """A hidden name beside one of `unfinished_beside`, which begins as it does; nothing is left under it either."""
    _UNFINISHED.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _UNFINISHED.discard(path)


@contextmanager
def unfinished_beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """The hidden name under which the file or folder `path` is written until it is complete.

    However the block ends, nothing is left under it. Nor is anything left where the block cannot end, if
    `remove_unfinished` is called in time; and what a killed process leaves, the next one that writes into the folder
    removes. Raises UserError, in the block too, where the disk is full or takes nothing.
    """
    if path.parent not in _SWEPT:
        sweep_unfinished(path.parent)
        _SWEPT.add(path.parent)
    try:
        with _held(path.parent) as name, unfinished(path.with_name(f"{name}{suffix}")) as hidden:
            yield hidden
    except Exception as error:
        folder = path.parent.parent if path.parent.name.startswith(HIDDEN) else path.parent
        if isinstance(error, UserError) or not (refused := refusal(error, folder)):
            raise
        raise refused from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for nobody else to look into, below the system's for temporary files; it goes as unfinished ones do."""
    with unfinished_beside(Path(tempfile.gettempdir()) / "folder") as folder:
        folder.mkdir(mode=0o700)
        yield folder


def put_in_place(fresh: Path, folder: Path) -> None:
    """Give a complete folder, made by `unfinished_beside`, its name, in place of one that may be there.

    That one is removed afterwards; where the new one cannot take its place, it stays.
    """
    with unfinished(fresh.with_name(f"{fresh.name}-old")) as old:
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise


def sweep_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder. What is being written there stays."""
    left: dict[str, list[Path]] = {}
    with suppress(OSError):
        for path in folder.iterdir():
            if named := _NAME.match(path.name):
                left.setdefault(named[1], []).append(path)
    for paths in left.values():
        with suppress(OSError), _abandoned(paths) as lock:
            for path in paths:
                if path != lock:
                    _remove(path)


def remove_unfinished() -> None:
    """Remove at once everything that is being written, whichever thread is at it; its writing may fail then."""
    for path in sorted(_UNFINISHED, key=lambda path: path.name.endswith(LOCK)):
        _remove(path)


@cache
def _machine() -> tuple[str, str]:
    """This machine, and this running of its system; containers of one machine share the latter, not their names."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = socket.gethostname()
    return _short(socket.gethostname()), _short(boot)


def _short(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


@contextmanager
def _held(folder: Path) -> Iterator[str]:
    """How a hidden name in a folder begins, while its lock is held."""
    while True:
        name = f"{HIDDEN}{secrets.token_hex(6)}"
        lock = folder / f"{name}.{'-'.join(_machine())}{LOCK}"
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _UNFINISHED.add(lock)
        try:
            _lock(file, wait=True)
            if os.fstat(file).st_nlink:  # nobody has swept it between its making and its locking
                yield name
                return
        finally:
            _remove(lock)
            _UNFINISHED.discard(lock)
            os.close(file)


@contextmanager
def _abandoned(paths: list[Path]) -> Iterator[Path | None]:
    """A block in which nobody writes these files of one name any more; gives their lock, removed at its end.

    Raises OSError where somebody does, or nothing is known about it.
    """
    lock = next((path for path in paths if path.name.endswith(LOCK)), None)
    here = lock is not None and any(
        map(_machine().__contains__, re.findall("[0-9a-f]{8}(?=[-.])", lock.name))
    )
    if not (here and fcntl) and time.time() - max(map(_changed, paths)) < FORGOTTEN_S:
        raise BlockingIOError
    if lock is None:
        yield None
        return
    file = os.open(lock, os.O_RDWR)
    try:
        _lock(file, wait=False)
        yield lock
        lock.unlink()
    finally:
        os.close(file)


def _changed(path: Path) -> float:
    """When a file was written to last, or a file in a folder, s since 1970."""
    return max(each.stat().st_mtime for each in (path, *(path.iterdir() if path.is_dir() else ())))


def _lock(file: int, wait: bool) -> None:
    if fcntl:
        # A file system without locks has nobody who could ask for one either.
        with suppress(OSError) if wait else nullcontext():
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove(path: Path) -> None:
    with suppress(OSError):  # some systems do not remove a file that is open: the block's end does
        if path.is_dir() and not path.is_symlink():
            # A thread that still writes into the folder does not find it under another name.
            moved = path.with_name(f"{path.name}-")
            path.rename(moved)
            shutil.rmtree(moved, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
