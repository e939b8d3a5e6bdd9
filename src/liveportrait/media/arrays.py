"""Pictures from Python code in place of a video: they can be iterated as often as needed."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from liveportrait.errors import UserError
from liveportrait.media.probe import VideoInfo
from liveportrait.types import Image

DEFAULT_FPS = Fraction(25)


class FrameArrays:
    """Pictures (H,W,3) uint8 RGB of one size with a frame rate, in place of a video file.

    `pictures` is a sequence of arrays, an array (N,H,W,3), or an iterator. An iterator, which can be read only once, is
    stored in a temporary file, so memory does not grow with its length. Raises `UserError` if there is no picture, or
    if one has another type or size than the first.

    >>> portrait.drive(FrameArrays(frames, fps=30))
    """

    audio = None  # no sound comes with arrays

    def __init__(
        self,
        pictures: Iterable[Image],
        fps: Fraction | float | None = None,
        name: str = "the frames given",
    ) -> None:
        """`fps` None means the rate of the video they are used with, or 25. `name` is used in error messages."""
        self._has_rate = fps is not None
        fps = DEFAULT_FPS if fps is None else fps
        if not fps > 0:
            raise UserError(f"the rate of {name} is {fps} frames/s: give a positive number")
        self.name = name
        self._pictures: NDArray[np.uint8] | Sequence[Image] | _Spool
        if isinstance(pictures, np.ndarray | Sequence):
            for number, picture in enumerate(pictures):
                check_picture(picture, f"frame {number} of {name}", pictures[0])
            self._pictures = pictures
        else:
            self._pictures = _Spool(pictures, name)
        if len(self._pictures) == 0:
            raise UserError(f"{name} are empty: give at least one picture")
        height, width = self._pictures[0].shape[:2]
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(100_000)
        self.info = VideoInfo(width, height, rate, len(self._pictures), False, False)

    def at(self, fps: Fraction) -> FrameArrays:
        """The same pictures at this rate, unless they were given one."""
        if self._has_rate:
            return self
        paced = copy(self)
        paced.info = replace(self.info, fps=fps)
        return paced

    def __iter__(self) -> Generator[Image, None, None]:
        yield from self._pictures


class _Spool:
    """The pictures of an iterator in a temporary file, deleted together with this object."""

    def __init__(self, pictures: Iterable[Image], name: str) -> None:
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as this object
        first: Image | None = None
        for picture in pictures:
            first = picture if first is None else first
            check_picture(picture, f"frame {self._count} of {name}", first)
            self._file.write(np.ascontiguousarray(picture).data)
            self._count += 1
        if first is not None:
            self._shape = first.shape
        self._file.flush()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Image:
        if not 0 <= number < self._count:
            raise IndexError(number)
        # A separate mapping for each picture: several iterations may run at the same time.
        mapped = np.memmap(
            self._file, np.uint8, "r", offset=number * int(np.prod(self._shape)), shape=self._shape
        )
        return np.array(mapped)

    def __iter__(self) -> Iterator[Image]:
        return (self[number] for number in range(self._count))


def check_picture(picture: object, name: str, like: Image | None = None) -> None:
    """Raise `UserError` if `picture` is not an (H,W,3) uint8 array, or differs in size from `like`."""
    if not isinstance(picture, np.ndarray):
        raise UserError(f"{name} is of type {type(picture).__name__}: give (H,W,3) uint8 RGB arrays")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        shape = "x".join(map(str, picture.shape))
        raise UserError(f"{name} is {picture.dtype} {shape}: give (H,W,3) uint8 RGB arrays")
    if like is not None and picture.shape != like.shape:
        sizes = [f"{each.shape[1]}x{each.shape[0]}" for each in (picture, like)]
        raise UserError(f"{name} is {sizes[0]} px, but the first is {sizes[1]}: give frames of one size")
