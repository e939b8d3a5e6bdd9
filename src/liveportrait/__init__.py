"""Animate a portrait with the expression and head pose of a driving video.

>>> from liveportrait import AnimateOptions, Animator
>>> animator = Animator.load("compact")
>>> print(animator.animate("portrait.jpg", "driving.mp4", "out.mp4").summary())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.report import Report
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

__all__ = ["AnimateOptions", "Animator", "EditOptions", "Report", "UserError"]


def __getattr__(name: str) -> Any:
    if name == "Animator":  # brings PyTorch along, which takes seconds
        from liveportrait.animation.animator import Animator

        return Animator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
