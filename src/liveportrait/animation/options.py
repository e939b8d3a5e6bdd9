"""What a user can choose about one animation: the same for the command line, the web page and Python."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args, get_type_hints

from liveportrait.choices import AudioMode, DrivingOption, MotionMode, Region
from liveportrait.errors import UserError


@dataclass(frozen=True)
class AnimateOptions:
    """How a portrait is animated."""

    crop: bool = True
    """find the face in SOURCE and cut it out; --no-crop takes SOURCE as a face already cropped"""
    crop_driving: bool = True
    """the same for DRIVING; --no-crop-driving takes its frames as faces already cropped"""
    paste_back: bool = True
    """paste the moving face back into SOURCE; --no-paste-back writes the model's crop"""
    motion: MotionMode = "relative"
    """relative: SOURCE moves as DRIVING does from its first frame on; absolute: it takes DRIVING's pose"""
    region: Region = "all"
    """which part of the face follows DRIVING"""
    driving_option: DrivingOption = "pose-friendly"
    """absolute motion: expression-friendly starts at SOURCE's own pose and fits DRIVING's amplitude to it;
    relative motion: no difference"""
    multiplier: float = 1.0
    """how strongly SOURCE follows, 0 to 4; 1 as DRIVING moves"""
    stitching: bool = True
    """keep shoulders and the crop's border in place, where the weights bring that module"""
    crop_scale: float = 2.3
    """size of SOURCE's crop, in sizes of its face"""
    crop_x: float = 0.0
    """shift of SOURCE's crop to the right, in sizes of the crop"""
    crop_y: float = -0.125
    """shift of SOURCE's crop downward, in sizes of the crop"""
    compare: bool = False
    """also write source, driving and result side by side, as OUT with _compare in its name"""
    audio: AudioMode = "driving"
    """which sound the result has"""
    max_size: int = 1280
    """longest side of SOURCE in px: a larger photo is reduced to it"""
    overwrite: bool = False
    """replace OUT if it exists"""

    def __post_init__(self) -> None:
        """Raise `UserError` for values out of range."""
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if choices and value not in choices:
                raise UserError(f"{_spelled(name)} is {value!r}: choose one of {', '.join(choices)}")
        for name, low, high in (
            ("multiplier", 0.0, 4.0),
            ("crop_scale", 1.0, 10.0),
            ("crop_x", -1.0, 1.0),
            ("crop_y", -1.0, 1.0),
            ("max_size", 64, 16384),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise UserError(f"{_spelled(name)} is {value}: choose a number from {low:g} to {high:g}")


def _spelled(name: str) -> str:
    return name.replace("_", "-")
