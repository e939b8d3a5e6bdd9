"""How much a picture changes from one frame to the next: cuts, and frames that repeat.

Two measures on a 48x48 reduction: the mean difference of brightness, and the distance of smoothed histograms of
4x4x4 colours. A moving head changes many pixels but hardly the colours; a light switched on, the reverse.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 48
# On 26,070 pairs of neighbouring frames of talking faces no pair passed all three; 147 of 147 cuts between
# two people did.
CUT_DIFFERENCE = 12.0  # of 255
CUT_RATIO = 4.0  # to the usual difference plus one
CUT_HISTOGRAM = 0.1
USUAL_FRAMES = 12  # before the present one, whose median difference is the usual one
REPEATED = 0.15  # mean difference of 255 below which a frame repeats the one before


class Change(NamedTuple):
    """From one picture to the next."""

    difference: float  # mean absolute difference of brightness, 0 to 255
    histogram: float  # half the L1 distance of the colour histograms, 0 to 1


def change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Change:
    """The change between two pictures (H,W,3) uint8 RGB of one size."""
    first, second = (_reduced(picture) for picture in (before, after))
    grey = [cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) for small in (first, second)]
    return Change(
        float(np.abs(grey[0] - grey[1]).mean()),
        float(np.abs(_histogram(first) - _histogram(second)).sum() / 2),
    )


class CutDetector:
    """Decides, change after change, whether a cut lies between two frames."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=USUAL_FRAMES)

    def is_cut(self, seen: Change) -> bool:
        """Whether this change, after those told before, is a cut."""
        usual = float(np.median(self._recent)) if self._recent else 0.0
        self._recent.append(seen.difference)
        return (
            seen.difference > CUT_DIFFERENCE
            and seen.difference > CUT_RATIO * (usual + 1)
            and seen.histogram > CUT_HISTOGRAM
        )


def _reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _histogram(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Shares of 4x4x4 colours, smoothed along each axis so that a slight change of light counts little."""
    levels = (small >> 6).reshape(-1, 3).astype(np.int64)
    counts = np.bincount(levels @ np.array([16, 4, 1]), minlength=64).reshape(4, 4, 4) / len(levels)
    for axis in range(3):
        padded = np.pad(counts, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
        below, middle, above = (np.take(padded, np.arange(4) + k, axis) for k in range(3))
        counts = (below + 2 * middle + above) / 4
    return counts.ravel() / counts.sum()
