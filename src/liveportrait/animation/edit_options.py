"""The sliders of an edited portrait: the same for the command line, the web page and Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from liveportrait.animation.option_checks import OptionGroup, is_within, option_name
from liveportrait.animation.options import OutputOptions, PasteOptions, SourceOptions
from liveportrait.choices import MAX_OPENING
from liveportrait.errors import UserError


class Range(NamedTuple):
    """The range of a slider. An opening at rest (None) stays as it is in the picture."""

    low: float
    high: float
    rest: float | None = 0.0


SLIDERS: dict[str, Range] = {
    "smile": Range(-0.3, 1.3),
    "wink": Range(0, 1),
    "eyebrow": Range(-1, 1),
    "gaze_x": Range(-1, 1),
    "gaze_y": Range(-1, 1),
    "pout": Range(-1, 1),
    "purse": Range(-1, 1),
    "grin": Range(0, 1),
    "lips": Range(-1, 1),
    "neutral": Range(0, 1),
    "silent": Range(0, 1),
    "pitch": Range(-15, 15),
    "yaw": Range(-25, 25),
    "roll": Range(-15, 15),
    "move_x": Range(-0.19, 0.19),
    "move_y": Range(-0.19, 0.19),
    "move_z": Range(0.9, 1.2, rest=1.0),
    "eye_opening": Range(0, MAX_OPENING, rest=None),
    "left_eye_opening": Range(0, MAX_OPENING, rest=None),
    "right_eye_opening": Range(0, MAX_OPENING, rest=None),
    "lip_opening": Range(0, MAX_OPENING, rest=None),
    "copy": Range(0, 1, rest=1.0),
}


@dataclass(frozen=True)
class Sliders(OptionGroup):
    """Expression, gaze, head pose and openings. A slider at its default changes nothing."""

    smile: float = 0.0
    """-0.3 (sad) to 1.3 (laughing)"""
    wink: float = 0.0
    """0 to 1: closes the eye on the right of the picture"""
    eyebrow: float = 0.0
    """-1 (frowning) to 1 (raised)"""
    gaze_x: float = 0.0
    """-1 (to the left of the picture) to 1 (to its right)"""
    gaze_y: float = 0.0
    """-1 (down) to 1 (up)"""
    pout: float = 0.0
    """-1 (mouth drawn to the left of the picture) to 1 (to its right)"""
    purse: float = 0.0
    """-1 (mouth stretched) to 1 (lips pursed)"""
    grin: float = 0.0
    """0 to 1: lips apart over the teeth"""
    lips: float = 0.0
    """-1 (closed) to 1 (wide open)"""
    neutral: float = 0.0
    """0 to 1: how much of the face's own expression is removed first"""
    silent: float = 0.0
    """0 to 1: brings the mouth to rest, closed, whatever a video SOURCE is saying"""
    pitch: float = 0.0
    """degrees added, -15 (up) to 15 (down)"""
    yaw: float = 0.0
    """degrees added, -25 (to the right of the picture) to 25 (to its left)"""
    roll: float = 0.0
    """degrees added, -15 (anticlockwise) to 15 (clockwise)"""
    move_x: float = 0.0
    """-0.19 to 0.19 (to the right), in half sides of the crop"""
    move_y: float = 0.0
    """-0.19 to 0.19 (up), in half sides of the crop"""
    move_z: float = 1.0
    """size of the head, 0.9 to 1.2"""
    eye_opening: float | None = None
    """opening of both eyes, height over width in the picture, 0 (closed) to 0.8, about 0.35 when open"""
    left_eye_opening: float | None = None
    """the same for only the eye on the left of the picture"""
    right_eye_opening: float | None = None
    """the same for only the eye on the right of the picture"""
    lip_opening: float | None = None
    """opening of the lips, 0 (closed) to 0.8"""
    expression_from: Path | None = None
    """a picture whose expression the face takes; sliders are added to it"""
    copy: float = 1.0
    """0 to 1: how much of that expression the face takes"""
    keyframes: Path | None = None
    """a JSON file of slider values over time, for a video SOURCE (see docs/guide/editing.md)"""
    stitching: bool = True
    """keep shoulders and the crop's border in place, if the weights include the stitching module"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a value out of range."""
        for name in SLIDERS:
            check_slider(name, getattr(self, name))
        super().__post_init__()

    def moved(self) -> dict[str, float]:
        """The sliders that are not at rest."""
        return {
            name: value
            for name, limits in SLIDERS.items()
            if (value := getattr(self, name)) is not None and value != limits.rest
        }


# As in `AnimateOptions`, bases stand in the opposite order to the help's.
@dataclass(frozen=True)
class EditOptions(OutputOptions, PasteOptions, SourceOptions, Sliders):
    """How a portrait is edited, from file to file."""


def check_slider(name: str, value: float | None) -> None:
    """Raise `UserError` for an unknown slider or a value out of range."""
    limits = SLIDERS.get(name)
    if limits is None:
        raise UserError(f"there is no slider {name!r}: choose one of {', '.join(SLIDERS)}")
    if value is None and limits.rest is None:
        return
    if not is_within(value, limits.low, limits.high):
        raise UserError(
            f"{option_name(name)} is {value}: choose a number from {limits.low:g} to {limits.high:g}"
        )
