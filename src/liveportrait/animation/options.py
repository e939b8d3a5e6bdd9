"""What a user can choose about one animation: the same for the command line, the web page and Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args, get_type_hints

from liveportrait.animation.boxes import parse_box
from liveportrait.animation.retarget_options import RetargetOptions
from liveportrait.choices import (
    AudioMode,
    DrivingOption,
    MotionMode,
    PasteMask,
    Reference,
    ReferenceName,
    Region,
    Subject,
    VideoCodec,
)
from liveportrait.errors import UserError
from liveportrait.face.choice import FaceChoice, parse_numbers

_RANGES = {
    "multiplier": (0.0, 4.0),
    "smooth": (0.0, 1.0),
    "crop_scale": (1.0, 10.0),
    "crop_x": (-1.0, 1.0),
    "crop_y": (-1.0, 1.0),
    "max_size": (64, 16384),
}


@dataclass(frozen=True)
class AnimateOptions:
    """How a portrait is animated."""

    crop: bool = True
    """find the face in SOURCE and cut it out; --no-crop takes SOURCE as a face already cropped"""
    crop_driving: bool = True
    """the same for DRIVING; --no-crop-driving takes its frames as faces already cropped"""
    paste_back: bool = True
    """paste the moving face back into SOURCE; --no-paste-back writes the model's crop"""
    faces: str = "largest"
    """which faces of SOURCE move: largest, all, or numbers from the left such as 1,3"""
    subject: Subject = "auto"
    """whose face to look for in a photo: a person's, an animal's (cat or dog), or auto: an animal's where no
    person is found"""
    box: str = ""
    """x,y,w,h in px of SOURCE: where the face of a photo is (an animal's head without ears), found by hand"""
    assign: str = ""
    """with several DRIVING: the number of the one that moves each face, such as 2,1,1; by default in turn"""
    motion: MotionMode = "relative"
    """relative: SOURCE moves as DRIVING does from its reference on; absolute: it takes DRIVING's pose"""
    region: Region = "all"
    """which part of the face follows DRIVING"""
    reference: str = "match"
    """the frame of DRIVING that relative motion starts from: match (the first one, but expressions start where
    DRIVING looks most like SOURCE), first, auto (the most neutral one), or its number"""
    photo_pose: bool = False
    """let a driving photo turn SOURCE's head too; by default it gives its expression only"""
    lock_head: bool = False
    """keep the head where SOURCE has it: its angles, position and size"""
    lock_scale: bool = False
    """keep the head at SOURCE's size"""
    lock_shoulders: bool = False
    """turn the head about the base of the neck, which stays in place, instead of moving it about"""
    driving_option: DrivingOption = "pose-friendly"
    """absolute motion: expression-friendly starts at SOURCE's own pose and fits DRIVING's amplitude to it;
    relative motion, or a video as SOURCE: no difference"""
    multiplier: float = 1.0
    """how strongly SOURCE follows, 0 to 4; 1 as DRIVING moves"""
    smooth: float = 0.0
    """how strongly motion is smoothed over time, 0 to 1; nothing comes late"""
    stitching: bool = True
    """keep shoulders and the crop's border in place, where the weights bring that module"""
    retarget: RetargetOptions = field(default_factory=RetargetOptions)
    """how far eyes and lips open"""
    crop_scale: float = 2.3
    """size of SOURCE's crop, in sizes of its face"""
    crop_x: float = 0.0
    """shift of SOURCE's crop to the right, in sizes of the crop"""
    crop_y: float = -0.125
    """shift of SOURCE's crop downward, in sizes of the crop"""
    compare: bool = False
    """also write source, driving and result side by side, as OUT with _compare in its name"""
    mask: PasteMask = "template"
    """what is pasted back: template, the whole crop with soft edges; face, what the face covers and soon will"""
    match_colour: bool = False
    """bring the model's colours into line with SOURCE's along the edge of the mask"""
    detail: bool = False
    """put SOURCE's own detail, finer than the model's, where the result shows it, moved or not"""
    alpha: bool = False
    """write the moving faces alone, on transparency, to be laid over SOURCE: .mov, .webm or a folder of PNG"""
    codec: VideoCodec = "auto"
    """auto: H.264, in .webm VP9; prores: ProRes 422 HQ in .mov (with --alpha always ProRes 4444)"""
    audio: AudioMode = "driving"
    """whose sound the result has; the other one's where that has none"""
    max_size: int | None = None
    """longest side of the result in px; by default a photo is reduced to 1280, and a video keeps its size"""
    overwrite: bool = False
    """replace OUT if it exists"""

    def __post_init__(self) -> None:
        """Raise `UserError` for values out of range."""
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if isinstance(value, str) and choices and value not in choices:
                raise UserError(f"{_spelled(name)} is {value!r}: choose one of {', '.join(choices)}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise UserError(f"{_spelled(name)} is {value}: choose a number from {low:g} to {high:g}")
        FaceChoice.parse(self.faces)
        if self.box:
            parse_box(self.box)
            if self.faces != "largest":
                raise UserError("box names the one face that moves: leave out faces, or the box")
        if not self.crop and (self.box or self.subject == "animal"):
            reason = "box" if self.box else "subject animal"
            raise UserError(f"{reason} asks for a face to be cut out: leave out no-crop")
        if self.subject == "animal" and self.retarget.changes:
            raise UserError("openings of eyes and lips are those of people: leave them out for an animal")
        if self.assign:
            parse_numbers(self.assign, "assign", "a number of DRIVING for each face such as 2,1,1")
        parse_reference(self.reference)


def parse_reference(text: str) -> Reference:
    """The driver's reference frame: a number from 0, or how to find it. Raises `UserError`."""
    for name in get_args(ReferenceName):
        if text == name:
            found: ReferenceName = name
            return found
    if not (text.isascii() and text.isdigit()):
        raise UserError(
            f"reference is {text!r}: give match, first, auto, or the number of a frame of DRIVING from 0"
        )
    return int(text)


def _spelled(name: str) -> str:
    return name.replace("_", "-")
