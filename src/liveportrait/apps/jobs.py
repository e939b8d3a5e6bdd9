"""A job, from input files to an output file: what a batch, the service, the page and a cluster all run.

Options are named as on the command line, and given as text (a CSV cell) or as JSON values. They are looked up in the
dataclasses that define them, so that no option is listed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.option_checks import option_name
from liveportrait.animation.options import AnimateOptions, DrivingOptions, SourceOptions
from liveportrait.animation.published.options import PublishedOptions
from liveportrait.animation.speaking.options import SpeakOptions
from liveportrait.errors import UserError
from liveportrait.types import Progress, no_progress

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.portrait import Portrait
    from liveportrait.animation.report import Report

JobKind = Literal["animate", "edit", "speak", "template"]


@dataclass(frozen=True)
class TemplateJobOptions(DrivingOptions):
    """How a motion template is made, from file to file."""

    overwrite: bool = False
    """replace OUT if it exists"""


@dataclass(frozen=True)
class SpeakJobOptions(SpeakOptions):
    """The text that a portrait speaks if there is no sound file, and how it speaks."""

    text: str = ""
    """what to say, instead of SPEECH: read by espeak-ng, or by piper with --voice"""
    voice: str = ""
    """with --text: an espeak-ng voice such as de or en-gb, or the .onnx file of a piper-tts voice"""


Opening = tuple[Path, SourceOptions]  # a source file, and how it is opened
JobOptions = AnimateOptions | EditOptions | SpeakJobOptions | TemplateJobOptions
AS_PUBLISHED = "as_published"  # gives the other options of `animate` other defaults
OPTIONS: dict[JobKind, type[JobOptions]] = {
    "animate": AnimateOptions,
    "edit": EditOptions,
    "speak": SpeakJobOptions,
    "template": TemplateJobOptions,
}

_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_KINDS = {int: "a whole number", float: "a number", str: "text", Path: "a file", NoneType: "none"}


@dataclass(frozen=True)
class Job:
    """A portrait to animate, edit or make speak, or a motion to extract. Raises `UserError` if the files do not fit."""

    kind: JobKind
    source: Path | None
    """the portrait; None for a template"""
    driving: tuple[Path, ...]
    """what moves it: one or more to animate, one for a template, none to edit; to speak, one sound or none"""
    out: Path
    options: JobOptions

    def __post_init__(self) -> None:
        """Raise `UserError` for too many or too few files."""
        if not isinstance(self.options, OPTIONS[self.kind]):
            raise TypeError(f"a job of kind {self.kind} takes {OPTIONS[self.kind].__name__}")
        if self.kind == "template" and self.source:
            raise UserError(f"{self.source}: a template is made from DRIVING alone: leave out SOURCE")
        if self.kind != "template" and not self.source:
            raise UserError(f"SOURCE is missing: name the photo or video to {self.kind}")
        if isinstance(self.options, SpeakJobOptions):
            _check_said(self.driving, self.options)
            return
        if self.kind == "edit" and self.driving:
            raise UserError(
                f"{self.driving[0]}: edit uses sliders, not DRIVING: leave it out, or use animate"
            )
        if self.kind != "edit" and not self.driving:
            raise UserError("DRIVING is missing: name a video, a photo or a motion template")
        if self.kind == "template" and len(self.driving) > 1:
            raise UserError(f"{self.driving[1]}: a template holds one motion: give one DRIVING")


def _check_said(speech: tuple[Path, ...], options: SpeakJobOptions) -> None:
    """Raise `UserError` unless there is one thing to say."""
    if len(speech) > 1:
        raise UserError(f"{speech[1]}: a portrait says one thing: give one SPEECH")
    if bool(speech) == bool(options.text):
        raise UserError("give either SPEECH, a sound file, or --text, what to say")
    if options.voice and not options.text:
        raise UserError("--voice is only used with --text: leave it out, or give --text")


def opening_of(job: Job) -> Opening | None:
    """The inputs that a job opens; jobs with equal ones can share a portrait. None for a template."""
    if job.source is None or isinstance(job.options, TemplateJobOptions):
        return None
    own = {each.name: getattr(job.options, each.name) for each in fields(SourceOptions)}
    return job.source, (PublishedOptions if job.options.as_published else SourceOptions)(**own)


def run_job(
    animator: Animator, job: Job, progress: Progress = no_progress, portrait: Portrait | None = None
) -> Report:
    """Run a job and write `job.out`, which appears only when it is complete.

    `portrait`: the job's source, if it is already open with the job's `SourceOptions`. Raises `UserError`.
    """
    options = job.options
    if isinstance(options, TemplateJobOptions):
        crops, crop = options.crop_driving, options.driving_crop
        return animator.template(
            job.driving[0], job.out, crops, options.overwrite, progress, crop, framing=options.framing
        )
    source = portrait or job.source
    assert source is not None
    if isinstance(options, EditOptions):
        return animator.edit(source, job.out, options, progress)
    if isinstance(options, SpeakJobOptions):
        with ExitStack() as stack:
            from liveportrait.media.sound.text import synthesized_speech

            speech = (
                job.driving[0]
                if job.driving
                else stack.enter_context(synthesized_speech(options.text, options.voice))
            )
            return animator.speak(source, speech, job.out, options, progress)
    return animator.animate(source, job.driving, job.out, options, progress)


def suffix_for(kind: JobKind, source: Path | None, driving: tuple[Path, ...], alpha: bool = False) -> str:
    """The default suffix of a result: .mp4, .png if nothing moves, .mov with transparency.

    Depends on the files' content. Raises `UserError` if one of them is neither a picture nor a video.
    """
    from liveportrait.animation.inputs import is_template
    from liveportrait.media import media_kind

    if kind == "template":
        return ".safetensors"
    if kind == "speak":
        return ".mov" if alpha else ".mp4"
    shown = [path for path in (source, *driving) if path]
    if any(is_template(path) or media_kind(path) == "video" for path in shown):
        return ".mov" if alpha else ".mp4"
    return ".png"


class Choice(NamedTuple):
    """An option of some kind of job."""

    group: str
    """the field with the options of its group, "" for options of the job itself"""
    name: str
    kind: Any
    default: Any


def choices_of(kind: JobKind) -> dict[str, Choice]:
    """Every option of a kind of job by its Python name, including those in nested groups."""
    choices = {choice.name: choice for choice in _choices(OPTIONS[kind])}
    if kind == "animate":
        choices[AS_PUBLISHED] = Choice("", AS_PUBLISHED, bool, False)
    return choices


def file_options(kind: JobKind) -> tuple[str, ...]:
    """The options of a kind of job that name a file."""
    return tuple(
        name for name, choice in choices_of(kind).items() if Path in (choice.kind, *get_args(choice.kind))
    )


def is_word(kind: JobKind, name: str, value: object) -> bool:
    """Whether a value is one of the words that an option accepts, such as `still` for `head`."""
    choice = choices_of(kind)[name].kind
    words = (choice, *get_args(choice))
    return any(value in get_args(each) for each in words if get_origin(each) is Literal)


def options_from(kind: JobKind, values: Mapping[str, object]) -> JobOptions:
    """The options with these values, and defaults for the rest.

    Names are those of the command line, with dashes or underscores, such as `lip-opening`, or `no-crop` with the value
    `true`. A value is a JSON value or its text; `none` where an option is optional. Raises a `UserError` that names the
    option if it is unknown, or its value has the wrong type or is out of range.
    """
    known = choices_of(kind)
    groups: dict[str, dict[str, Any]] = {}
    given: dict[str, str] = {}
    for spelling, value in values.items():
        name = spelling.removeprefix("--").replace("-", "_")
        positive = name.removeprefix("no_")
        off = name not in known and positive in known and known[positive].default is True
        if off:
            name = positive
        if name not in known:
            raise UserError(f"{kind} has no option {spelling!r}: choose from {_names(known)}")
        if name in given:
            raise UserError(f"{spelling} and {given[name]} are the same option: leave one of them out")
        given[name] = spelling
        choice = known[name]
        chosen = _value(choice.kind, value, spelling)
        groups.setdefault(choice.group, {})[name] = not chosen if off else chosen
    own = groups.pop("", {})
    options = PublishedOptions if own.pop(AS_PUBLISHED, False) else OPTIONS[kind]
    hints = get_type_hints(OPTIONS[kind])
    inner = {group: hints[group](**settings) for group, settings in groups.items()}
    return options(**own, **inner)


def _choices(cls: type, group: str = "") -> Iterator[Choice]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _choices(kind, field.name)
        else:
            yield Choice(group, field.name, kind, field.default)


def _value(kind: Any, value: object, spelling: str) -> Any:
    """Convert a value to a type, or raise `UserError`. Literal choices come before other readings of a text."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for member in sorted(members, key=lambda member: get_origin(member) is not Literal):
        found, read = _read(member, value)
        if found:
            return read
    raise UserError(f"{spelling} is {value!r}: choose {' or '.join(map(_in_words, members))}")


def _read(kind: Any, value: object) -> tuple[bool, Any]:
    """Whether a value, or the text of one, is of a plain type; and the converted value."""
    text = value.strip() if isinstance(value, str) else None
    if get_origin(kind) is Literal:
        return text in get_args(kind), text
    if kind is NoneType:
        return value is None or (text is not None and text.lower() == "none"), None
    if kind is bool:
        return (
            (isinstance(value, bool), value)
            if text is None
            else (text.lower() in _WORDS, _WORDS.get(text.lower()))
        )
    if kind is str:
        return text is not None, text
    if kind is Path:
        return isinstance(value, Path) or bool(text), Path(value) if isinstance(value, str | Path) else None
    # A number, but not a bool, which Python counts as an int.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False, None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return False, None
    if kind is int:
        return number.is_integer(), int(number) if number.is_integer() else None
    return True, number


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}" if len(get_args(kind)) > 1 else str(get_args(kind)[0])
    return "true or false" if kind is bool else _KINDS[kind]


def _names(known: Mapping[str, Choice]) -> str:
    return ", ".join(map(option_name, known))
