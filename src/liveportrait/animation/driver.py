"""The driver: a video, a photo or a motion template, all as motions that arrive in small batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.extraction import extract_motion
from liveportrait.animation.neutral import calmest
from liveportrait.animation.report import Stretches
from liveportrait.animation.run import Run
from liveportrait.animation.streams import DEPTH, batches, nothing, read_ahead
from liveportrait.animation.tracking import Tracked, find_face, missing_reference, openings_of, track_face
from liveportrait.choices import Reference
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow, crop, driving_window, to_input
from liveportrait.media import VideoReader, load_image, media_kind
from liveportrait.motion import SeenKeypoints, Template, groups_for, read_template
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


Play = Generator[DrivingBatch, None, None]


@dataclass(frozen=True, eq=False)
class Driver:
    """What moves a face. `play` may be called again and again; close the iterator that it returns."""

    fps: Fraction
    frames: int  # how many there are; of a video in which no face was looked for, as the file says
    first: Motion  # batch 1: the reference, what relative motion starts from
    play: Callable[[Callable[[], None]], Play]  # given what a thread does before it runs M
    first_openings: Tensor | None = None  # (1,3) of the reference
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


def open_driver(run: Run, path: Path, crops: bool, reference: Reference = "first") -> Driver:
    """The driver in a motion template, photo or video; `crops`: find the face in it and cut it out.

    `reference` names the frame that relative motion starts from. Raises `UserError` where the file is none of
    these, shows no face, or the reference frame does not serve.
    """
    if is_template(path):
        return template_driver(run, read_template(path), str(path), reference)
    if media_kind(path) == "image":
        return photo_driver(run, path, crops)
    return video_driver(run, path, crops, reference)


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
        start = calmest(template, groups)
    whole = DrivingBatch(motion, openings, (None,) * count)

    def play(prepare: Callable[[], None] = nothing) -> Play:
        for begin in range(0, count, run.batch):
            yield whole.take(range(begin, min(begin + run.batch, count)))

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
            face = find_face(run.analyzer, image)
        if face is None:
            raise UserError(
                f"no face found in {path}: use a photo that shows one, or --no-crop-driving if it is a"
                " cropped face"
            )
        window = driving_window([face.landmarks])
        seen = SeenKeypoints.of([face.landmarks])
        openings = torch.from_numpy(openings_of(face)[None]).to(run.engine.device)
    tile = _cut(image, window, run.engine.variant)
    with run.clock.step("motion"):
        motion = extract_motion(run.engine, tile[None], seen, window)

    def play(prepare: Callable[[], None] = nothing) -> Play:
        yield DrivingBatch(motion, openings, (tile,))

    return Driver(PHOTO_FPS, 1, motion, play, openings, is_photo=True)


def video_driver(run: Run, path: Path, crops: bool, reference: Reference = "first") -> Driver:
    """A video as driver. With `crops` a first pass finds the face, and one window for the whole video.

    A frame without a face repeats the last motion; frames before the first face take the reference's.
    """
    reader = VideoReader(path)
    tracked = track_face(run, reader, reference) if crops else None
    window = tracked.window if tracked else None
    keypoints = tracked.keypoints if tracked else None
    variant, device = run.engine.variant, run.engine.device
    start = tracked.reference_frame if tracked else _frame(reader, reference)
    first_openings = None
    with run.clock.step("motion"):
        seen = None
        if tracked:
            row = tracked.row(tracked.reference)
            seen = tracked.keypoints[row : row + 1]
            first_openings = torch.from_numpy(tracked.ratios[tracked.reference][None]).to(device)
        first = extract_motion(run.engine, _cut(start, window, variant)[None], seen, window)

    def moving(frames: Iterator[Image]) -> Play:
        last, done, shown = first, 0, 0
        for group in batches(frames, run.batch):
            with run.clock.step("crop"):
                tiles = [_cut(frame, window, variant) for frame in group]
            with run.clock.step("motion"):
                here = slice(done, done + len(group))
                seen = tracked.found[here] if tracked else np.ones(len(group), bool)
                now = slice(shown, shown + int(seen.sum()))
                tracks = keypoints[now] if keypoints else None
                motion = _motions(run.engine, last, tiles, seen, tracks, window)
            last, shown = Motion(*(part[-1:] for part in motion)), now.stop
            done += len(group)
            openings = torch.from_numpy(tracked.ratios[here]).to(device) if tracked else None
            yield DrivingBatch(motion, openings, tuple(tiles))

    def play(prepare: Callable[[], None] = nothing) -> Play:
        frames_due, motion_due = run.clock.gauge("decoded", DEPTH), run.clock.gauge("moved", AHEAD)
        with (
            reader,
            read_ahead(run.clock.each("decode", reader), DEPTH, frames_due) as frames,
            read_ahead(moving(frames), AHEAD, motion_due, prepare) as ahead,
        ):
            yield from ahead

    return Driver(
        reader.info.fps,
        len(tracked.found) if tracked else reader.info.frame_count,
        first,
        play,
        first_openings,
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
    wanted = 0 if reference == "first" else reference
    with reader:
        frame = next(islice(reader, wanted, None), None)
    if frame is None:
        raise UserError(missing_reference(reference, reader.path, reader.info.frame_count))
    return frame


def _motions(
    engine: Engine,
    last: Motion,
    tiles: list[Image],
    seen: NDArray[np.bool_],
    keypoints: SeenKeypoints | None,
    window: CropWindow | None,
) -> Motion:
    """Motions of the tiles; where a tile is not `seen`, the one before it, and `last` before all."""
    if not seen.any():
        return Motion(*(part.expand(len(tiles), *part.shape[1:]) for part in last))
    shown = np.stack([tile for tile, is_seen in zip(tiles, seen, strict=True) if is_seen])
    motion = extract_motion(engine, shown, keypoints, window)
    if seen.all():
        return motion
    rows = torch.from_numpy(np.cumsum(seen)).to(engine.device)
    return Motion(*(torch.cat(parts)[rows] for parts in zip(last, motion, strict=True)))


def _cut(image: Image, window: CropWindow | None, variant: Variant) -> Image:
    cut = crop(image, window, variant.continues_border) if window else image
    return to_input(cut, variant.input_size)
