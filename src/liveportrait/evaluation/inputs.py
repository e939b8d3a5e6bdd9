"""Inputs of the evaluation: held-out clips and pictures from shards, or entire videos and photos."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.driver.tracking import TrackedFace, track_face
from liveportrait.data.shards import OnBroken, Sample, is_held_out, read_shard
from liveportrait.errors import UserError
from liveportrait.evaluation.context import COMPARED_SIDE, EvalContext
from liveportrait.face.crop import CropWindow, crop, source_window, to_input
from liveportrait.media import FrameArrays, VideoReader, check_input, load_image, media_kind
from liveportrait.media.arrays import DEFAULT_FPS
from liveportrait.metrics.expressions import EXPRESSIONS
from liveportrait.metrics.faces import rotation_distance
from liveportrait.metrics.images import is_well_exposed
from liveportrait.types import Image

BURST = 16  # consecutive frames, from the middle of a clip, on which jitter is measured
SHARD_SUFFIX = ".tar"
FOLDER_SUFFIXES = (SHARD_SUFFIX, ".jpg", ".jpeg", ".png", ".webp", ".mp4", ".mov", ".webm")
NO_PICTURES = np.empty((0, COMPARED_SIDE, COMPARED_SIDE, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class EvalClip:
    """Some frames of one person's cropped face."""

    key: str
    frames: Image  # (T,256,256,3): the first frame, then every `stride`-th
    identity: str = ""
    burst: Image = field(default_factory=NO_PICTURES.copy)  # (B,256,256,3) consecutive frames
    stride: int = 1
    fps: Fraction = DEFAULT_FPS  # rate of consecutive frames

    @property
    def driving(self) -> FrameArrays:
        """The chosen frames at their own, lower rate, which temporal smoothing needs to know."""
        return FrameArrays(self.frames, self.fps / self.stride, self.key)

    def burst_driving(self, after_first: bool = False) -> FrameArrays:
        """The burst at the clip's rate; `after_first` puts the first frame before it, for motion relative to that."""
        frames = np.concatenate([self.frames[:1], self.burst]) if after_first else self.burst
        return FrameArrays(frames, self.fps, self.key)


@dataclass(frozen=True, eq=False)
class EvalSource:
    """A source: a cropped face, and the picture that it is pasted back into."""

    key: str
    identity: str
    face: Image  # (256,256,3)
    whole: Image  # (H,W,3)
    window: CropWindow  # of the face in `whole`
    is_well_exposed: bool
    kind: str = ""


class EvalItem(Protocol):
    """A clip or a picture, decoded only when needed."""

    key: str
    identity: str
    is_video: bool
    kind: str
    """clip; for a picture in a shard: photo, generated or stylized; for a picture file: the name of its folder"""
    liveliness: float
    """of a clip: how much the face moves, as the mean standard deviation of its blendshapes; infinite for a file,
    because the user chose it"""
    turn: float
    """of a clip: how far the head turns from where it starts, degrees; 0 for a file"""

    def clip(self, stride: int) -> EvalClip:
        """Every `stride`-th frame and a burst of consecutive ones. A picture is a clip of one frame."""
        ...

    def evenly(self, count: int) -> EvalClip:
        """About `count` frames spread evenly over the clip, and the burst."""
        ...

    def source(self) -> EvalSource:
        """The picture, or the clip's first frame, as a source."""
        ...


