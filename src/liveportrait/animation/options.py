"""Everything a user can choose about an animation: the same for the command line, the web page and Python.

Choices come in groups, and each part of the program takes the group that it reads: `SourceOptions` to open a portrait,
`TransferOptions` for what motion becomes on the way to it, `PasteOptions` for how the face is laid back into the frame,
`OutputOptions` for the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from liveportrait.animation.option_checks import OptionGroup, is_within, option_name
from liveportrait.choices import (
    WIDEST_OPENING,
    AudioMode,
    DrivingOption,
    ExpressionMode,
    Framing,
    MotionMode,
    MouthMode,
    Opening,
    PasteMask,
    Reference,
    ReferenceName,
    Region,
    Subject,
    VideoCodec,
)
from liveportrait.errors import UserError
from liveportrait.face.choice import (
    DRIVING_SCALE,
    DRIVING_Y,
    DrivingCrop,
    FaceChoice,
    parse_box,
    parse_numbers,
)
from liveportrait.marking.options import MarkOptions

_OPENINGS = ("eye_opening", "left_eye_opening", "right_eye_opening", "lip_opening")


@dataclass(frozen=True)
class SourceOptions(OptionGroup):
    """How a portrait is opened: whose face moves, and how it is cut out."""

    crop: bool = True
    """find the face in SOURCE and cut it out; --no-crop takes SOURCE as a face already cropped"""
    faces: str = "largest"
    """which faces of SOURCE move: largest, all, or numbers from the left such as 1,3"""
    subject: Subject = "auto"
    """whose face to look for in a photo: a person's, an animal's (cat or dog), or auto: an animal's where no
    person is found"""
    box: str = ""
    """x,y,w,h in px of SOURCE: where the face of a photo is (an animal's head without ears), found by hand"""
    crop_scale: float = 2.3
    """size of SOURCE's crop, in sizes of its face"""
    crop_x: float = 0.0
    """shift of SOURCE's crop to the right, in sizes of the crop"""
    crop_y: float = -0.125
    """shift of SOURCE's crop downward, in sizes of the crop"""
    smooth: float = 0.0
    """how strongly motion is smoothed over time, 0 to 1; smoothing adds no delay"""
    max_size: int | None = None
    """longest side of the result in px; by default a photo is reduced to 4096, and a video keeps its size"""

    def __post_init__(self) -> None:
        """Raise `UserError` for choices that do not go together."""
        super().__post_init__()
        FaceChoice.parse(self.faces)
        if self.box:
            parse_box(self.box)
        if not self.crop and self.subject == "animal":
            raise UserError("--subject animal asks for a face to be cut out: leave out --no-crop")


@dataclass(frozen=True)
class RetargetOptions:
    """How far eyes and lips open (height over width in the picture); None leaves them to the driver's motion."""

    eye_opening: Opening = None
    """opening of both eyes, 0 (closed) to 0.8, about 0.35 when open; driver: the same as in DRIVING"""
    left_eye_opening: Opening = None
    """the same for the eye on the left of the picture alone"""
    right_eye_opening: Opening = None
    """the same for the eye on the right of the picture alone"""
    lip_opening: Opening = None
    """opening of the lips, 0 (closed) to 0.8; driver: the same as in DRIVING"""
    normalize_lips: bool = False
    """relative motion: start from closed lips where SOURCE has them open"""
    normalize_eyes: bool = False
    """relative motion: start from eyes as far open as SOURCE usually has them, so that it does not blink beside
    DRIVING; where it has them closed throughout, from open ones"""

    def __post_init__(self) -> None:
        """Raise `UserError` for values out of range."""
        for name in _OPENINGS:
            value = getattr(self, name)
            if value is None or value == "driver":
                continue
            if not is_within(value, 0, WIDEST_OPENING):
                raise UserError(
                    f"{option_name(name)} is {value}: choose a number from 0 to {WIDEST_OPENING:g}, or driver"
                )

    @property
    def wanted(self) -> tuple[Opening, Opening, Opening]:
        """The openings asked for: left eye, right eye, lips."""
        left, right = self.left_eye_opening, self.right_eye_opening
        return (
            self.eye_opening if left is None else left,
            self.eye_opening if right is None else right,
            self.lip_opening,
        )

    @property
    def changes(self) -> bool:
        """Whether anything is asked for."""
        return (
            self.normalize_lips or self.normalize_eyes or any(opening is not None for opening in self.wanted)
        )


@dataclass(frozen=True)
class DrivingOptions(OptionGroup):
    """How the face of a driver is cut out, and what its camera does."""

    crop_driving: bool = True
    """find the face in DRIVING and cut it out; --no-crop-driving takes its frames as faces already cropped"""
    driving_crop_scale: float = DRIVING_SCALE
    """size of DRIVING's crop, in sizes of its face; in a larger one its head moves less far"""
    driving_crop_x: float = 0.0
    """shift of DRIVING's crop to the right, in sizes of the crop"""
    driving_crop_y: float = DRIVING_Y
    """shift of DRIVING's crop downward, in sizes of the crop"""
    framing: Framing = "steady"
    """what DRIVING's camera does: steady takes pans, zooms and cuts out, and the head stays on its neck; follow
    lets the head go along in one crop, as the published program does"""

    @property
    def driving_crop(self) -> DrivingCrop:
        """The crop that these ask for."""
        return DrivingCrop(self.driving_crop_scale, self.driving_crop_x, self.driving_crop_y)


@dataclass(frozen=True)
class TransferOptions(DrivingOptions):
    """How a driver is read, and what of its motion the portrait takes."""

    assign: str = ""
    """with several DRIVING: the number of the one that moves each face, such as 2,1,1; by default in turn"""
    motion: MotionMode = "relative"
    """relative: SOURCE moves as DRIVING does from its reference on; absolute: it takes DRIVING's pose"""
    region: Region = "all"
    """which part of the face follows DRIVING"""
    mouth: MouthMode = "follow"
    """follow DRIVING; own: as SOURCE has it, a video's speech included; silent: at rest, and closed unless lip-opening
    says more; replace: as DRIVING's from rest on, so that what a video says itself is gone; speak: the same, and some
    of SOURCE's smile stays"""
    reference: str = "match"
    """the frame of DRIVING that relative motion starts from: match (the first one, but expressions start where
    DRIVING looks most like SOURCE), first, auto (the most neutral one), or its number"""
    expression: ExpressionMode = "faithful"
    """relative motion of a photo: faithful, as strong as DRIVING's and made SOURCE's own; landmarks, DRIVING's plain
    differences, as they are taken anyway of a photo's own person and for video SOURCE, animals and driving photos"""
    expression_strength: float = 1.0
    """relative motion: how strongly SOURCE follows DRIVING's expression, 0 to 2, whatever the head does"""
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
    """how strongly motion is smoothed over time, 0 to 1; smoothing adds no delay"""
    stitching: bool = True
    """keep shoulders and the crop's border in place, where the weights bring that module"""
    retarget: RetargetOptions = field(default_factory=RetargetOptions)
    """how far eyes and lips open"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a list or a reference that cannot be read."""
        super().__post_init__()
        if self.assign:
            parse_numbers(self.assign, "assign", "a number of DRIVING for each face such as 2,1,1")
        parse_reference(self.reference)

    def cuts_out(self, height: int, width: int) -> bool:
        """Whether the face is cut out of a driver of that size: as published, of any that is not square."""
        return self.crop_driving or (self.as_published and height != width)

    @property
    def opens(self) -> bool:
        """Whether it must be known how far eyes and lips are open in SOURCE."""
        return self.retarget.changes or self.mouth == "silent"

    @property
    def start(self) -> Reference:
        """The reference frame as it is looked for: absolute motion starts from the first frame, not from a match."""
        reference = parse_reference(self.reference)
        return "first" if reference == "match" and self.motion == "absolute" else reference


@dataclass(frozen=True)
class PasteOptions(MarkOptions, OptionGroup):
    """How the moving face is laid back into the frame."""

    paste_back: bool = True
    """paste the moving face back into SOURCE; --no-paste-back writes the crop alone"""
    resolution: int | None = None
    """px: a crop of SOURCE that is larger is composed at this side and enlarged, which takes less time; by default
    every crop at its own size, live at most 512"""
    mask: PasteMask = "template"
    """what is pasted back: template, the whole crop with soft edges; face, what the face covers and soon will"""
    match_colour: bool = False
    """bring the model's colours into line with SOURCE's along the edge of the mask"""
    detail: bool = False
    """published weights: put SOURCE's own detail, finer than the model's, where the result shows it, moved or not"""
    alpha: bool = False
    """write the moving faces alone, on transparency, to be laid over SOURCE: .mov, .webm or a folder of PNG"""


@dataclass(frozen=True)
class OutputOptions(OptionGroup):
    """The files that are written."""

    compare: bool = False
    """also write source, driving and result side by side, as OUT with _compare in its name"""
    codec: VideoCodec = "auto"
    """auto: H.264, in .webm VP9; prores: ProRes 422 HQ in .mov (with --alpha always ProRes 4444)"""
    audio: AudioMode = "driving"
    """whose sound the result has; the other one's where that has none"""
    overwrite: bool = False
    """replace OUT if it exists"""


# A dataclass takes the fields of its last base first: bases stand in the opposite order to the help's.


@dataclass(frozen=True)
class DriveOptions(PasteOptions, TransferOptions):
    """How a portrait that is open already is driven."""


@dataclass(frozen=True)
class AnimateOptions(OutputOptions, DriveOptions, SourceOptions):
    """How a portrait is animated, from file to file."""

    def __post_init__(self) -> None:
        """Raise `UserError` for choices that do not go together."""
        super().__post_init__()
        check_subject(self, self)


def check_subject(source: SourceOptions, transfer: TransferOptions) -> None:
    """Raise `UserError` where openings of eyes and lips, which are people's, are asked of an animal."""
    if source.subject == "animal" and transfer.opens:
        raise UserError("openings of eyes and lips are those of people: leave them out for an animal")


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
