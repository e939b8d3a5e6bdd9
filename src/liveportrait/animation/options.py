"""Everything a user can choose about an animation: the same for the command line, the web page and Python.

Options come in groups, and each part of the program takes the group that it reads: `SourceOptions` to open a portrait,
`TransferOptions` for transferring motion to it, `PasteOptions` for pasting the face back into the frame,
`OutputOptions` for the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from liveportrait.animation.option_checks import OptionGroup, is_within, option_name
from liveportrait.choices import (
    MAX_OPENING,
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
    """How a portrait is opened: whose face moves, and how it is cropped."""

    crop: bool = True
    """find the face in SOURCE and crop it; --no-crop treats SOURCE as a face that is already cropped"""
    faces: str = "largest"
    """which faces of SOURCE move: largest, all, or numbers counted from the left such as 1,3"""
    subject: Subject = "auto"
    """whose face to look for in a photo: a person's, an animal's (cat or dog), or auto, an animal's if no person
    is found"""
    box: str = ""
    """x,y,w,h in px of SOURCE: the position of the face in a photo (of an animal's head without its ears),
    instead of detection"""
    crop_scale: float = 2.3
    """size of SOURCE's crop relative to its face"""
    crop_x: float = 0.0
    """shift of SOURCE's crop to the right, as a fraction of its size"""
    crop_y: float = -0.125
    """shift of SOURCE's crop downward, as a fraction of its size"""
    smooth: float = 0.0
    """how strongly motion is smoothed over time, 0 to 1; adds no delay"""
    max_size: int | None = None
    """longest side of the result in px; by default a photo is reduced to 4096 and a video keeps its size"""

    def __post_init__(self) -> None:
        """Raise `UserError` for options that do not go together."""
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
    """opening of both eyes, 0 (closed) to 0.8, about 0.35 when open; driver: as in DRIVING"""
    left_eye_opening: Opening = None
    """the same for only the eye on the left of the picture"""
    right_eye_opening: Opening = None
    """the same for only the eye on the right of the picture"""
    lip_opening: Opening = None
    """opening of the lips, 0 (closed) to 0.8; driver: as in DRIVING"""
    normalize_lips: bool = False
    """relative motion: start from closed lips if SOURCE's are open"""
    normalize_eyes: bool = False
    """relative motion: start from eyes as open as SOURCE's usually are, so that its own blinks do not add to
    DRIVING's; if SOURCE's are always closed, start from open eyes"""

    def __post_init__(self) -> None:
        """Raise `UserError` for values out of range."""
        for name in _OPENINGS:
            value = getattr(self, name)
            if value is None or value == "driver":
                continue
            if not is_within(value, 0, MAX_OPENING):
                raise UserError(
                    f"{option_name(name)} is {value}: choose a number from 0 to {MAX_OPENING:g}, or driver"
                )

    @property
    def wanted(self) -> tuple[Opening, Opening, Opening]:
        """The requested openings: left eye, right eye, lips."""
        left, right = self.left_eye_opening, self.right_eye_opening
        return (
            self.eye_opening if left is None else left,
            self.eye_opening if right is None else right,
            self.lip_opening,
        )

    @property
    def changes(self) -> bool:
        """Whether any option is set."""
        return (
            self.normalize_lips or self.normalize_eyes or any(opening is not None for opening in self.wanted)
        )


@dataclass(frozen=True)
class DrivingOptions(OptionGroup):
    """How the driver's face is cropped, and what happens to its camera's movement."""

    crop_driving: bool = True
    """find the face in DRIVING and crop it; --no-crop-driving treats its frames as faces that are already cropped"""
    driving_crop_scale: float = DRIVING_SCALE
    """size of DRIVING's crop relative to its face; a larger crop makes the head move less"""
    driving_crop_x: float = 0.0
    """shift of DRIVING's crop to the right, as a fraction of its size"""
    driving_crop_y: float = DRIVING_Y
    """shift of DRIVING's crop downward, as a fraction of its size"""
    framing: Framing = "steady"
    """steady compensates for DRIVING's pans, zooms and cuts, so that the head stays on its neck; follow uses one fixed
    crop and lets the head move with the camera, as the published program does"""

    @property
    def driving_crop(self) -> DrivingCrop:
        """The crop that these options ask for."""
        return DrivingCrop(self.driving_crop_scale, self.driving_crop_x, self.driving_crop_y)


@dataclass(frozen=True)
class TransferOptions(DrivingOptions):
    """How the driver is read, and which parts of its motion the portrait takes."""

    assign: str = ""
    """with several DRIVING: which one drives each face, by number, such as 2,1,1; by default in order"""
    motion: MotionMode = "relative"
    """relative: SOURCE follows DRIVING's changes since its reference frame; absolute: it takes DRIVING's pose
    and expression as they are"""
    region: Region = "all"
    """which part of the face follows DRIVING"""
    mouth: MouthMode = "follow"
    """follow: as DRIVING's; own: as SOURCE's, including a video's speech; silent: at rest, and closed unless
    lip-opening is set; replace: DRIVING's movement starting from rest, which removes a video's own speech;
    speak: like replace, but keeps some of SOURCE's smile"""
    reference: str = "match"
    """the frame of DRIVING that relative motion starts from: match (the first, but expressions start where
    DRIVING looks most like SOURCE), first, auto (the most neutral), or a frame number from 0"""
    expression: ExpressionMode = "faithful"
    """relative motion of a photo: faithful adapts DRIVING's expression to SOURCE's face at full strength;
    landmarks uses DRIVING's plain differences, which are always used when both are the same person, and for a
    video SOURCE, animals and driving photos"""
    expression_strength: float = 1.0
    """relative motion: strength of the expression, 0 to 2, independent of the head's movement"""
    photo_pose: bool = False
    """let a driving photo turn SOURCE's head too; by default it only gives its expression"""
    lock_head: bool = False
    """keep SOURCE's head angles, position and size"""
    lock_scale: bool = False
    """keep SOURCE's head size"""
    lock_shoulders: bool = False
    """turn the head about the base of the neck, which stays in place, instead of letting the head change position"""
    driving_option: DrivingOption = "pose-friendly"
    """absolute motion of a photo: expression-friendly starts at SOURCE's own pose and scales DRIVING's motion to
    fit it; no effect on relative motion or a video SOURCE"""
    multiplier: float = 1.0
    """strength of the motion, 0 to 4; 1 is DRIVING's own"""
    smooth: float = 0.0
    """how strongly motion is smoothed over time, 0 to 1; adds no delay"""
    stitching: bool = True
    """keep shoulders and the crop's border in place, if the weights include the stitching module"""
    retarget: RetargetOptions = field(default_factory=RetargetOptions)
    """how far eyes and lips open"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a list or a reference that cannot be read."""
        super().__post_init__()
        if self.assign:
            parse_numbers(self.assign, "assign", "a number of DRIVING for each face such as 2,1,1")
        parse_reference(self.reference)

    def cuts_out(self, height: int, width: int) -> bool:
        """Whether the face is cropped from a driver of this size; as published, from any that is not square."""
        return self.crop_driving or (self.as_published and height != width)

    @property
    def needs_openings(self) -> bool:
        """Whether the openings of SOURCE's eyes and lips must be known."""
        return self.retarget.changes or self.mouth == "silent"

    @property
    def start(self) -> Reference:
        """The reference frame to look for: absolute motion starts from the first frame, not from a match."""
        reference = parse_reference(self.reference)
        return "first" if reference == "match" and self.motion == "absolute" else reference


@dataclass(frozen=True)
class PasteOptions(MarkOptions, OptionGroup):
    """How the animated face is pasted back into the frame."""

    paste_back: bool = True
    """paste the animated face back into SOURCE; --no-paste-back writes only the crop"""
    resolution: int | None = None
    """maximum side in px at which a crop is composed; larger crops are composed at this size and enlarged, which
    is faster; by default each crop's own size, and at most 512 live"""
    mask: PasteMask = "template"
    """what is pasted back: template, the whole crop with soft edges; face, the area that the face covers in
    SOURCE and in the result"""
    match_colour: bool = False
    """match the generated colours to SOURCE's along the edge of the mask"""
    detail: bool = False
    """published weights: restore SOURCE's fine detail wherever the result shows it"""
    alpha: bool = False
    """write only the animated faces, on transparency, to lay over SOURCE: .mov, .webm or a folder of PNG files"""


@dataclass(frozen=True)
class OutputOptions(OptionGroup):
    """The output files."""

    compare: bool = False
    """also write source, driver and result side by side, to OUT with _compare in its name"""
    codec: VideoCodec = "auto"
    """auto: H.264, or VP9 in .webm; prores: ProRes 422 HQ in .mov (ProRes 4444 with --alpha, whatever the codec)"""
    audio: AudioMode = "driving"
    """whose sound to use; falls back to the other's if it has none"""
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
    """Raise `UserError` for openings of eyes and lips on an animal: they are defined for people only."""
    if source.subject == "animal" and transfer.needs_openings:
        raise UserError("openings of eyes and lips are for people: leave them out for an animal")


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
