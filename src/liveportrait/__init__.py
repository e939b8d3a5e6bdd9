"""Animate a portrait with the expression and head pose of a driving video.

>>> from liveportrait import Animator
>>> animator = Animator.load("compact")
>>> portrait = animator.open("portrait.jpg")
>>> for frame in portrait.drive("driving.mp4"):
...     show(frame)
>>> print(animator.animate("portrait.jpg", "driving.mp4", "out.mp4").summary())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.edit_options import EditOptions, Sliders
    from liveportrait.animation.live import Live
    from liveportrait.animation.options import (
        AnimateOptions,
        DriveOptions,
        PasteOptions,
        SourceOptions,
        TransferOptions,
    )
    from liveportrait.animation.pipeline import Rendering
    from liveportrait.animation.portrait import Portrait
    from liveportrait.animation.published.options import PublishedOptions
    from liveportrait.animation.report import Report
    from liveportrait.animation.speaking.live import LiveVoice
    from liveportrait.animation.speaking.options import SpeechOptions
    from liveportrait.marking.verdict import Verdict, verify
    from liveportrait.media import FrameArrays
    from liveportrait.motion import Template

__all__ = [
    "AnimateOptions",
    "Animator",
    "DriveOptions",
    "EditOptions",
    "FrameArrays",
    "Live",
    "LiveVoice",
    "PasteOptions",
    "Portrait",
    "PublishedOptions",
    "Rendering",
    "Report",
    "Sliders",
    "SourceOptions",
    "SpeechOptions",
    "Template",
    "TransferOptions",
    "UserError",
    "Verdict",
    "verify",
]

# Imported on first use: many import NumPy, PyTorch or codecs, which takes seconds.
_LAZY = {
    "AnimateOptions": "animation.options",
    "Animator": "animation.animator",
    "DriveOptions": "animation.options",
    "EditOptions": "animation.edit_options",
    "FrameArrays": "media",
    "Live": "animation.live",
    "LiveVoice": "animation.speaking.live",
    "PasteOptions": "animation.options",
    "Portrait": "animation.portrait",
    "PublishedOptions": "animation.published.options",
    "Rendering": "animation.pipeline",
    "Report": "animation.report",
    "Sliders": "animation.edit_options",
    "SourceOptions": "animation.options",
    "SpeechOptions": "animation.speaking.options",
    "Template": "motion",
    "TransferOptions": "animation.options",
    "Verdict": "marking.verdict",
    "verify": "marking.verdict",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"liveportrait.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
