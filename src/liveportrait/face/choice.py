"""Which faces of a picture the user wants, and how a driver's face is framed. Cheap to import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from liveportrait.errors import UserError

SMALLEST_BOX = 8.0  # px
DRIVING_SCALE, DRIVING_Y = 2.2, -0.1  # of a driving video's window, see `crop.source_window`


class DrivingCrop(NamedTuple):
    """How a driver's face is framed, see `crop.source_window`."""

    scale: float = DRIVING_SCALE
    x: float = 0.0
    y: float = DRIVING_Y


DRIVING_CROP = DrivingCrop()


class Boxed(Protocol):
    """A person's or an animal's face, with its box x0, y0, x1, y1 px."""

    @property
    def box(self) -> tuple[float, float, float, float]: ...


AnyFace = TypeVar("AnyFace", bound=Boxed)


@dataclass(frozen=True)
class FaceChoice:
    """The faces that the user wants: the largest, all, or some of them, numbered from the left."""

    takes_all: bool = False
    numbers: tuple[int, ...] = ()  # from 1; if empty and not `takes_all`, the largest face

    @classmethod
    def parse(cls, text: str) -> FaceChoice:
        """Parse "largest", "all" or numbers such as "1,3". Raises `UserError` for anything else."""
        if text in ("largest", "all"):
            return cls(takes_all=text == "all")
        numbers = parse_numbers(text, "faces", "largest, all, or numbers from the left such as 1,3")
        if 0 in numbers:
            raise UserError("faces are counted from 1: 1 is the leftmost one")
        if len(set(numbers)) < len(numbers):
            raise UserError(f"faces names a face twice in {text!r}: name each once")
        return cls(numbers=numbers)

    def of(self, faces: Sequence[AnyFace], place: str) -> list[AnyFace]:
        """Pick the chosen faces of a picture from `faces`, which come largest first; `place` names the picture.

        "all" gives them from left to right, numbers in the order given. Raises `UserError` for a number that does not
        exist.
        """
        if not self.takes_all and not self.numbers:
            return list(faces[:1])
        row = sorted(faces, key=lambda face: face.box[0] + face.box[2])
        if self.takes_all:
            return row
        for number in self.numbers:
            if number > len(row):
                there = "1 face" if len(row) == 1 else f"{len(row)} faces"
                raise UserError(
                    f"faces names face {number}, but {place} shows {there}: choose from 1 to {len(row)}"
                )
        return [row[number - 1] for number in self.numbers]


def parse_numbers(text: str, name: str, expected: str) -> tuple[int, ...]:
    """Whole numbers from a list such as "1,3". Raises `UserError`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(f"{name} is {text!r}: give {expected}")
    return tuple(int(part) for part in parts)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """x, y, width, height in px from a text such as "120,80,200,220". Raises `UserError`."""
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"box is {text!r}: give x,y,w,h in px of SOURCE, such as 120,80,200,220") from None
    if not all(math.isfinite(value) for value in (x, y, width, height)) or min(x, y) < 0:
        raise UserError(f"box is {text!r}: x and y start at 0, the upper left corner of SOURCE")
    if min(width, height) < SMALLEST_BOX:
        raise UserError(
            f"box is {text!r}, {width:g}x{height:g} px: a face of at least {SMALLEST_BOX:g} px is needed"
        )
    return x, y, width, height
