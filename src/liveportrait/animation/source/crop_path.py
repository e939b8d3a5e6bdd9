"""Gliding crop windows for the faces of a source video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.source.observations import FaceObservations
from liveportrait.animation.source.photo import window_of
from liveportrait.choices import Reduction
from liveportrait.face.crop import CropWindow, Square
from liveportrait.motion import jitter
from liveportrait.motion.gliding import glided, stretches

BRIDGED = 12  # frames without the face across which its window keeps gliding


def gliding(squares: Sequence[Square | None], cuts: Sequence[int], fps: Fraction) -> list[Square]:
    """The squares (N) smoothed over time, one for each frame: held while there is none.

    Within a stretch the path of centre, size and roll keeps movement slower than 0.7 Hz, and its centre stays within
    0.12 sides of the measured one. At least one square must be given.
    """
    found = np.array([square is not None for square in squares])
    measured = np.array([_numbers(square) for square in squares if square is not None])
    rows = np.flatnonzero(found)
    path = np.empty((len(squares), 4))
    known = stretches(found, cuts, BRIDGED)
    for stretch in known:
        inside = (rows >= stretch.start) & (rows < stretch.stop)
        own = measured[inside]
        own[:, 3] = np.unwrap(own[:, 3])
        bridged = np.stack([np.interp(stretch, rows[inside], column) for column in own.T], axis=1)
        path[stretch.start : stretch.stop] = glided(bridged, fps)
    # Hold the start of the first stretch before it, and the end of each stretch after it.
    path[: known[0].start] = path[known[0].start]
    for stretch, following in zip(known, [*(part.start for part in known[1:]), len(squares)], strict=True):
        path[stretch.stop : following] = path[stretch.stop - 1]
    return [Square(row[:2], float(np.exp(row[2])), float(row[3])) for row in path]


def held(squares: Sequence[Square | None]) -> list[Square]:
    """The unsmoothed squares, one for each frame: gaps repeat the one before, or at the start the first one."""
    last = next(square for square in squares if square is not None)
    return [last := square or last for square in squares]


def corners(square: Square) -> NDArray[np.float64]:
    """Two opposite corners (2,2) of a square, px, which determine its position, size and roll."""
    cos, sin = np.cos(square.roll), np.sin(square.roll)
    reach = square.side / 2 * np.array([cos - sin, cos + sin])
    return np.stack([square.centre - reach, square.centre + reach])


def _numbers(square: Square) -> tuple[float, float, float, float]:
    return float(square.centre[0]), float(square.centre[1]), float(np.log(square.side)), square.roll


@dataclass(frozen=True, eq=False)
class CropPath:
    """The path of one face's crop through the video."""

    seen: FaceObservations  # one per frame, None without the face
    windows: Sequence[CropWindow]  # one per frame, held while there is no face; empty if frames are the face
    starts: tuple[int, ...] = ()  # rows of the motion at which a new stretch begins
    jitter: tuple[float, float] | None = None  # of the crop's corners, before and after smoothing
    reduction: Reduction = "area"  # of frames to crops

    @classmethod
    def of(
        cls, seen: FaceObservations, cuts: Sequence[int], options: SourceOptions, fps: Fraction
    ) -> CropPath:
        """The gliding windows of a face; none if the frames are the face."""
        if not options.crop:
            return cls(seen, (), reduction=options.reduction)
        squares = [each.square if each else None for each in seen]
        glided = held(squares) if options.as_published else gliding(squares, cuts, fps)
        found = seen.found
        starts = tuple(int(found[: part.start].sum()) for part in stretches(found, cuts))
        before = torch.from_numpy(np.stack([corners(square) for square in squares if square]))
        after = torch.from_numpy(np.stack([corners(square) for square in glided])[found])
        windows = [window_of(square, options) for square in glided]
        jitters = jitter(before, starts), jitter(after, starts)
        return cls(seen, windows, starts, jitters, options.reduction)

    @property
    def rows(self) -> NDArray[np.int64]:
        """(N,) each frame's row in a motion that has one row per frame with the face."""
        if not self.windows:
            return np.arange(len(self.seen))
        return np.maximum(np.cumsum(self.seen.found) - 1, 0)
