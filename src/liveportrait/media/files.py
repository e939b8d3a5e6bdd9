"""Checks of input and output paths, and output files that get their final name only once they are complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from liveportrait.errors import UserError
from liveportrait.folders import check_new_folder, unfinished_beside


def check_input(path: Path | str) -> Path:
    """The path, if it names a non-empty file that can be opened; otherwise UserError."""
    path = _named(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file inside it")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path} is not a regular file: save it to disk first")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from error
    if empty:
        raise UserError(f"{path} is empty: copy or download it again")
    return path


def check_output(path: Path | str, suffixes: Collection[str] = (), overwrite: bool = False) -> Path:
    """The path, if a file can be written there; otherwise UserError. Nothing is changed on disk.

    `suffixes` are the allowed ones, in lower case with their dot; if empty, any is allowed. Call it before long work
    starts, so that a mistake shows at once.
    """
    path = _named(path)
    if suffixes and path.suffix.lower() not in suffixes:
        named = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise UserError(f"{path} {named}: choose one of {' '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file to write inside it")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder: create it, or write {path.name} elsewhere")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already: choose another name or ask to overwrite it")
    try:
        folder = path.resolve(strict=path.is_symlink()).parent  # for a link, its target's
    except (OSError, RuntimeError) as error:  # a link that points to itself: OSError from Python 3.13 on
        raise UserError(f"{path} is a link that leads nowhere: remove it, or choose another name") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written to: choose another folder")
    return path


def _named(path: Path | str) -> Path:
    """The path, if the file system accepts its name; otherwise UserError."""
    path = Path(path)
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            shown = ascii(str(path))
            shown = f"{shown[:80]}…" if len(shown) > 80 else shown
            raise UserError(f"no file can be named {shown}: choose a shorter, plain name") from error
    return path


@contextmanager
def output_folder(path: Path | str) -> Iterator[Path]:
    """A hidden temporary folder next to `path`, to be filled inside the `with` block.

    On a clean exit it gets its final name in one step; on any exception it is removed with its contents. Raises
    UserError like `check_new_folder`, at the start and again at the end.
    """
    path = check_new_folder(path)
    with unfinished_beside(path) as temporary:
        temporary.mkdir()
        yield temporary
        check_new_folder(path)
        temporary.replace(path)


@contextmanager
def output_file(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """A hidden temporary path next to `path`, with the same suffix, to write to inside the `with` block.

    On a clean exit the file gets its final name in one step; on any exception, KeyboardInterrupt included, it is
    removed. If `path` is a link, its target is replaced. Raises UserError like `check_output`, at the start and again
    at the end.
    """
    path = check_output(path, overwrite=overwrite)
    target = path.resolve() if path.is_symlink() else path
    with unfinished_beside(target, path.suffix) as temporary:
        yield temporary
        check_output(path, overwrite=overwrite)
        temporary.replace(target)


class OutputGroup(ExitStack):
    """Outputs that get their final names together, on a clean exit, when all of them are complete."""

    def __init__(self, finish: Callable[[Path, Path], None] | None = None) -> None:
        """`finish` is called for each complete file with its temporary and its final path, before any is renamed."""
        super().__init__()
        self._finish = finish
        self._files: list[tuple[Path, Path]] = []

    def add(self, path: Path, overwrite: bool = False) -> Path:
        """Add a file to the group; returns the temporary path to write to, see `output_file`."""
        temporary = self.enter_context(output_file(path, overwrite))
        self._files.append((temporary, path))
        return temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.push(self._finish_all)  # pushed last, so it runs first
        return super().__exit__(kind, error, trace)

    def _finish_all(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._finish is not None:
            for temporary, path in self._files:
                self._finish(temporary, path)