class ShardItem:
    """A sample of a shard."""

    def __init__(self, sample: Sample) -> None:
        self.key, self.identity, self.is_video = sample.key, sample.identity, sample.is_video
        self.kind = "clip" if sample.is_video else sample.domain
        self.liveliness = float(sample.blendshapes[:, EXPRESSIONS].std(0).mean())
        self.turn = max(rotation_distance(each, sample.rotation[0]) for each in sample.rotation)
        self._sample = sample

    def clip(self, stride: int) -> EvalClip:
        chosen, burst = frame_numbers(len(self._sample.rotation), stride)
        wanted = np.union1d(chosen, burst)
        frames = self._sample.frames(wanted)
        if len(frames) != len(wanted):
            raise UserError(
                f"Sample {self.key} has labels for {len(self._sample.rotation)} frames but fewer pictures: "
                "prepare its shard again."
            )
        sized = np.stack([to_input(frame, COMPARED_SIDE) for frame in frames])
        rows = [np.searchsorted(wanted, numbers) for numbers in (chosen, burst)]
        return EvalClip(self.key, sized[rows[0]], self.identity, sized[rows[1]], stride)

    def evenly(self, count: int) -> EvalClip:
        return self.clip(max(len(self._sample.rotation) // count, 1))

    def source(self) -> EvalSource:
        frames = self.clip(stride=8).frames if self.is_video else self._sample.frames()
        face = to_input(frames[0], COMPARED_SIDE)
        return EvalSource(self.key, self.identity, face, *mirrored(face), is_well_exposed(frames), self.kind)


class FileItem:
    """A video or a photo. The face is detected and cropped as `animate` crops a driver's or a source's."""

    def __init__(self, path: Path, context: EvalContext) -> None:
        self.key, self.identity = path.name, path.stem
        self.is_video = media_kind(path) == "video"
        self.kind = "clip" if self.is_video else path.resolve().parent.name
        self.liveliness, self.turn = float("inf"), 0.0
        self._path, self._context = path, context

    @cached_property
    def _tracked(self) -> TrackedFace:
        return track_face(self._context.session(), VideoReader(self._path), "first", framing="follow")

    def clip(self, stride: int) -> EvalClip:
        if not self.is_video:
            return EvalClip(self.key, self.source().face[None], self.identity, stride=stride)
        window, start = self._tracked.windows[0], int(self._tracked.found.argmax())
        count = len(self._tracked.found) - start
        chosen, burst = (start + rows for rows in frame_numbers(count, stride))
        wanted = set(chosen.tolist()) | set(burst.tolist())
        with VideoReader(self._path) as reader:
            fps = reader.info.fps
            frames = {
                number: self._cut(frame, window) for number, frame in enumerate(reader) if number in wanted
            }
        chosen_frames, burst_frames = (
            np.stack([frames[n] for n in rows.tolist()]) for rows in (chosen, burst)
        )
        return EvalClip(self.key, chosen_frames, self.identity, burst_frames, stride, fps)

    def evenly(self, count: int) -> EvalClip:
        return self.clip(max(len(self._tracked.found) // count, 1))

    def source(self) -> EvalSource:
        if self.is_video:
            frames = self.clip(stride=8).frames
            face, exposed = frames[0], is_well_exposed(frames)
            return EvalSource(self.key, self.identity, face, *mirrored(face), exposed, self.kind)
        whole = load_image(self._path)
        faces = self._context.analyzer.detect(whole)
        if not faces:
            raise UserError(f"no face found in {self._path}: leave it out, or use a picture that shows one")
        window = source_window(faces[0].landmarks)
        return EvalSource(self.key, self.identity, self._cut(whole, window), whole, window, True, self.kind)

    def _cut(self, image: Image, window: CropWindow) -> Image:
        return to_input(crop(image, window, self._context.engine.variant.replicate_border), COMPARED_SIDE)


def frame_numbers(count: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of every `stride`-th of `count` frames, and of up to 16 consecutive ones from the middle."""
    start = max((count - BURST) // 2, 0)
    return np.arange(0, count, stride), np.arange(start, min(start + BURST, count))


def mirrored(face: Image) -> tuple[Image, CropWindow]:
    """A larger picture around a crop (S,S,3), padded by reflection, and the crop's window in it."""
    side = len(face)
    margin = side // 4
    whole = cv2.copyMakeBorder(face, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    return np.asarray(whole, np.uint8), CropWindow(
        np.array([[1, 0, -margin], [0, 1, -margin]], np.float32), side
    )


def open_items(
    data: Sequence[str], context: EvalContext, one_in: int | None, on_broken: OnBroken | None = None
) -> list[EvalItem]:
    """All clips and pictures from shards, videos and photos (paths, patterns or folders), in order.

    Shards contribute only their held-out identities, one in `one_in`; all of them if that is None. Samples stay
    encoded in memory. A broken sample is reported to `on_broken` and skipped; without `on_broken` it raises.
    Raises `UserError` if a path or pattern matches nothing, or if no identity is held out.
    """
    if one_in is not None and one_in < 1:
        raise UserError(f"--held-out-one-in is {one_in}: give 1 or more, or --all.")
    if not data:
        raise UserError("There is nothing to evaluate on: name shards, videos or photos after the weights.")
    items: list[EvalItem] = []
    passed_over = 0
    for path in expand_paths(data):
        if path.suffix.lower() != SHARD_SUFFIX:
            items.append(FileItem(path, context))
            continue
        for sample in read_shard(path, on_broken):
            if one_in is None or is_held_out(sample.identity, one_in):
                items.append(ShardItem(sample))
            else:
                passed_over += 1
    if not items:
        found = f"none of {passed_over} samples belongs to a held-out identity (one in {one_in})"
        reason = found if passed_over else "no labelled sample was found"
        raise UserError(f"Nothing to evaluate on in {' '.join(data)}: {reason}; give other data, or --all.")
    return items


def expand_paths(data: Sequence[str]) -> Iterator[Path]:
    """The files that paths, patterns and folders stand for. Raises `UserError` if one of them matches nothing."""
    for name in data:
        if Path(name).is_dir():
            yield from sorted(path for path in Path(name).iterdir() if path.suffix.lower() in FOLDER_SUFFIXES)
            continue
        if Path(name).exists() or not glob.has_magic(name):
            yield check_input(name)
            continue
        found = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())
        if not found:
            raise UserError(f"No file matches {name}: correct the pattern.")
        yield from map(check_input, found)
