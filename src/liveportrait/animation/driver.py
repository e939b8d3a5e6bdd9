"""The driver: a video, a photo or a motion template, all as motions that arrive in small batches."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.extraction import extract_motion
from liveportrait.animation.run import Run
from liveportrait.animation.streams import batches, read_ahead
from liveportrait.animation.tracking import Tracked, find_face, track_face
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow, crop, driving_window, to_input
from liveportrait.media import VideoReader, load_image, media_kind
from liveportrait.motion import SeenKeypoints, Template, groups_for, read_template
from liveportrait.networks.interface import Motion
from liveportrait.networks.variants import Variant

PHOTO_FPS = Fraction(25)
TEMPLATE_SUFFIXES = (".safetensors", ".pkl")

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class DrivingBatch:
    """Some frames of a driver, in order."""

    motion: Motion  # batch B
    tiles: tuple[Image | None, ...]  # B crops (S,S,3) as M saw them; None from a template


Play = Generator[DrivingBatch, None, None]


@dataclass(frozen=True, eq=False)
class Driver:
    """What moves the source. `play` may be called again and again; close the iterator that it returns."""

    fps: Fraction
    frames: int | None  # how many there are, where it is known beforehand
    first: Motion  # batch 1: what relative motion starts from
    play: Callable[[], Play]
    is_photo: bool = False
    has_pictures: bool = True  # False for a template: no tiles
    audio: Path | None = None  # a file with sound
    tracked: Tracked | None = None

    @property
    def held(self) -> tuple[tuple[int, int], ...]:
        """First and last frame of each stretch without a face, through which the last motion is held."""
        return self.tracked.gaps() if self.tracked else ()


def is_template(path: Path) -> bool:
    """Whether a driving file is a motion template, by its suffix."""
    return path.suffix.lower() in TEMPLATE_SUFFIXES


def open_driver(run: Run, path: Path, crops: bool) -> Driver:
    """The driver in a motion template, photo or video; `crops`: find the face in it and cut it out.

    Raises `UserError` where the file is none of these, or shows no face.
    """
    if is_template(path):
        return template_driver(run, read_template(path), str(path))
    if media_kind(path) == "image":
        return photo_driver(run, path, crops)
    return video_driver(run, path, crops)


def template_driver(run: Run, template: Template, name: str = "the motion template") -> Driver:
    """A template as driver; a single frame counts as a photo. Raises `UserError` for another layout."""
    template.require_layout(groups_for(run.engine.variant), name)
    motion = Motion(*(part.to(run.engine.device) for part in template.motion))
    count = len(template)

    def play() -> Play:
        for start in range(0, count, run.batch):
            part = Motion(*(value[start : start + run.batch] for value in motion))
            yield DrivingBatch(part, (None,) * part.scale.shape[0])

    first = Motion(*(value[:1] for value in motion))
    return Driver(template.fps, count, first, play, is_photo=count == 1, has_pictures=False)


def photo_driver(run: Run, path: Path, crops: bool) -> Driver:
    """A photo as driver: one frame."""
    with run.clock.step("decode"):
        image = load_image(path)
    window, face = None, None
    if crops:
        with run.clock.step("detect"):
            face = find_face(run.analyzer, image)
        if face is None:
            raise UserError(
                f"no face found in {path}: use a photo that shows one, or --no-crop-driving if it is a"
                " cropped face"
            )
        window = driving_window([face.landmarks])
    tile = _cut(image, window, run.engine.variant)
    with run.clock.step("motion"):
        seen = SeenKeypoints.of([face.landmarks]) if face else None
        motion = extract_motion(run.engine, tile[None], seen, window)

    def play() -> Play:
        yield DrivingBatch(motion, (tile,))

    return Driver(PHOTO_FPS, 1, motion, play, is_photo=True)


def video_driver(run: Run, path: Path, crops: bool) -> Driver:
    """A video as driver. With `crops` a first pass finds the face, and one window for the whole video.

    A frame without a face repeats the last motion; frames before the first face take the first one's.
    """
    reader = VideoReader(path)
    tracked = track_face(run, reader) if crops else None
    window = tracked.window if tracked else None
    variant = run.engine.variant
    if tracked:
        first_frame = tracked.first_frame
    else:
        with reader:
            first_frame = next(iter(reader))
    keypoints = tracked.keypoints if tracked else None
    with run.clock.step("motion"):
        tile = _cut(first_frame, window, variant)
        first = extract_motion(run.engine, tile[None], keypoints[:1] if keypoints else None, window)

    def play() -> Play:
        last, done, shown = first, 0, 0
        with reader, read_ahead(run.clock.each("decode", reader)) as frames:
            for group in batches(frames, run.batch):
                with run.clock.step("motion"):
                    tiles = [_cut(frame, window, variant) for frame in group]
                    seen = tracked.found[done : done + len(group)] if tracked else np.ones(len(group), bool)
                    now = slice(shown, shown + int(seen.sum()))
                    tracks = keypoints[now] if keypoints else None
                    motion = _motions(run.engine, last, tiles, seen, tracks, window)
                last, shown = Motion(*(part[-1:] for part in motion)), now.stop
                done += len(group)
                yield DrivingBatch(motion, tuple(tiles))

    return Driver(
        reader.info.fps,
        len(tracked.found) if tracked else reader.info.frame_count,
        first,
        play,
        audio=path if reader.info.has_audio else None,
        tracked=tracked,
    )


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
