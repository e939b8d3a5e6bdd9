"""Checks of every group of options: allowed words, ranges, and choices that leave other options without effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

from liveportrait.choices import Reduction
from liveportrait.errors import UserError

RANGES = {
    "multiplier": (0.0, 4.0),
    "expression_strength": (0.0, 2.0),
    "smooth": (0.0, 1.0),
    "crop_scale": (1.0, 10.0),
    "crop_x": (-1.0, 1.0),
    "crop_y": (-1.0, 1.0),
    "driving_crop_scale": (1.0, 10.0),
    "driving_crop_x": (-1.0, 1.0),
    "driving_crop_y": (-1.0, 1.0),
    "strength": (0.0, 2.0),
    "max_size": (64, 16384),
    "resolution": (256, 16384),
}


class Conflict(NamedTuple):
    """A choice that leaves other options without effect, so that they must stay at their defaults."""

    option: str
    """name of a field"""
    values: tuple[object, ...]
    """the values in question; empty: any that is true"""
    reason: str
    """what such a value does, with `{value}` for the value"""
    others: tuple[str, ...]
    remedy: str = "leave out one of the two"
    by_default: bool = False
    """whether it applies to the default value too"""


PASTED = ("mask", "match_colour", "detail", "alpha")  # options of paste-back
CONFLICTS = (
    Conflict(
        "crop",
        (False,),
        "--no-crop takes SOURCE as one face already cropped",
        ("box", "faces", "assign", "crop_scale", "crop_x", "crop_y", *PASTED),
    ),
    Conflict(
        "crop_driving",
        (False,),
        "--no-crop-driving takes the frames of DRIVING as faces already cropped",
        ("driving_crop_scale", "driving_crop_x", "driving_crop_y"),
    ),
    Conflict("paste_back", (False,), "--no-paste-back writes the crop alone", PASTED),
    Conflict("box", (), "--box names the one face that moves", ("faces",)),
    Conflict(
        "motion",
        ("absolute",),
        "--motion absolute takes expressions and head poses as DRIVING has them",
        ("expression_strength", "photo_pose", "normalize_lips", "normalize_eyes"),
    ),
    Conflict(
        "region", ("pose",), "--region pose leaves the expression alone", ("expression_strength", "mouth")
    ),
    Conflict("region", ("lips",), "--region lips moves the mouth alone", ("mouth",)),
    Conflict("region", ("eyes",), "--region eyes leaves the mouth alone", ("mouth",)),
    Conflict(
        "region",
        ("expression", "lips", "eyes"),
        "--region {value} leaves the head where SOURCE has it",
        ("photo_pose", "lock_shoulders"),
    ),
    Conflict(
        "lock_head",
        (True,),
        "--lock-head keeps the head where SOURCE has it",
        ("photo_pose", "lock_shoulders"),
    ),
    Conflict(
        "expression_from",
        (None,),
        "without --expression-from there is no expression to take",
        ("copy",),
        "name a picture, or leave it out",
        by_default=True,
    ),
)


@dataclass(frozen=True)
class OptionGroup:
    """A group of options. Words, ranges and conflicts are checked on construction."""

    as_published: ClassVar[bool] = False
    """whether to do as the published program does where no option covers it, see `PublishedOptions`"""

    @property
    def reduction(self) -> Reduction:
        """How pictures are scaled down."""
        return "bilinear" if self.as_published else "area"

    def __post_init__(self) -> None:
        """Raise `UserError` for an unknown word, a number out of range, or conflicting options."""
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            choices = get_args(kind) if get_origin(kind) is Literal else ()
            if isinstance(value, str) and choices and value not in choices:
                raise UserError(f"{option_name(name)} is {value!r}: choose one of {', '.join(choices)}")
            if name in RANGES and value is not None:
                low, high = RANGES[name]
                if not is_within(value, low, high):
                    raise UserError(
                        f"{option_name(name)} is {value}: choose a number from {low:g} to {high:g}"
                    )
        check_conflicts(self)


class OptionValue(NamedTuple):
    """The value of an option and its default."""

    value: Any
    default: Any
    spelling: str  # as on the command line, without its dashes


def check_conflicts(*groups: object) -> None:
    """Raise `UserError` if an option in some groups (dataclasses) leaves another one without effect."""
    given = {name: option for group in groups for name, option in _given(group)}
    for conflict in CONFLICTS:
        chosen = given.get(conflict.option)
        if chosen is None or (chosen.value == chosen.default and not conflict.by_default):
            continue
        if not _applies(conflict, chosen):
            continue
        for name in conflict.others:
            other = given.get(name)
            if other and other.value != other.default:
                raise UserError(
                    f"{conflict.reason.format(value=chosen.value)}, so --{other.spelling} has no effect:"
                    f" {conflict.remedy}"
                )


def _applies(conflict: Conflict, chosen: OptionValue) -> bool:
    """Whether the user chose one of the conflict's values; where it lists none, whether the option is set."""
    if not conflict.values:
        return bool(chosen.value)
    return chosen.value in conflict.values and (chosen.value is None or chosen.value != chosen.default)


def _given(group: object) -> Iterator[tuple[str, OptionValue]]:
    """The options of a group by name, including those of nested groups."""
    for field in fields(group):  # type: ignore[arg-type]  # it is a dataclass
        value = getattr(group, field.name)
        spelling = option_name(field.name)
        if is_dataclass(value):
            yield from _given(value)
        else:
            yield field.name, OptionValue(value, field.default, spelling)


def no_effect_notes(
    options: object, keeps_source: bool, photo_drives: bool, source_moves: bool
) -> Iterator[str]:
    """Sentences about options (a dataclass) that had no effect with these weights and files.

    `keeps_source`: whether the weights show the source's own pixels; `photo_drives`: whether a driver is a photo.
    """
    given = dict(_given(options))

    def asked(name: str) -> bool:
        return name in given and given[name].value != given[name].default

    if asked("detail") and keeps_source:
        yield "these weights keep SOURCE's own detail anyway: --detail had no effect"
    if asked("resolution") and not keeps_source:
        yield "these weights paint at a size of their own: --resolution had no effect"
    if asked("photo_pose") and not photo_drives:
        yield "--photo-pose is for a driving photo: it had no effect"
    if asked("driving_option") and given["motion"].value == "relative":
        yield "--driving-option is for absolute motion: with relative motion both are the same"
    if asked("smooth") and "motion" not in given and not source_moves:
        yield "--smooth is for a video: it had no effect"


def is_within(value: object, low: float, high: float) -> bool:
    """Whether a value is a number in a range."""
    return isinstance(value, Real) and low <= float(value) <= high


def option_name(name: str) -> str:
    """An option's name on the command line, without its dashes."""
    return name.replace("_", "-")
