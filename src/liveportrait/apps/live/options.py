"""The options of live portraits, named as on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from liveportrait.animation.options import AnimateOptions, DriveOptions, RetargetOptions
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.apps.jobs import file_options, is_word, options_from
from liveportrait.errors import UserError


def live_options(values: Mapping[str, object]) -> DriveOptions:
    """The options of `Portrait.live` with these values. Raises `UserError`."""
    options = options_from("animate", values)
    assert isinstance(options, AnimateOptions)
    names = {field.name for field in fields(DriveOptions)}
    for field in fields(AnimateOptions):
        if field.name not in names and getattr(options, field.name) != field.default:
            raise UserError(f"{field.name} cannot be changed in a live stream: leave it out")
    return DriveOptions(**{name: getattr(options, name) for name in names})


def changed_options(options: DriveOptions) -> dict[str, object]:
    """The options that differ from their defaults, by name, in the form that `live_options` reads."""
    groups = (options, DriveOptions()), (options.retarget, RetargetOptions())
    changed = {
        field.name: getattr(group, field.name)
        for group, plain in groups
        for field in fields(plain)
        if getattr(group, field.name) != getattr(plain, field.name)
    }
    changed.pop("retarget", None)
    return changed


def speech_options(values: Mapping[str, object]) -> SpeechOptions:
    """The options of `Live.voice` with these values. Raises `UserError`, also for files."""
    names = {field.name for field in fields(SpeechOptions)}
    for spelling, value in values.items():
        name = spelling.replace("-", "_").removeprefix("no_")
        if name not in names:
            raise UserError(
                f"a live voice has no option {spelling!r}: choose from {', '.join(sorted(names))}"
            )
        if name in file_options("speak") and not is_word("speak", name, value):
            raise UserError(f"{spelling} is {value!r}: a live voice takes no files")
    options = options_from("speak", values)
    return SpeechOptions(**{name: getattr(options, name) for name in names})
