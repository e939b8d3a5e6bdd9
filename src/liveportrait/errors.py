"""Errors that a user can act on. Front ends print them as one sentence and exit with status 2."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How PyTorch, OpenCV, OpenVINO and Python say that memory ran out, if the type of their error does not.
_NO_MEMORY = (
    "can't alloc",
    "Cannot allocate memory",
    "Insufficient memory",
    "std::bad_alloc",
    "bad allocation",
    "can't start new thread",
    "failed to map segment from shared object",
    "CUDA out of memory",
    "Resource temporarily unavailable",  # no thread could be started
)
# How safetensors and SQLite say that the disk is full or read-only.
_NO_ROOM = ("No space left on device", "os error 28", "database or disk is full", "Disk quota exceeded")
_NO_WRITING = ("Read-only file system", "os error 30", "attempt to write a readonly database")


class UserError(Exception):
    """Something in the input is wrong. The message names the value, the place and the remedy."""

    status = 2
    """the command line's exit status"""


class OutOfMemory(UserError):
    """Memory ran out."""


class DiskFull(UserError):
    """A disk is full."""


@contextmanager
def typed_errors() -> Iterator[None]:
    """Turn the errors of a block into the `UserError` that `user_error` gives for them, if any."""
    try:
        yield
    except Exception as error:
        if (known := user_error(error)) is None or known is error:
            raise
        raise known from error


def user_error(error: Exception) -> UserError | None:
    """The error to show a user: the error itself, or its cause if memory or disk space ran out.

    None for an error that was not foreseen.
    """
    chain = list(_chain(error))
    if any(map(_is_lack_of_memory, chain)):
        return OutOfMemory(
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
    """Whether memory ran out: each library reports it differently."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    code = getattr(error, "errno", None)
    if isinstance(error, OSError):
        return code == errno.ENOMEM
    return named or any(word in str(error) for word in _NO_MEMORY)


def refusal(error: BaseException, folder: Path | None = None) -> UserError | None:
    """The error to show if the system refused to open or write a file; `folder` is where it is written."""
    return next(filter(None, (_refusal(each, folder) for each in _chain(error))), None)


def _refusal(error: BaseException, folder: Path | None) -> UserError | None:
    code, text = getattr(error, "errno", None), str(error)
    file = getattr(error, "filename", None)
    place = folder or (Path(str(file)).parent if file else "the output")
    if code in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)) or any(
        word in text for word in _NO_ROOM
    ):
        return DiskFull(f"the disk of {place} is full: free some space, or write elsewhere")
    if code == errno.EROFS or any(word in text for word in _NO_WRITING):
        return UserError(f"{place} is read-only: choose another folder")
    if code in (errno.EACCES, errno.EPERM) and file:
        return UserError(f"no permission to open {file}: change its permissions, or name another file")
    return None
