"""Dividing tracks into clips: each of one person, without fades, well lit, in one window, long enough, and moving.

A clip's window is one fixed square: the head moves inside it as it moves in the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.labels import Labels, make_labels
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import Dropped
from liveportrait.data.preparation.quality import (
    FaceMeasures,
    Quality,
    Reason,
    appearance_reason,
    exposure_reason,
    faded_ends,
    jitter,
    movement_reason,
    quality,
    quality_reason,
)
from liveportrait.data.preparation.tracks import FaceTrack
from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.face import FaceAnalyzer
from liveportrait.types import Array, Image

RAISED = 0.04  # how far, in sides, the window's centre lies above the landmarks' centre: room for hair
MAX_SHIFT = 0.12  # how far, in sides, the window may be moved at the input's edge
MARGIN = 0.015  # minimum distance, in sides, of the landmarks' box from the window's edge
ROOMIER = 1.06  # a window larger by this factor is tried before a clip is divided
STEPS = 8  # window sizes to try
NEIGHBOURS = 4  # frames on either side over which a frame's lighting is smoothed
CONTEXT = 3  # embeddings on either side of a possible change of identity, whose means are compared

Span = tuple[int, int]  # first frame of a track, frame after the last


class ClipWindow(NamedTuple):
    """A square of the input, in integer px."""

    x: int
    y: int
    side: int

    def to_crop(self, points: Array) -> Array:
        """Convert points (...,3) in px of the input to px of the 256 px crop; pixel centres lie at integers."""
        scale = np.float32(PICTURE_SIDE / self.side)
        moved = (points[..., :2] + np.float32(0.5) - np.array([self.x, self.y], np.float32)) * scale
        return np.concatenate([moved - np.float32(0.5), points[..., 2:] * scale], axis=-1).astype(np.float32)

    def cut_out(self, image: Image) -> Image:
        """The window of a picture (H,W,3) as (256,256,3): averaged if it shrinks, otherwise bicubic."""
        part = image[self.y : self.y + self.side, self.x : self.x + self.side]
        interpolation = cv2.INTER_AREA if self.side > PICTURE_SIDE else cv2.INTER_CUBIC
        return np.asarray(
            cv2.resize(part, (PICTURE_SIDE, PICTURE_SIDE), interpolation=interpolation), np.uint8
        )


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """Frames of one input that become one sample; a picture has one frame."""

    start: int  # first frame, at the clips' rate
    window: ClipWindow
    labels: Labels  # empty: unlabelled
    quality: Quality
    embedding: Array | None  # (128,) mean over the clip; None: unlabelled
    frames: int


def boxes_of(landmarks: Array) -> Array:
    """Boxes (T,4) x0, y0, x1, y1 of landmarks (T,478,3)."""
    xy = landmarks[..., :2]
    return np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1)


def fit_window(
    boxes: Array, size: tuple[int, int], options: PrepareOptions, room: float = 1.0
) -> ClipWindow | None:
    """The window around the median box of (T,4), inside an input of width and height `size`.

    Its side is `room` · `options.window` times the box's longer side; near the input's edge it is smaller, but at least
    `options.tightest_window` times. None if even that does not fit.
    """
    low, high = np.median(boxes[:, :2], axis=0), np.median(boxes[:, 2:], axis=0)
    face = float((high - low).max())
    for share in np.linspace(room * options.window, options.tightest_window, STEPS):
        side = round(share * face)
        if not 1 <= side <= min(size):
            continue
        wanted = (low + high) / 2 - side * np.array([0.5, 0.5 + RAISED])
        corner = np.clip(np.round(wanted), 0, np.array(size) - side)
        if np.abs(corner - wanted).max() <= MAX_SHIFT * side:
            return ClipWindow(int(corner[0]), int(corner[1]), side)
    return None


def inside(boxes: Array, window: ClipWindow) -> NDArray[np.bool_]:
    """Whether (T,) each box (T,4) lies in the window."""
    gap = MARGIN * window.side
    corner = np.array([window.x, window.y])
    above = (boxes[:, :2] >= corner + gap).all(axis=1)
    return np.asarray(above & (boxes[:, 2:] <= corner + window.side - gap).all(axis=1))


def divide_by_window(
    boxes: Array, size: tuple[int, int], options: PrepareOptions, start: int = 0
) -> Iterator[tuple[int, int, ClipWindow | None]]:
    """Divide a clip into parts in which the face stays in one window: first frame, frame after the last, and window.

    Parts have at least `options.min_frames` frames; the window is None if none fits.
    """
    if len(boxes) < options.min_frames:
        return
    window, roomier = (fit_window(boxes, size, options, room) for room in (1.0, ROOMIER))
    for found in (window, roomier):
        if found is not None and inside(boxes, found).all():
            yield start, start + len(boxes), found
            return
    keeps = inside(boxes, window) if window is not None else np.zeros(len(boxes), bool)
    edges = np.flatnonzero(np.diff(keeps)) + 1
    if not len(edges):
        yield start, start + len(boxes), None
        return
    for part in np.split(np.arange(len(boxes)), edges):
        yield from divide_by_window(boxes[part], size, options, start + int(part[0]))


class TrackDivider:
    """Divides the tracks of one video into clips, and records what is dropped and why."""

    def __init__(self, size: tuple[int, int], analyzer: FaceAnalyzer, options: PrepareOptions) -> None:
        """`size` is the width and height of the video, px."""
        self._size = size
        self._analyzer = analyzer
        self._options = options
        self.clips: list[PreparedClip] = []
        self.dropped: list[Dropped] = []

    def add(self, track: FaceTrack) -> None:
        """Divide a track."""
        for one_person in self._split_by_identity(track):
            for span in self._split_by_lighting(track, one_person):
                self._add_clips(track, span)

    def _drop(self, track: FaceTrack, span: Span, reason: Reason) -> None:
        start, end = ((track.start + frame) / self._options.fps for frame in span)
        if end > start:
            self.dropped.append(Dropped(*reason, start_s=round(start, 3), end_s=round(end, 3)))

    def _split_by_identity(self, track: FaceTrack) -> Iterator[Span]:
        """Spans in which the face keeps its identity; frames around a change are dropped."""
        start = first = 0
        for index in range(1, len(track.embeddings)):
            (last_frame, last), (frame, present) = track.embeddings[index - 1 : index + 1]
            before = np.mean([e for _, e in track.embeddings[max(first, index - CONTEXT) : index]], axis=0)
            after = np.mean([e for _, e in track.embeddings[index : index + CONTEXT]], axis=0)
            gap = min(float(np.linalg.norm(after - before)), float(np.linalg.norm(present - last)))
            if gap > self._options.identity_jump:
                yield start, last_frame + 1
                self._drop(track, (last_frame + 1, frame), ("identity changes", f"distance {gap:.2f}"))
                start, first = frame, index
        yield start, len(track.faces)

    def _split_by_lighting(self, track: FaceTrack, span: Span) -> Iterator[Span]:
        """Spans without fades and badly lit frames, at least as long as the shortest clip."""
        measures = track.measures[slice(*span)]
        contrast = np.array([seen.contrast for seen in measures], np.float32)
        first, end = faded_ends(contrast)
        self._drop(track, (span[0], span[0] + first), ("fade", f"contrast down to {contrast.min():.0f}"))
        self._drop(track, (span[0] + end, span[1]), ("fade", f"contrast down to {contrast.min():.0f}"))
        reasons = [exposure_reason(seen, self._options) for seen in _smoothed(measures[first:end])]
        words = [reason[0] if reason else "" for reason in reasons]
        edges = [0, *(k for k in range(1, len(words)) if words[k] != words[k - 1]), len(words)]
        for low, high in pairwise(edges):
            part = span[0] + first + low, span[0] + first + high
            reason = reasons[low] if low < high else None
            if reason is not None:
                self._drop(track, part, reason)
            elif high - low >= self._options.min_frames:
                yield part
            else:
                self._drop(track, part, ("short", f"{(high - low) / self._options.fps:.2f} s"))

    def _add_clips(self, track: FaceTrack, span: Span) -> None:
        """Divide a span by window, and keep the parts that are good enough."""
        landmarks = np.stack([face.landmarks for face in track.faces[slice(*span)]])
        covered = span[0]
        for first, end, window in divide_by_window(boxes_of(landmarks), self._size, self._options, span[0]):
            self._drop(track, (covered, first), ("leaves the window", "and is soon back"))
            covered = end
            if window is None:
                self._drop(track, (first, end), ("no window", "the input's edge is too near the face"))
                continue
            found = self._make_clip(track, first, landmarks[first - span[0] : end - span[0]], window)
            if isinstance(found, PreparedClip):
                self.clips.append(found)
            else:
                self._drop(track, (first, end), found)
        self._drop(track, (covered, span[1]), ("leaves the window", "and is soon back"))

    def _make_clip(
        self, track: FaceTrack, first: int, landmarks: Array, window: ClipWindow
    ) -> PreparedClip | Reason:
        """The clip of T frames starting at `first` with landmarks (T,478,3), or the reason to drop it."""
        end = first + len(landmarks)
        measures = track.measures[first:end]
        heights = np.ptp(landmarks[..., 1], axis=1)
        scores = np.array([face.score for face in track.faces[first:end]], np.float32)
        sharpness = float(np.median([seen.sharpness for seen in measures]))
        reason = appearance_reason(sharpness, heights, scores, self._options)
        reason = reason or movement_reason(landmarks, track.differences[first:end], self._options)
        found = quality(measures, heights, scores, jitter(landmarks))
        reason = reason or quality_reason(found, self._options)
        if reason is not None:
            return reason
        return PreparedClip(
            start=track.start + first,
            window=window,
            labels=make_labels(window.to_crop(landmarks), self._analyzer),
            quality=found,
            embedding=_mean_embedding(track, first, end),
            frames=len(landmarks),
        )


def _smoothed(measures: list[FaceMeasures]) -> list[FaceMeasures]:
    """Each frame's measures, replaced by the median over its neighbourhood so that flicker does not divide a clip."""
    if not measures:
        return []
    table = np.array(measures)
    padded = np.pad(table, ((NEIGHBOURS, NEIGHBOURS), (0, 0)), mode="edge")
    shifted = [padded[k : k + len(table)] for k in range(2 * NEIGHBOURS + 1)]
    return [FaceMeasures(*row) for row in np.median(shifted, axis=0).tolist()]


def _mean_embedding(track: FaceTrack, first: int, end: int) -> Array:
    """Mean of the embeddings (128,) taken in the span, or else the last one taken before it."""
    within = [embedding for frame, embedding in track.embeddings if first <= frame < end]
    if not within:
        within = [embedding for frame, embedding in track.embeddings if frame <= first][-1:]
    return np.asarray(np.mean(within, axis=0, dtype=np.float64), np.float32)
