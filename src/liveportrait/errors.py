"""Errors that a user can act on. Front ends print them as one sentence and exit with status 2."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How PyTorch, OpenCV, OpenVINO and Python say that memory ran out, where the type of their error does not.
_NO_MEMORY = (
    "can't alloc",
    "Cannot allocate memory",
    "Insufficient memory",
    "std::bad_alloc",
    "bad allocation",
    "can't start new thread",
    "failed to map segment from shared object",
    "CUDA out of memory",
    "Resource temporarily unavailable",  # where no thread can be started
)
# How safetensors and SQLite say that the disk is full, and what cannot be written to.
_NO_ROOM = ("No space left on device", "os error 28", "database or disk is full", "Disk quota exceeded")
_NO_WRITING = ("Read-only file system", "os error 30", "attempt to write a readonly database")


class UserError(Exception):
    """Something in the input is wrong. The message names the value, the place and the remedy."""

    status = 2
    """the command line's exit status"""


class NoMemory(UserError):
    """There is too little memory."""


class NoRoom(UserError):
    """A disk is full."""


@contextmanager
def typed_errors() -> Iterator[None]:
    """A block whose errors are `UserError`s wherever `user_error` knows one for them."""
    try:
        yield
    except Exception as error:
        if (told := user_error(error)) is None or told is error:
            raise
        raise told from error


def user_error(error: Exception) -> UserError | None:
    """What a user should be told of an error: it itself, or what led to it if that is a lack of memory or of room.

    None where nobody foresaw it.
    """
    chain = list(_chain(error))
    if any(map(_is_lack_of_memory, chain)):
        return NoMemory(
            "there is too little memory: choose a smaller --max-size, close other programs, "
            "or take a machine that has more"
        )
    if isinstance(error, UserError):
        return error
    return refusal(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_lack_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: each library says so in a way of its own."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    code = getattr(error, "errno", None)
    if isinstance(error, OSError):
        return code == errno.ENOMEM
    return named or any(word in str(error) for word in _NO_MEMORY)


def refusal(error: BaseException, folder: Path | None = None) -> UserError | None:
    """What a user should be told where the system refused to open or write a file; `folder` is where it is written."""
    return next(filter(None, (_refusal(each, folder) for each in _chain(error))), None)


def _refusal(error: BaseException, folder: Path | None) -> UserError | None:
    code, text = getattr(error, "errno", None), str(error)
    file = getattr(error, "filename", None)
    place = folder or (Path(str(file)).parent if file else "what was written to")
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)) or any(
        word in text for word in _NO_ROOM
    ):
        return NoRoom(f"the disk of {place} is full: make room there, or write elsewhere")
    if code == errno.EROFS or any(word in text for word in _NO_WRITING):
        return UserError(f"{place} is read-only: choose another folder")
    if code in (errno.EACCES, errno.EPERM) and file:
        return UserError(f"{file} must not be opened: change its permissions, or name another one")
    return None
