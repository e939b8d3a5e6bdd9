"""The user's files and folders: the cache, output folders, unfinished files. Any package may import this one.

A file has a hidden name while it is being written, next to an empty file that its process keeps locked. The system
releases the lock however the process ends, so whoever writes into the folder next can tell which unfinished files are
abandoned, and removes them. The lock's name says which machine it belongs to: files of another machine are removed once
they are a day old, since not all file systems share locks between machines.
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
STALE_AFTER_S = 24 * 3600.0  # age at which unfinished files of another machine count as abandoned
_NAME = re.compile(rf"{re.escape(HIDDEN)}([0-9a-f]{{12}})(?![0-9a-f])")
_UNFINISHED: set[Path] = set()  # files and folders that are being written, under hidden names
_SWEPT: set[Path] = set()  # folders that this process has swept


def user_cache(variable: str, name: str) -> Path:
    """The folder named by an environment variable, or liveportrait/`name` in the user's cache."""
    if folder := os.environ.get(variable):
        return Path(folder).expanduser()
    user_cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user_cache).expanduser() / "liveportrait" / name


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_new_folder(path: Path | str, may_be_empty: bool = False) -> Path:
    """The path, if a folder can be created there; otherwise raises UserError. Nothing is touched.

    An existing folder is never replaced; with `may_be_empty` an empty one is accepted.
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
    """Register a hidden path derived from one of `unfinished_beside`; it is removed at the end of the block too."""
    _UNFINISHED.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _UNFINISHED.discard(path)


@contextmanager
def unfinished_beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """The hidden path next to `path` under which the file or folder is written until it is complete.

    Nothing remains there after the block, however it ends. If the block cannot end, `remove_unfinished` cleans up; the
    files of a killed process are removed by the next one that writes into the folder. Raises UserError, inside the
    block too, if the disk is full or cannot be written to.
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
    """A private folder in the system's temporary folder, removed like unfinished files."""
    with unfinished_beside(Path(tempfile.gettempdir()) / "folder") as folder:
        folder.mkdir(mode=0o700)
        yield folder


def replace_folder(fresh: Path, folder: Path) -> None:
    """Rename a complete folder, written at a path of `unfinished_beside`, to `folder`, replacing any folder there.

    The old folder is removed afterwards; it is put back if the new one cannot be renamed.
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
    """Remove the unfinished files that killed processes left in a folder, but none that are still being written."""
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
    """Remove at once all files this process is still writing, whichever thread writes them; their writers may fail."""
    for path in sorted(_UNFINISHED, key=lambda path: path.name.endswith(LOCK)):
        _remove(path)


@cache
def _machine() -> tuple[str, str]:
    """This machine's name and its current boot; containers on one machine share the boot but not the name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = socket.gethostname()
    return _short(socket.gethostname()), _short(boot)


def _short(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


@contextmanager
def _held(folder: Path) -> Iterator[str]:
    """A prefix for hidden names in a folder, whose lock is held during the block."""
    while True:
        name = f"{HIDDEN}{secrets.token_hex(6)}"
        lock = folder / f"{name}.{'-'.join(_machine())}{LOCK}"
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        _UNFINISHED.add(lock)
        try:
            _lock(file, wait=True)
            if os.fstat(file).st_nlink:  # not swept between being created and being locked
                yield name
                return
        finally:
            _remove(lock)
            _UNFINISHED.discard(lock)
            os.close(file)


@contextmanager
def _abandoned(paths: list[Path]) -> Iterator[Path | None]:
    """A block in which these files, which share a prefix, are abandoned; gives their lock, removed at its end.

    Raises OSError if they are still being written, or may be.
    """
    lock = next((path for path in paths if path.name.endswith(LOCK)), None)
    here = lock is not None and any(
        map(_machine().__contains__, re.findall("[0-9a-f]{8}(?=[-.])", lock.name))
    )
    if not (here and fcntl) and time.time() - max(map(_changed, paths)) < STALE_AFTER_S:
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
    """When a file, or the newest file in a folder, was last written, s since 1970."""
    return max(each.stat().st_mtime for each in (path, *(path.iterdir() if path.is_dir() else ())))


def _lock(file: int, wait: bool) -> None:
    if fcntl:
        # On a file system without locks, no other process can hold one either.
        with suppress(OSError) if wait else nullcontext():
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove(path: Path) -> None:
    with suppress(OSError):  # some systems do not remove an open file: the end of its block will
        if path.is_dir() and not path.is_symlink():
            # Renamed first, so that a thread still writing into the folder no longer finds it.
            moved = path.with_name(f"{path.name}-")
            path.rename(moved)
            shutil.rmtree(moved, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
