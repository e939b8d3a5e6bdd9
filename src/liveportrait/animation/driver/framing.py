"""The windows of a driving video: they glide with the face, so that what its camera does is not what it does."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from liveportrait.face.crop import CropWindow, Square
from liveportrait.motion import SeenHeads
from liveportrait.motion.framing import LARGEST, SMALLEST, THIRD, framing_path
from liveportrait.motion.gliding import LAZY, LiveGlide, glided

STILL = 0.02  # of the face's size: what a window may creep without it being told
TOLD = 0.9  # of a bound: what comes nearer to it is changed visibly


class GlidingWindows:
    """How the face of one scene is framed: the window of each of its frames."""

    def __init__(
        self, heads: SeenHeads, squares: Sequence[Square], rows: NDArray[np.int64], frames: int, fps: Fraction
    ) -> None:
        """From heads and boxes of the `rows` (n) of so many frames that show the face.

        Where the framing stands still, every window is the mean of the boxes; where it moves, the window goes along,
        and keeps the proportions of that mean.
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
        # Before the first face and after the last the window rests.
        self._path = gliding[np.clip(np.arange(frames) - rows[0], 0, len(every) - 1)]
        sizes = np.exp(self._path[:, 2])
        self.windows = [
            Square(centre, float(side), 0.0).window()
            for centre, side in zip(self._path[:, :2] + sizes[:, None] * aside, sizes * larger, strict=True)
        ]
        self._rest = (path - own) / np.concatenate([size, size, np.ones_like(size)], axis=1)
        self._travel = float(np.ptp(gliding / [*np.exp(gliding.mean(0)[[2, 2]]), 1.0], axis=0).max())

    def is_steadied(self, reference: int) -> bool:
        """Whether the windows glide, or place or size of a face is bounded that starts from that of its frames."""
        moved = self._rest - self._rest[reference]
        far = np.linalg.norm(moved[:, :2], axis=1).max() > TOLD * THIRD
        grown = np.any(moved[:, 2] > TOLD * np.log(LARGEST)) or np.any(moved[:, 2] < TOLD * np.log(SMALLEST))
        return bool(self._travel > STILL or far or grown)


class LiveWindow:
    """The same for a face that is seen frame by frame."""

    def __init__(self, head: SeenHeads, square: Square, fps: Fraction) -> None:
        """From the head (batch 1) and box of the frame that motion starts from, around which the window is its box."""
        (row,) = framing_path(head)
        self._glide = LiveGlide(fps)
        self._aside = (square.centre - row[:2]) / np.exp(row[2])
        self._larger = square.side / np.exp(row[2])

    def __call__(self, head: SeenHeads) -> CropWindow:
        """The window of the next frame that shows the face, by its head (batch 1)."""
        x, y, size = self._glide(framing_path(head)[0])
        side = float(np.exp(size))
        return Square(np.array([x, y]) + side * self._aside, side * self._larger, 0.0).window()
