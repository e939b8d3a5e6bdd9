"""Crop windows of a driving video that glide with the face, to separate camera movement from head movement."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from liveportrait.face.crop import CropWindow, Square
from liveportrait.motion import SeenHeads
from liveportrait.motion.framing import LARGEST, SMALLEST, THIRD, framing_path
from liveportrait.motion.gliding import LAZY, LiveGlide, glided

STILL = 0.02  # of the face's size: windows that travel less count as still
BOUNDED = 0.9  # share of a bound above which motion is visibly reduced


class GlidingWindows:
    """The crop windows of one scene, one per frame."""

    def __init__(
        self, heads: SeenHeads, squares: Sequence[Square], rows: NDArray[np.int64], frames: int, fps: Fraction
    ) -> None:
        """`heads` and `squares` are those of the `rows` (n), out of so many `frames`, that show the face.

        If the framing is still, every window is the mean of the boxes; if it moves, the window moves along, keeping
        the proportions of that mean.
        """
        path = framing_path(heads)
        measured = np.array([[*square.centre, np.log(square.side)] for square in squares])
        every = np.arange(rows[0], rows[-1] + 1)
        bridged = np.stack([np.interp(every, rows, column) for column in path.T], axis=1)
        gliding = glided(bridged, fps, LAZY)
        own = gliding[rows - rows[0]]
        size, place = np.exp(own[:, 2:]), own[:, :2]
        aside = np.mean((measured[:, :2] - place) / size, axis=0)
        larger = np.mean(np.exp(measured[:, 2:]) / size)
        # The window does not move before the first face and after the last.
        self._path = gliding[np.clip(np.arange(frames) - rows[0], 0, len(every) - 1)]
        sizes = np.exp(self._path[:, 2])
        self.windows = [
            Square(centre, float(side), 0.0).window()
            for centre, side in zip(self._path[:, :2] + sizes[:, None] * aside, sizes * larger, strict=True)
        ]
        self._rest = (path - own) / np.concatenate([size, size, np.ones_like(size)], axis=1)
        self._travel = float(np.ptp(gliding / [*np.exp(gliding.mean(0)[[2, 2]]), 1.0], axis=0).max())

    def is_steadied(self, reference: int) -> bool:
        """Whether the windows glide, or position or size of the face, relative to a reference frame, is bounded."""
        moved = self._rest - self._rest[reference]
        size = moved[:, 2]
        far = np.linalg.norm(moved[:, :2], axis=1).max() > BOUNDED * THIRD
        grown = np.any(size > BOUNDED * np.log(LARGEST)) or np.any(size < BOUNDED * np.log(SMALLEST))
        return bool(self._travel > STILL or far or grown)


class LiveWindow:
    """The same for live video, frame by frame."""

    def __init__(self, head: SeenHeads, square: Square, fps: Fraction) -> None:
        """`head` (batch 1) and `square` are of the frame that motion starts from; its window is that box."""
        (row,) = framing_path(head)
        self._glide = LiveGlide(fps)
        self._aside = (square.centre - row[:2]) / np.exp(row[2])
        self._larger = square.side / np.exp(row[2])

    def __call__(self, head: SeenHeads) -> CropWindow:
        """The window of the next frame that shows the face, given its head (batch 1)."""
        x, y, size = self._glide(framing_path(head)[0])
        side = float(np.exp(size))
        return Square(np.array([x, y]) + side * self._aside, side * self._larger, 0.0).window()
