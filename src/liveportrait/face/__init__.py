"""Faces in pictures: detection, landmarks, tracking, head pose, crop window, opening ratios, paste-back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from liveportrait.face.analyzer import Face, FaceAnalyzer, default_analyzer

__all__ = ["Face", "FaceAnalyzer", "default_analyzer"]


def __getattr__(name: str) -> Any:
    # Imported on demand: the analyzer pulls in PyTorch and OpenCV, which the command line's options do not need.
    if name in __all__:
        return getattr(import_module("liveportrait.face.analyzer"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
