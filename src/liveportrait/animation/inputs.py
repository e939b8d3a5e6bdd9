"""Inputs from which a portrait and its drivers are opened: paths, templates, and pictures from Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from liveportrait.animation.driver.base import Driver
from liveportrait.animation.driver.photo import open_photo_driver
from liveportrait.animation.driver.template import open_template_driver
from liveportrait.animation.driver.video import open_video_driver
from liveportrait.animation.options import SourceOptions, TransferOptions
from liveportrait.animation.published.transfer import require_layout
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.animation.source.photo import open_photo
from liveportrait.animation.source.video import open_video
from liveportrait.choices import AudioMode
from liveportrait.errors import UserError
from liveportrait.face.choice import parse_numbers
from liveportrait.media import (
    VIDEO_OUTPUTS,
    FrameArrays,
    VideoReader,
    check_input,
    check_picture,
    media_kind,
    plan_sound,
)
from liveportrait.motion import Template, read_template
from liveportrait.types import Array, Image

TEMPLATE_SUFFIXES = (".safetensors", ".pkl")

SourceInput = str | Path | Image | Iterable[Image] | FrameArrays
DrivingInput = str | Path | Template | Image | Iterable[Image] | FrameArrays
Resolved = Path | Template | Image | FrameArrays | VideoReader | Driver


def open_source(session: Session, source: SourceInput, options: SourceOptions) -> Source:
    """Open a photo, a video or pictures from Python as a source. Raises `UserError` if that cannot be done."""
    require_layout(session.engine, options)
    if isinstance(source, np.ndarray) and source.ndim != 4:
        check_picture(source, "the source")
        return open_photo(session, source, options)
    if isinstance(source, str | Path):
        if media_kind(source) == "image":
            return open_photo(session, Path(source), options)
        if options.box or options.subject == "animal":
            asked = "box" if options.box else "subject animal"
            raise UserError(
                f"{asked} is for a photo, and {source} is a video: animals and boxes move in photos only"
            )
        return open_video(session, VideoReader(source), options)
    return open_video(session, _frames(source, "the source's frames"), options)


def resolve_driving(driving: DrivingInput | Sequence[DrivingInput]) -> list[Resolved]:
    """The list of drivers, with files found and arrays checked, before any work. Raises `UserError`.

    A list of pictures (H,W,3) is one driver; any other list is a list of drivers.
    """
    if isinstance(driving, list | tuple) and not (driving and all(map(_is_picture, driving))):
        if not driving:
            raise UserError("there is no driver: give a video, a photo, a motion template, or pictures")
        return [_resolved(each) for each in driving]
    return [_resolved(driving)]


def check_sound(source: SourceInput | None, drivers: Sequence[Resolved], mode: AudioMode, out: Path) -> None:
    """Check the sound that `out` will have, before any work. Raises `UserError` if it cannot be carried over."""
    suffix = out.suffix.lower()
    if mode == "none" or suffix not in VIDEO_OUTPUTS:
        return
    for each in (source, *drivers) if mode == "source" else (*drivers, source):
        path = each.audio if isinstance(each, Driver) else each
        if not isinstance(path, str | Path) or is_template(Path(path)):
            continue
        if plan_sound(Path(path), suffix):
            return


def open_early(session: Session, drivers: Sequence[Resolved], options: TransferOptions) -> list[Resolved]:
    """The same drivers, opened as far as possible before the source is tracked, which takes long.

    Raises `UserError` for a photo or a template that cannot be used, and a video that cannot be decoded.
    """
    opened: list[Resolved] = []
    for each in drivers:
        is_video = isinstance(each, FrameArrays) or (
            isinstance(each, Path) and not is_template(each) and media_kind(each) == "video"
        )
        if not is_video:
            opened.append(open_driver(session, each, options))
        else:
            opened.append(VideoReader(each) if isinstance(each, Path) else each)
    return opened


def open_driver(
    session: Session,
    driving: Resolved,
    options: TransferOptions,
    scores: Sequence[Array | None] = (None,),
    pictures: bool = False,
) -> Driver:
    """Open a driver that `resolve_driving` gave; `scores` of the faces that it moves (`SourceFace`).

    `pictures`: its crops will be shown. Raises `UserError` if it shows no face, the reference frame cannot be used, or
    its openings are requested but unknown.
    """
    driver = _opened_driver(session, driving, options, scores, pictures)
    if "driver" in options.retarget.wanted and driver.start(0).ratios is None:
        raise UserError(
            f"how far eyes and lips open in {driver.name} is unknown: templates do not always say, and no face may be"
            " found in crops; give a number, or drive with the video itself"
        )
    return driver


def _opened_driver(
    session: Session,
    driving: Resolved,
    options: TransferOptions,
    scores: Sequence[Array | None],
    pictures: bool,
) -> Driver:
    if isinstance(driving, Driver):
        return driving
    require_layout(session.engine, options)
    if isinstance(driving, Template):
        return open_template_driver(session, driving, "the motion template", options.start, options.framing)
    if isinstance(driving, Path) and is_template(driving):
        return open_template_driver(
            session, read_template(driving), str(driving), options.start, options.framing
        )
    if isinstance(driving, np.ndarray) or (isinstance(driving, Path) and media_kind(driving) == "image"):
        return open_photo_driver(session, driving, options)
    reader = VideoReader(driving) if isinstance(driving, Path) else driving
    crops = options.cuts_out(reader.info.height, reader.info.width)
    return open_video_driver(
        session,
        reader,
        crops,
        options.start,
        scores,
        pictures,
        options.framing,
        options.reduction,
        options.driving_crop,
    )


def assign_drivers(faces: int, drivers: int, assign: str) -> tuple[int, ...]:
    """Which driver (from 0) moves each face, in the order of the chosen faces.

    `assign` names them from 1, such as "2,1,1"; "" stands for one driver for all faces, or the first driver for the
    first face, the second for the second, and so on. Raises `UserError` if the numbers do not fit.
    """
    chosen = f"{faces} chosen {'face' if faces == 1 else 'faces'} of SOURCE"
    if assign:
        numbers = parse_numbers(assign, "assign", "a number of DRIVING for each face such as 2,1,1")
        if len(numbers) != faces:
            raise UserError(f"assign names {len(numbers)} of DRIVING for {chosen}: name one for each")
        for number in numbers:
            if not 1 <= number <= drivers:
                raise UserError(f"assign names DRIVING {number}, but {drivers} are given: count them from 1")
        unused = sorted(set(range(1, drivers + 1)) - set(numbers))
        if unused:
            raise UserError(f"assign leaves DRIVING {unused[0]} without a face: name it, or leave it out")
        return tuple(number - 1 for number in numbers)
    if drivers == 1:
        return (0,) * faces
    if drivers > faces:
        raise UserError(
            f"{drivers} of DRIVING are too many for {chosen}: leave some out, or choose more with --faces"
        )
    if drivers < faces:
        raise UserError(
            f"{drivers} of DRIVING are too few for {chosen}: give one for each, one for all, or say with --assign"
            " which moves which"
        )
    return tuple(range(faces))


def is_template(path: Path) -> bool:
    """Whether a driving file is a motion template, by its suffix."""
    return path.suffix.lower() in TEMPLATE_SUFFIXES


def _resolved(driving: object) -> Resolved:
    if isinstance(driving, Template):
        return driving
    if isinstance(driving, str | Path):
        path = Path(driving)
        if not is_template(path):
            media_kind(path)
        return check_input(path)
    if isinstance(driving, np.ndarray) and driving.ndim != 4:
        check_picture(driving, "the driving picture")
        return driving
    return _frames(driving, "the driving frames")


def _frames(pictures: object, name: str) -> FrameArrays:
    if isinstance(pictures, FrameArrays):
        return pictures
    if not isinstance(pictures, Iterable):
        kind = type(pictures).__name__
        raise UserError(
            f"{name} are of type {kind}: give a path, a picture (H,W,3) uint8, or an iterable of pictures"
        )
    return FrameArrays(pictures, name=name)


def _is_picture(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 3
