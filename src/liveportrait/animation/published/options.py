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

    They open portraits (`Animator.open`), drive them (`Portrait.drive`) and animate files. Options that are given
    explicitly still apply.
    """

    as_published: ClassVar[bool] = True

    max_size: int | None = 1280
    """longest side of the result in px; sides are even"""
    crop_driving: bool = False
    """find the face in DRIVING and crop it even if DRIVING is square; otherwise it is always cropped"""
    reference: str = "first"
    """the frame of DRIVING that relative motion starts from: first, auto (the most neutral), or a frame number
    from 0"""
    framing: Framing = "follow"
    """follow uses one fixed crop and lets the portrait's head move wherever DRIVING's moves in the frame; steady
    removes the camera's movement"""
    expression: ExpressionMode = "landmarks"
    """landmarks uses DRIVING's plain differences; faithful needs weights that include a network for it"""
    driving_option: DrivingOption = "expression-friendly"
    """for an animal, which always moves by absolute motion; people move the same with both"""

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
