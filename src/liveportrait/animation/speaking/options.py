"""Options of speaking portraits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from liveportrait.animation.option_checks import OptionGroup, is_within
from liveportrait.animation.options import (
    AnimateOptions,
    DriveOptions,
    OutputOptions,
    PasteOptions,
    RetargetOptions,
    SourceOptions,
)
from liveportrait.errors import UserError

HeadWord = Literal["still", "gentle"]


@dataclass(frozen=True)
class SpeechOptions(OptionGroup):
    """How a voice drives a portrait."""

    head: HeadWord | Path = "gentle"
    """head movement of a photo: still; gentle, like somebody who speaks; or the path of a video or motion
    template that drives it. A video keeps its own head movement"""
    blink: bool = True
    """let a photo blink; --no-blink keeps its eyes open. A video keeps its own blinks"""
    strength: float = 1.0
    """how far the mouth moves, 0 to 2"""
    seed: int = 0
    """random seed for the movement of head and eyes; the same seed gives the same video"""
    style: Path | None = None
    """a video of somebody whose style of speaking (how wide and how lively the mouth moves) is adopted"""
    fps: float = 25.0
    """frames per second for a photo, 1 to 60; a video keeps its own"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a number out of range."""
        super().__post_init__()
        if not is_within(self.fps, 1, 60):
            raise UserError(f"fps is {self.fps}: choose a number from 1 to 60")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: choose a whole number from 0 on")

    @property
    def head_file(self) -> Path | None:
        """The file that moves the head, if one does."""
        return None if self.head in get_args(HeadWord) else Path(self.head)


@dataclass(frozen=True)
class SpeakingOptions(PasteOptions, SpeechOptions):
    """How an open portrait speaks."""

    def driving(self, is_video: bool) -> DriveOptions:
        """The options with which a photo or a video follows the voice's motion."""
        own = {each.name: getattr(self, each.name) for each in fields(PasteOptions)}
        return DriveOptions(**own, **_transfer(is_video))


@dataclass(frozen=True)
class SpeakOptions(OutputOptions, SpeakingOptions, SourceOptions):
    """How a portrait speaks, from file to file."""

    def __post_init__(self) -> None:
        """Raise `UserError` for choices that do not go together."""
        super().__post_init__()
        if self.subject == "animal":
            raise UserError("a voice moves the faces of people: leave out subject animal")

    def animation(self, is_video: bool) -> AnimateOptions:
        """The options with which a photo or a video follows the voice's motion, from file to file."""
        groups = (OutputOptions, PasteOptions, SourceOptions)
        own = {each.name: getattr(self, each.name) for group in groups for each in fields(group)}
        return AnimateOptions(**own, **_transfer(is_video))


def _transfer(is_video: bool) -> dict[str, Any]:
    """Open the lips as far as the voice says, in place of the face's own opening. In a video nothing else follows."""
    opened: dict[str, Any] = {"retarget": RetargetOptions(lip_opening="driver"), "mouth": "speak"}
    return opened | ({"region": "expression"} if is_video else {})


def speaking_options(options: DriveOptions, is_video: bool) -> DriveOptions:
    """The options of a live portrait, for a voice instead of a camera."""
    return replace(options, **_transfer(is_video))
