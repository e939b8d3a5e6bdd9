"""One animation from beginning to end: open everything, cast drivers for faces, render, write, report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from liveportrait.animation.compositing import Compositor
from liveportrait.animation.cues import Cues
from liveportrait.animation.driver import PHOTO_FPS, Driver, open_driver, template_driver
from liveportrait.animation.moving import open_video
from liveportrait.animation.options import AnimateOptions, parse_reference
from liveportrait.animation.output import Finisher, Sheet, is_picture, output_paths, picture_writer
from liveportrait.animation.rendering import Role, render
from liveportrait.animation.report import Report, count, gaps, held_note, stretches_note
from liveportrait.animation.run import Run
from liveportrait.animation.selection import assign_drivers
from liveportrait.animation.source import Image, Source, SourceFace, StillFace, open_photo
from liveportrait.animation.steering import Steering
from liveportrait.animation.streams import DEPTH, finish_behind
from liveportrait.errors import UserError
from liveportrait.face.choice import FaceChoice
from liveportrait.media import media_kind
from liveportrait.motion import Template

Driving = str | Path | Template


def produce(
    run: Run, source: str | Path | Image, driving: Sequence[Driving], out: Path, options: AnimateOptions
) -> Report:
    """Animate a source with its drivers, as `Animator.animate` says."""
    targets = output_paths(out, options)
    if options.alpha and not (options.crop and options.paste_back):
        raise UserError("--alpha shows what is pasted back: leave out --no-crop and --no-paste-back")
    portrait = open_source(run, source, options)
    numbers = assign_drivers(len(portrait.faces), len(driving), options.assign)
    if len(portrait.faces) > 1 and not options.paste_back:
        raise UserError(
            f"{len(portrait.faces)} faces cannot be written as one crop: leave out --no-paste-back"
        )
    drivers = [_open_driver(run, each, options) for each in driving]
    fps = portrait.fps or next((each.fps for each in drivers if not each.is_photo), PHOTO_FPS)
    lengths = [_frames_at(driver, fps) for driver in drivers if not driver.is_photo]
    total = min([*lengths, *([portrait.count] if portrait.count else [])], default=1)
    if is_picture(targets[0]) and total != 1:
        raise UserError(
            f"{out} is a picture, and the result has {total} frames: name a video such as .mp4, or"
            " a folder for PNG (no suffix)"
        )
    roles = [
        Role(face, number, _steering(run, face, drivers[number], options))
        for face, number in zip(portrait.faces, numbers, strict=True)
    ]
    cues = [Cues(driver, options.smooth) for driver in drivers]
    with ExitStack() as stack:
        finish = _finisher(stack, run, portrait, drivers, fps, targets, options)
        submit = stack.enter_context(finish_behind(finish, DEPTH, run.clock.gauge("to be written", DEPTH)))
        limit = None if lengths or portrait.count else 1
        frames = render(run, portrait, roles, cues, fps, total, limit, submit, options.mask == "face")
    moving = [cue.jitter(f"keypoints of {each}") for cue, each in zip(cues, _names(driving), strict=True)]
    report = Report(
        out=targets[0],
        frames=frames,
        fps=fps,
        profile=run.clock.profile(frames),
        compare=targets[1] if options.compare else None,
        held=drivers[0].held,
        passed=gaps(~np.array(finish.unchanged)),
        cuts=portrait.cuts,
        jitter=(*portrait.jitter, *(figure for figure in moving if figure.before > 0)),
        stitched=roles[0].steering.stitches,
    )
    return replace(report, notes=tuple(_notes(run, report, portrait, drivers, lengths, options)))


def open_source(run: Run, source: str | Path | Image, options: AnimateOptions) -> Source:
    """The source in a photo, a video or an (H,W,3) uint8 RGB array. Raises `UserError` where it does not serve."""
    choice = FaceChoice.parse(options.faces)
    if isinstance(source, np.ndarray):
        return open_photo(run, source, options, choice)
    if media_kind(source) == "image":
        return open_photo(run, Path(source), options, choice)
    if options.box or options.subject == "animal":
        asked = "box" if options.box else "subject animal"
        raise UserError(
            f"{asked} is for a photo, and {source} is a video: animals and boxes move in photos only"
        )
    return open_video(run, Path(source), options, choice)


def _open_driver(run: Run, driving: Driving, options: AnimateOptions) -> Driver:
    reference = parse_reference(options.reference)
    if reference == "match" and options.motion == "absolute":
        reference = "first"
    if isinstance(driving, Template):
        return template_driver(run, driving, reference=reference)
    return open_driver(run, Path(driving), options.crop_driving, reference, options.compare)


def _frames_at(driver: Driver, fps: Fraction) -> int:
    """How many frames a moving driver lasts for at the rate of the result."""
    return math.ceil(driver.frames * fps / driver.fps)


def _names(driving: Sequence[Driving]) -> Iterator[str]:
    for number, each in enumerate(driving, 1):
        yield f"template {number}" if isinstance(each, Template) else str(each)


def _steering(run: Run, face: SourceFace, driver: Driver, options: AnimateOptions) -> Steering:
    still, animal, scores = None, None, None
    if isinstance(face, StillFace):
        still, animal, scores = face.still.motion, face.animal, face.scores
    first, openings = driver.first, driver.first_openings
    if driver.alike:
        like = driver.alike(scores)
        first, openings = first._replace(expression=like.motion.expression), like.openings
    return Steering(run.engine, still, first, driver.is_photo, options, openings, animal)


def _finisher(
    stack: ExitStack,
    run: Run,
    source: Source,
    drivers: Sequence[Driver],
    fps: Fraction,
    targets: Sequence[Path],
    options: AnimateOptions,
) -> Finisher:
    """The end of the pipeline, with its files open."""
    size = run.engine.variant.output_size
    pastes = options.paste_back and options.crop
    shape = source.shape if pastes else (size, size)
    audio = _sound(source, drivers, options)
    write = stack.enter_context(
        picture_writer(targets[0], fps, shape, audio, options.overwrite, options.codec, options.alpha)
    )
    sheet = None
    if options.compare:
        columns, rows = 2 + any(driver.has_pictures for driver in drivers), len(source.faces)
        tiles = (size * rows, size * columns)
        sheet = Sheet(
            stack.enter_context(picture_writer(targets[1], fps, tiles, audio, options.overwrite)),
            size,
            rows,
            columns,
        )
    compositor = None
    if pastes:
        compositor = Compositor(
            source.shape,
            source.is_photo,
            source.bystanders,
            options.alpha,
            options.mask,
            options.match_colour,
            options.detail,
            run.engine.variant.replicate_border,
        )
    return Finisher(run.clock, source, size, compositor, write, sheet)


def _sound(source: Source, drivers: Sequence[Driver], options: AnimateOptions) -> Path | None:
    """The file whose sound the result has."""
    driving = next((driver.audio for driver in drivers if driver.audio), None)
    if options.audio == "none":
        return None
    return driving or source.audio if options.audio == "driving" else source.audio or driving


def _notes(
    run: Run,
    report: Report,
    source: Source,
    drivers: Sequence[Driver],
    lengths: Sequence[int],
    options: AnimateOptions,
) -> Iterator[str]:
    if source.note:
        yield source.note
    if options.faces == "largest" and source.found > 1:
        yield f"{source.found} faces found in {source.name}: the largest was animated"
    if report.passed:
        yield f"no chosen face in {stretches_note(report.passed, 'SOURCE')}: unchanged in the result"
    for driver in drivers:
        if driver.held:
            yield held_note(driver.held)
    if source.count and lengths and source.count != min(lengths):
        yield (
            f"SOURCE has {count(source.count)} and DRIVING lasts for {min(lengths)} of them at its rate: the result"
            f" has {report.frames}"
        )
    if options.stitching and not run.engine.can_stitch:
        yield "these weights bring no stitching module: animated without stitching"
    turns = options.motion == "relative" and options.region in ("all", "pose") and not options.photo_pose
    if turns and any(driver.is_photo for driver in drivers):
        yield "a driving photo gives its expression only: use --photo-pose to take its head pose too"
