"""Options that cannot act together: a choice that leaves others with nothing to do, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from liveportrait.errors import UserError


class Clash(NamedTuple):
    """A choice that leaves other options nothing to do. These must then be as they are by default."""

    option: str
    """name of a field"""
    values: tuple[object, ...]
    """its values that do so"""
    reason: str
    """what they mean, with `{value}` for the value"""
    others: tuple[str, ...]
    remedy: str = "leave out one of the two"
    by_default: bool = False
    """whether it counts where nobody made that choice"""


PASTED = ("mask", "match_colour", "detail", "alpha")  # options of pasting back
CLASHES = (
    Clash(
        "crop",
        (False,),
        "--no-crop takes SOURCE as one face already cropped",
        ("box", "faces", "assign", "crop_scale", "crop_x", "crop_y", *PASTED),
    ),
    Clash(
        "crop_driving",
        (False,),
        "--no-crop-driving takes the frames of DRIVING as faces already cropped",
        ("driving_crop_scale", "driving_crop_x", "driving_crop_y"),
    ),
    Clash("paste_back", (False,), "--no-paste-back writes the crop alone", PASTED),
    Clash("box", (), "--box names the one face that moves", ("faces",)),
    Clash(
        "motion",
        ("absolute",),
        "--motion absolute takes expressions and head poses as DRIVING has them",
        ("expression_strength", "photo_pose", "normalize_lips", "normalize_eyes"),
    ),
    Clash("region", ("pose",), "--region pose leaves the expression alone", ("expression_strength", "mouth")),
    Clash("region", ("lips",), "--region lips moves the mouth alone", ("mouth",)),
    Clash("region", ("eyes",), "--region eyes leaves the mouth alone", ("mouth",)),
    Clash(
        "region",
        ("expression", "lips", "eyes"),
        "--region {value} leaves the head where SOURCE has it",
        ("photo_pose", "lock_shoulders"),
    ),
    Clash(
        "lock_head",
        (True,),
        "--lock-head keeps the head where SOURCE has it",
        ("photo_pose", "lock_shoulders"),
    ),
    Clash(
        "expression_from",
        (None,),
        "without --expression-from there is no expression to take",
        ("copy",),
        "name a picture, or leave it out",
        by_default=True,
    ),
)


class Given(NamedTuple):
    """The value of an option, and what it is by default."""

    value: Any
    default: Any
    spelling: str  # as on the command line, without its dashes


def check_together(*groups: object) -> None:
    """Raise `UserError` where an option of some groups (dataclasses) leaves another one nothing to do."""
    given = {name: option for group in groups for name, option in _given(group)}
    for clash in CLASHES:
        chosen = given.get(clash.option)
        if chosen is None or (chosen.value == chosen.default and not clash.by_default):
            continue
        if not _applies(clash, chosen):
            continue
        for name in clash.others:
            other = given.get(name)
            if other and other.value != other.default:
                raise UserError(
                    f"{clash.reason.format(value=chosen.value)}, so that --{other.spelling} has nothing to do:"
                    f" {clash.remedy}"
                )


def _applies(clash: Clash, chosen: Given) -> bool:
    """Whether the value is one of the clash's and somebody's choice; without any, whether there is one at all."""
    if not clash.values:
        return bool(chosen.value)
    return chosen.value in clash.values and (chosen.value is None or chosen.value != chosen.default)


def _given(group: object) -> Iterator[tuple[str, Given]]:
    """The options of a group by name, those of the groups in it among them."""
    for field in fields(group):  # type: ignore[arg-type]  # it is a dataclass
        value = getattr(group, field.name)
        spelling = field.name.replace("_", "-")
        if is_dataclass(value):
            yield from _given(value)
        else:
            yield field.name, Given(value, field.default, spelling)


def idle_notes(options: object, keeps_source: bool, photo_drives: bool, source_moves: bool) -> Iterator[str]:
    """Sentences on options (a dataclass) that had nothing to do with these weights and files.

    `keeps_source`: whether the weights show the source's own pixels; `photo_drives`: whether a driver is a photo.
    """
    given = dict(_given(options))

    def asked(name: str) -> bool:
        return name in given and given[name].value != given[name].default

    if asked("detail") and keeps_source:
        yield "these weights keep SOURCE's own detail anyway: --detail changed nothing"
    if asked("resolution") and not keeps_source:
        yield "these weights paint at a size of their own: --resolution changed nothing"
    if asked("photo_pose") and not photo_drives:
        yield "--photo-pose is for a driving photo: it changed nothing"
    if asked("driving_option") and given["motion"].value == "relative":
        yield "--driving-option is for absolute motion: with relative motion both are the same"
    if asked("smooth") and "motion" not in given and not source_moves:
        yield "--smooth is for a video: it changed nothing"
