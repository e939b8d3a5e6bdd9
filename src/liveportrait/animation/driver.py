"""The driver: a video, a photo or a motion template, all as motions that arrive in small batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.extraction import extract_motion
from liveportrait.animation.reference import most_neutral_frame
from liveportrait.animation.report import Stretches
from liveportrait.animation.run import Run
from liveportrait.animation.streams import DEPTH, batches, nothing, read_ahead
from liveportrait.animation.tracking import Tracked, missing_reference, track_face
from liveportrait.choices import Reference
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow, crop, driving_window, to_input
from liveportrait.face.measures import most_similar_frame, opening_ratios
from liveportrait.face.tracker import largest_face
from liveportrait.media import VideoReader, load_image, media_kind
from liveportrait.motion import SeenKeypoints, Template, groups_for, motion_from_heads, read_template
from liveportrait.networks.interface import Motion
from liveportrait.networks.variants import Variant

PHOTO_FPS = Fraction(25)
AHEAD = 2  # batches whose motion is known before they are rendered
TEMPLATE_SUFFIXES = (".safetensors", ".pkl")

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class DrivingBatch:
    """Some frames of a driver, in order."""

    motion: Motion  # batch B
    openings: Tensor | None  # (B,3) of left eye, right eye and lips, where somebody measured them
    tiles: tuple[Image | None, ...]  # B crops (S,S,3) as M saw them; None from a template

    def __len__(self) -> int:
        return len(self.tiles)

    def take(self, rows: Sequence[int]) -> DrivingBatch:
        """The frames of these rows, in this order."""
        wanted = list(rows)
        return DrivingBatch(
            Motion(*(part[wanted] for part in self.motion)),
            None if self.openings is None else self.openings[wanted],
            tuple(self.tiles[row] for row in wanted),
        )

    def slices(self, size: int) -> Play:
        """All frames, up to `size` at a time."""
        for begin in range(0, len(self), size):
            yield self.take(range(begin, min(begin + size, len(self))))


Play = Generator[DrivingBatch, None, None]


@dataclass(frozen=True, eq=False)
class Driver:
    """What moves a face. `play` may be called again and again; close the iterator that it returns."""

    fps: Fraction
    frames: int  # how many there are; of a video in which no face was looked for, as the file says
    first: Motion  # batch 1: the reference, what relative motion starts from
    play: Callable[[Callable[[], None]], Play]  # given what a thread does before it runs M
    first_openings: Tensor | None = None  # (1,3) of the reference
    # The frame that looks most like a face with such scores.
    alike: Callable[[NDArray[np.float32] | None], DrivingBatch] | None = None
    is_photo: bool = False
    has_pictures: bool = True  # False for a template: no tiles
    audio: Path | None = None  # a file with sound
    cuts: tuple[int, ...] = ()  # frames at which a new scene begins
    tracked: Tracked | None = None

    @property
    def held(self) -> Stretches:
        """First and last frame of each stretch without a face, through which the last motion is held."""
        return self.tracked.gaps() if self.tracked else ()


def is_template(path: Path) -> bool:
    """Whether a driving file is a motion template, by its suffix."""
    return path.suffix.lower() in TEMPLATE_SUFFIXES


def open_driver(
    run: Run, path: Path, crops: bool, reference: Reference = "first", pictures: bool = False
) -> Driver:
    """The driver in a motion template, photo or video; `crops`: find the face in it and cut it out.

    `reference` names the frame that relative motion starts from; with "match" that is the first one, and a video's
    `alike` tells where expressions should start from; `pictures`: its tiles will be shown. Raises
    `UserError` where the file is none of these, shows no face, or the reference frame does not serve.
    """
    if is_template(path):
        return template_driver(run, read_template(path), str(path), reference)
    if media_kind(path) == "image":
        return photo_driver(run, path, crops)
    return video_driver(run, path, crops, reference, pictures)


def template_driver(
    run: Run, template: Template, name: str = "the motion template", reference: Reference = "first"
) -> Driver:
    """A template as driver; a single frame counts as a photo. Raises `UserError` for another layout."""
    groups = groups_for(run.engine.variant)
    template.require_layout(groups, name)
    motion = Motion(*(part.to(run.engine.device) for part in template.motion))
    openings = None
    if template.eye_ratios is not None and template.lip_ratios is not None:
        openings = torch.cat([template.eye_ratios, template.lip_ratios], dim=1).to(run.engine.device)
    count = len(template)
    if isinstance(reference, int) and reference >= count:
        raise UserError(missing_reference(reference, name, count))
    start = reference if isinstance(reference, int) else 0
    if reference == "auto":
        start = most_neutral_frame(template, groups)
    whole = DrivingBatch(motion, openings, (None,) * count)

    def play(prepare: Callable[[], None] = nothing) -> Play:
        yield from whole.slices(run.batch)

    first = whole.take([start])
    return Driver(
        template.fps, count, first.motion, play, first.openings, is_photo=count == 1, has_pictures=False
    )


def photo_driver(run: Run, path: Path, crops: bool) -> Driver:
    """A photo as driver: one frame."""
    with run.clock.step("decode"):
        image = load_image(path)
    window, face, seen, openings = None, None, None, None
    if crops:
        with run.clock.step("detect"):
            face = largest_face(run.analyzer, image)
        if face is None:
            raise UserError(
                f"no face found in {path}: use a photo that shows one, or --no-crop-driving if it is a"
                " cropped face"
            )
        window = driving_window([face.landmarks])
        seen = SeenKeypoints.of([face.landmarks])
        openings = torch.from_numpy(opening_ratios(face.landmarks)[None]).to(run.engine.device)
    tile = _cut(image, window, run.engine.variant)
    with run.clock.step("motion"):
        motion = extract_motion(run.engine, tile[None], seen, window)

    def play(prepare: Callable[[], None] = nothing) -> Play:
        yield DrivingBatch(motion, openings, (tile,))

    return Driver(PHOTO_FPS, 1, motion, play, openings, is_photo=True)


def video_driver(
    run: Run, path: Path, crops: bool, reference: Reference = "first", pictures: bool = False
) -> Driver:
    """A video as driver. With `crops` a first pass finds the face, and one window for the whole video.

    A frame without a face repeats the last motion; frames before the first face take the reference's. Where keypoints
    are landmarks that pass has measured all motion, and the video is read again only if its `pictures` are wanted.
    """
    reader = VideoReader(path)
    tracked = track_face(run, reader, reference) if crops else None
    window = tracked.window if tracked else None
    variant, device = run.engine.variant, run.engine.device
    start = tracked.reference_frame if tracked else _frame(reader, reference)
    first_openings, openings = None, None
    with run.clock.step("motion"):
        seen = None
        if tracked:
            seen = tracked.reference_head.keypoints
            openings = torch.from_numpy(tracked.ratios).to(device)
            first_openings = openings[tracked.reference : tracked.reference + 1]
        first = extract_motion(run.engine, _cut(start, window, variant)[None], seen, window)
        whole = None
        if tracked and groups_for(variant).keypoints_are_landmarks:
            whole = DrivingBatch(_followed(tracked, first), openings, (None,) * len(tracked.found))

    def moving(frames: Iterator[Image]) -> Play:
        last, done = first, 0
        for group in batches(frames, run.batch):
            here = range(done, done + len(group))
            with run.clock.step("crop"):
                tiles = tuple(_cut(frame, window, variant) for frame in group)
            if whole:
                yield replace(whole.take(here), tiles=tiles)
            else:
                with run.clock.step("motion"):
                    shown = tracked.found[done : here.stop] if tracked else np.ones(len(group), bool)
                    motion = _motions(run.engine, last, tiles, shown)
                last = Motion(*(part[-1:] for part in motion))
                yield DrivingBatch(motion, None if openings is None else openings[done : here.stop], tiles)
            done = here.stop

    def play(prepare: Callable[[], None] = nothing) -> Play:
        if whole and not pictures:
            yield from whole.slices(run.batch)
            return
        frames_due, motion_due = run.clock.gauge("decoded", DEPTH), run.clock.gauge("moved", AHEAD)
        with (
            reader,
            read_ahead(run.clock.each("decode", reader), DEPTH, frames_due) as frames,
            read_ahead(moving(frames), AHEAD, motion_due, prepare) as ahead,
        ):
            yield from ahead

    def alike(own: NDArray[np.float32] | None) -> DrivingBatch:
        assert tracked is not None
        row = most_similar_frame(tracked.looks, own)
        if whole:
            return whole.take([row])
        tile = _cut(_frame(reader, row), window, variant)
        with run.clock.step("motion"):
            motion = extract_motion(run.engine, tile[None], None, window)
        return DrivingBatch(motion, None if openings is None else openings[row : row + 1], (tile,))

    return Driver(
        reader.info.fps,
        len(tracked.found) if tracked else reader.info.frame_count,
        first,
        play,
        first_openings,
        alike=alike if tracked and tracked.looks else None,
        has_pictures=whole is None or pictures,
        audio=path if reader.info.has_audio else None,
        cuts=tracked.cuts if tracked else (),
        tracked=tracked,
    )


def _frame(reader: VideoReader, reference: Reference) -> Image:
    """The reference frame of a video in which nobody looks for a face. Raises `UserError` where there is none."""
    if reference == "auto":
        raise UserError(
            "the most neutral frame is found by its face: leave out --no-crop-driving or --reference auto"
        )
    wanted = reference if isinstance(reference, int) else 0
    with reader:
        frame = next(islice(reader, wanted, None), None)
    if frame is None:
        raise UserError(missing_reference(reference, reader.path, reader.info.frame_count))
    return frame


def _followed(tracked: Tracked, first: Motion) -> Motion:
    """Motions of all frames of a tracked video whose reference frame has the motion `first`."""
    window = tracked.window
    heads, reference = (each.through(window) for each in (tracked.heads, tracked.reference_head))
    return _held(first, motion_from_heads(first, reference, heads, window.size), tracked.found)


def _motions(engine: Engine, last: Motion, tiles: Sequence[Image], shown: NDArray[np.bool_]) -> Motion:
    """What M sees of the tiles; where a tile does not show the face, the motion before it, and `last` before all."""
    if not shown.any():
        return Motion(*(part.expand(len(tiles), *part.shape[1:]) for part in last))
    seen = np.stack([tile for tile, is_shown in zip(tiles, shown, strict=True) if is_shown])
    return _held(last, engine.extract_motion(seen), shown)


def _held(last: Motion, motion: Motion, shown: NDArray[np.bool_]) -> Motion:
    """Motions of all frames from those that are `shown`; where none is, the one before, and `last` before all."""
    if shown.all():
        return motion
    rows = torch.from_numpy(np.cumsum(shown)).to(motion.scale.device)
    return Motion(*(torch.cat(parts)[rows] for parts in zip(last, motion, strict=True)))


def _cut(image: Image, window: CropWindow | None, variant: Variant) -> Image:
    cut = crop(image, window, variant.replicate_border) if window else image
    return to_input(cut, variant.input_size)
