"""Scene cuts: where a video shows something else from one frame to the next."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLED = (128, 72)  # px that are looked at: an average of all of a large frame takes milliseconds
SMALL = (32, 18)  # px: at this size neither noise nor a moving face changes much of the picture
LEAST = 10.0  # grey levels: mean change of a cut between alike scenes; a nodding head makes 2 to 4
TIMES_USUAL = 5.0  # a cut changes that much more than the frames before it did
MEMORY = 12  # frames that tell what is usual


class CutFinder:
    """Asked frame by frame, in order, whether a new scene begins.

    A frame begins one when its small picture differs from the last one's by 10 grey levels in the mean, and by 5
    times the median of the changes of the last 12 frames. Dissolves are not found.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._changes: deque[float] = deque(maxlen=MEMORY)

    def __call__(self, frame: NDArray[np.uint8]) -> bool:
        """Whether this frame (H,W,3) begins a new scene; the first one of all does not."""
        sampled = cv2.resize(frame, SAMPLED, interpolation=cv2.INTER_LINEAR)
        small = cv2.resize(sampled, SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None:
            return False
        change = float(np.abs(small - last).mean())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        self._changes.append(change)
        if change < max(LEAST, TIMES_USUAL * usual):
            return False
        self._changes.clear()
        return True
