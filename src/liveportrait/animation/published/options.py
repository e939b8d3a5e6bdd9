"""The published program's choices."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from liveportrait.animation.option_checks import PASTED, option_name
from liveportrait.animation.options import AnimateOptions
from liveportrait.choices import DrivingOption, ExpressionMode, Framing
from liveportrait.errors import UserError


@dataclass(frozen=True)
class PublishedOptions(AnimateOptions):
    """The options with the published program's defaults, and its ways where no option names them.

    They open portraits (`Animator.open`), drive them (`Portrait.drive`) and animate files. What is given beside them
    still counts.
    """

    as_published: ClassVar[bool] = True

    max_size: int | None = 1280
    """longest side of the result in px; sides are even"""
    crop_driving: bool = False
    """find the face in DRIVING and cut it out also where DRIVING is square; where it is not, that is always done"""
    reference: str = "first"
    """the frame of DRIVING that relative motion starts from: first, auto (the most neutral one), or its number"""
    framing: Framing = "follow"
    """follow, the portrait's head goes where DRIVING's goes in its frames, one window cut out of all; steady, what the
    camera does is left out"""
    expression: ExpressionMode = "landmarks"
    """landmarks, DRIVING's plain differences; faithful is for weights that bring a network for it"""
    driving_option: DrivingOption = "expression-friendly"
    """of an animal, which always moves by absolute motion, expression-friendly; people follow alike with both"""

    def __post_init__(self) -> None:
        """Raise `UserError` for what the published program cannot do; unstitched faces are not pasted back."""
        super().__post_init__()
        left, right, _ = self.retarget.wanted
        if left != right:
            raise UserError("as published both eyes open alike: give --eye-opening, or no --as-published")
        changed = [
            each.name
            for each in fields(self)
            if each.name in PASTED and getattr(self, each.name) != each.default
        ]
        if changed and not self.stitching:
            raise UserError(
                "as published only stitched faces are pasted back: leave out --no-stitching, or"
                f" --{option_name(changed[0])}"
            )
        object.__setattr__(self, "paste_back", self.paste_back and self.stitching)
