"""What is evaluated on: held-out clips and pictures of shards, or videos and photos as they are."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.driver.reference import TrackedFace, track_face
from liveportrait.animation.session import Session
from liveportrait.data.shards import OnBroken, Sample, is_held_out, read_shard
from liveportrait.errors import UserError
from liveportrait.evaluation.protocols.reenact import COMPARED_SIDE
from liveportrait.face.crop import CropWindow, crop, source_window, to_input
from liveportrait.media import VideoReader, check_input, load_image, media_kind
from liveportrait.metrics.images import Picture, is_well_exposed

BURST = 16  # consecutive frames, from the middle of a clip, on which jitter_ratios is measured
SHARD_SUFFIX = ".tar"


@dataclass(frozen=True, eq=False)
class Clip:
    """Some frames of one person's cropped face."""

    key: str
    frames: Picture  # (T,256,256,3): the first frame, then every so-many-th
    identity: str = ""
    burst: Picture | None = None  # (B,256,256,3) consecutive frames


@dataclass(frozen=True, eq=False)
class Still:
    """A source: a face, and the picture that it is pasted back into."""

    key: str
    identity: str
    face: Picture  # (256,256,3)
    whole: Picture  # (H,W,3)
    window: CropWindow  # of the face in `whole`
    is_well_exposed: bool


class EvalItem(Protocol):
    """A clip or a picture that is decoded when it is needed."""

    key: str
    identity: str
    is_video: bool

    def clip(self, stride: int) -> Clip:
        """Every `stride`-th frame, and a burst of consecutive ones. A picture is a clip of one frame."""
        ...

    def still(self) -> Still:
        """The picture, or the first frame."""
        ...


class ShardItem:
    """A sample of a shard."""

    def __init__(self, sample: Sample) -> None:
        self.key, self.identity, self.is_video = sample.key, sample.identity, sample.is_video
        self._sample = sample

    def clip(self, stride: int) -> Clip:
        chosen, burst = frame_numbers(len(self._sample.rotation), stride)
        wanted = np.union1d(chosen, burst)
        frames = self._sample.frames(wanted)
        if len(frames) != len(wanted):
            raise UserError(
                f"Sample {self.key} has labels for {len(self._sample.rotation)} frames but shows fewer: "
                "prepare its shard anew."
            )
        sized = np.stack([to_input(frame, COMPARED_SIDE) for frame in frames])
        rows = [np.searchsorted(wanted, numbers) for numbers in (chosen, burst)]
        return Clip(self.key, sized[rows[0]], self.identity, sized[rows[1]])

    def still(self) -> Still:
        frames = self.clip(stride=8).frames if self.is_video else self._sample.frames()
        face = to_input(frames[0], COMPARED_SIDE)
        return Still(self.key, self.identity, face, *mirrored(face), is_well_exposed(frames))


class FileItem:
    """A video or a photo: the face is found, and cut out as `animate` cuts a driver's or a source's."""

    def __init__(self, path: Path, session: Session) -> None:
        self.key, self.identity = path.name, path.stem
        self.is_video = media_kind(path) == "video"
        self._path, self._session = path, session

    @cached_property
    def _tracked(self) -> TrackedFace:
        return track_face(self._session, VideoReader(self._path), "first")

    def clip(self, stride: int) -> Clip:
        if not self.is_video:
            return Clip(self.key, self.still().face[None], self.identity)
        start = int(self._tracked.found.argmax())
        chosen, burst = (start + rows for rows in frame_numbers(len(self._tracked.found) - start, stride))
        wanted = set(chosen.tolist()) | set(burst.tolist())
        with VideoReader(self._path) as reader:
            frames = {
                number: self._cut(frame, self._tracked.window)
                for number, frame in enumerate(reader)
                if number in wanted
            }
        chosen_frames, burst_frames = (
            np.stack([frames[n] for n in rows.tolist()]) for rows in (chosen, burst)
        )
        return Clip(self.key, chosen_frames, self.identity, burst_frames)

    def still(self) -> Still:
        if self.is_video:
            frames = self.clip(stride=8).frames
            return Still(self.key, self.identity, frames[0], *mirrored(frames[0]), is_well_exposed(frames))
        whole = load_image(self._path)
        faces = self._session.analyzer.detect(whole)
        if not faces:
            raise UserError(f"no face found in {self._path}: leave it out, or use a picture that shows one")
        window = source_window(faces[0].landmarks)
        return Still(self.key, self.identity, self._cut(whole, window), whole, window, True)

    def _cut(self, image: Picture, window: CropWindow) -> Picture:
        return to_input(crop(image, window, self._session.engine.variant.replicate_border), COMPARED_SIDE)


def frame_numbers(count: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every `stride`-th of `count` frames, and the numbers of up to 16 consecutive ones in their middle."""
    start = max((count - BURST) // 2, 0)
    return np.arange(0, count, stride), np.arange(start, min(start + BURST, count))


def mirrored(face: Picture) -> tuple[Picture, CropWindow]:
    """A larger picture around a crop (S,S,3), continued by its mirror image, and the crop's window in it."""
    side = len(face)
    margin = side // 4
    whole = cv2.copyMakeBorder(face, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    return np.asarray(whole, np.uint8), CropWindow(
        np.array([[1, 0, -margin], [0, 1, -margin]], np.float32), side
    )


def open_items(
    data: Sequence[str], session: Session, one_in: int | None, on_broken: OnBroken | None = None
) -> list[EvalItem]:
    """All clips and pictures of shards (paths or patterns), videos and photos, in order.

    Of shards one in `one_in` identities, the held-out ones; everybody with None. Samples stay encoded in memory;
    broken ones are told to `on_broken` and left out, or raise.
    Raises UserError where a path or pattern names nothing, or nothing is held out.
    """
    if one_in is not None and one_in < 1:
        raise UserError(f"Held-out one in {one_in} makes no sense: give 1 or more, or --all.")
    if not data:
        raise UserError("There is nothing to evaluate on: name shards, videos or photos after the weights.")
    items: list[EvalItem] = []
    passed_over = 0
    for path in _paths(data):
        if path.suffix.lower() != SHARD_SUFFIX:
            items.append(FileItem(path, session))
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


def _paths(data: Sequence[str]) -> Iterator[Path]:
    for name in data:
        if Path(name).exists() or not glob.has_magic(name):
            yield check_input(name)
            continue
        found = sorted(path for path in glob.glob(name, recursive=True) if Path(path).is_file())
        if not found:
            raise UserError(f"No file matches {name}: correct the pattern.")
        yield from map(check_input, found)
