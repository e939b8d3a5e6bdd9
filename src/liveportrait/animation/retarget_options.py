"""What a user can choose about the opening of eyes and lips."""

from __future__ import annotations

import math
from dataclasses import dataclass

from liveportrait.choices import WIDEST_OPENING, Opening
from liveportrait.errors import UserError

_OPENINGS = ("eye_opening", "left_eye_opening", "right_eye_opening", "lip_opening")


@dataclass(frozen=True)
class RetargetOptions:
    """How far eyes and lips open (height over width in the picture); None leaves them to the driver's motion."""

    eye_opening: Opening = None
    """opening of both eyes, 0 (closed) to 0.8, about 0.35 when open; driver: the same as in DRIVING"""
    left_eye_opening: Opening = None
    """the same for the eye on the left of the picture alone"""
    right_eye_opening: Opening = None
    """the same for the eye on the right of the picture alone"""
    lip_opening: Opening = None
    """opening of the lips, 0 (closed) to 0.8; driver: the same as in DRIVING"""
    normalize_lips: bool = False
    """relative motion: start from closed lips where SOURCE has them open"""

    def __post_init__(self) -> None:
        """Raise `UserError` for values out of range."""
        for name in _OPENINGS:
            value = getattr(self, name)
            if value is None or value == "driver":
                continue
            if isinstance(value, str) or not (math.isfinite(value) and 0 <= value <= WIDEST_OPENING):
                raise UserError(
                    f"{name.replace('_', '-')} is {value}: choose a number from 0 to {WIDEST_OPENING:g}, or driver"
                )

    @property
    def wanted(self) -> tuple[Opening, Opening, Opening]:
        """What is asked for the left eye, the right eye and the lips."""
        left, right = self.left_eye_opening, self.right_eye_opening
        return (
            self.eye_opening if left is None else left,
            self.eye_opening if right is None else right,
            self.lip_opening,
        )

    @property
    def changes(self) -> bool:
        """Whether anything is asked for."""
        return self.normalize_lips or any(opening is not None for opening in self.wanted)
