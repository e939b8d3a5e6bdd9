"""Detecting scene cuts: frames that show something else than the frame before."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

MEMORY = 12  # recent changes whose median counts as the usual change
SAMPLED = (128, 72)  # px to which a frame is sampled first: averaging all of a large frame takes milliseconds
SMALL = (32, 18)  # px: at this size neither noise nor a moving face changes much of the picture
REGION_SIDE = 48  # px to which the surroundings of a face are reduced


class Change(NamedTuple):
    """The change from one picture to the next."""

    difference: float  # mean absolute difference, 0 to 255
    histogram: float = 0.0  # half the L1 distance of the colour histograms, 0 to 1; 0 where not measured


@dataclass(frozen=True)
class CutRule:
    """Minimum values of a change that counts as a cut; all must be reached."""

    difference: float  # grey levels
    ratio: float  # of the difference to the usual one plus `margin`
    margin: float = 0.0  # grey levels
    histogram: float = 0.0


# A nodding head changes a frame by 2 to 4 grey levels, a cut between similar scenes by 10.
WHOLE_FRAME = CutRule(difference=10.0, ratio=5.0)
# For the surroundings of a face. None of 26,070 pairs of consecutive frames of talking faces reached all three values;
# 147 of 147 cuts between two people did.
FACE_REGION = CutRule(difference=12.0, ratio=4.0, margin=1.0, histogram=0.1)


class CutFinder:
    """Decides for each frame, in order, whether a new scene starts.

    A cut is a change that is large, both in absolute terms and relative to the median of the last 12 changes. Dissolves
    are not found.
    """

    def __init__(self, rule: CutRule = WHOLE_FRAME) -> None:
        self._rule = rule
        self._last: NDArray[np.float32] | None = None
        self._recent: deque[float] = deque(maxlen=MEMORY)

    def __call__(self, frame: NDArray[np.uint8]) -> bool:
        """Whether a frame (H,W,3) starts a new scene; the first frame does not."""
        sampled = cv2.resize(frame, SAMPLED, interpolation=cv2.INTER_LINEAR)
        small = cv2.resize(sampled, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        return last is not None and self.is_cut(Change(float(np.abs(small - last).mean())))

    def is_cut(self, change: Change) -> bool:
        """Whether a change is a cut, given the changes of earlier calls; a cut clears these."""
        rule = self._rule
        usual = float(np.median(self._recent)) if self._recent else 0.0
        self._recent.append(change.difference)
        threshold = max(rule.difference, rule.ratio * (usual + rule.margin))
        if change.difference < threshold or change.histogram < rule.histogram:
            return False
        self._recent.clear()
        return True


def region_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Change:
    """The change between two pictures (H,W,3) uint8 RGB, in brightness and colours of 48x48 reductions.

    A moving head changes many pixels but hardly the colours; a light that is switched on does the opposite.
    """
    first, second = (_reduced(picture) for picture in (before, after))
    grey = [cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) for small in (first, second)]
    return Change(
        float(np.abs(grey[0] - grey[1]).mean()),
        float(np.abs(_histogram(first) - _histogram(second)).sum() / 2),
    )


def _reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = (REGION_SIDE, REGION_SIDE)
    return np.asarray(cv2.resize(picture, side, interpolation=cv2.INTER_AREA), np.uint8)


def _histogram(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Normalised histogram of 4x4x4 colours, smoothed along each axis: a slight change of light then counts little."""
    levels = (small >> 6).reshape(-1, 3).astype(np.int64)
    counts = np.bincount(levels @ np.array([16, 4, 1]), minlength=64).reshape(4, 4, 4) / len(levels)
    for axis in range(3):
        padded = np.pad(counts, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
        below, middle, above = (np.take(padded, np.arange(4) + k, axis) for k in range(3))
        counts = (below + 2 * middle + above) / 4
    return counts.ravel() / counts.sum()
