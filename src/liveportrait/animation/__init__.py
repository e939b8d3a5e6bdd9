"""The pipelines: photo, video or template in, animated portrait out.

`Animator` loads on first use: importing this package alone costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.report import Report

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator

__all__ = ["AnimateOptions", "Animator", "Report"]


def __getattr__(name: str) -> Any:
    if name == "Animator":
        from liveportrait.animation.animator import Animator

        return Animator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
