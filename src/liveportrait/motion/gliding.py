"""Gliding paths: of crop windows that follow a face, and of a camera's framing.

A path has one row per frame: x and y in px, the logarithm of a size in px, and possibly more columns. A window that
follows every movement of the face would hide the head's motion; a lazy one stays while the face moves a little, and
follows when it moves on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.motion.smoothing import smooth_path

CUTOFF = 0.7  # Hz: a path follows slower movement than this and ignores faster movement


class Slack(NamedTuple):
    """How far a face may move before its path follows, and how far apart they may get."""

    place: float  # in face sizes, to each side
    size: float  # in the logarithm of its size
    farthest: float  # in face sizes: maximum distance of the path from the face's centre


CLOSE = Slack(0.0, 0.0, 0.12)  # for a source's crop: movement inside it is measured and put back
# For a driver's framing: as far as a head moves while the body is still.
LAZY = Slack(0.2, 0.08, 0.35)
# Time constant (s) with which a live path, which cannot look ahead, returns to an off-centre face
RETURN = 5.0


def stretches(found: NDArray[np.bool_], cuts: Sequence[int], bridged: int = 0) -> list[range]:
    """The stretches of frames in which a face is visible; each starts and ends with a frame that shows it.

    found (N,) says which frames show it; no stretch crosses a cut, or more than `bridged` frames without the face.
    """
    parts: list[range] = []
    for row in np.flatnonzero(found).tolist():
        last = parts[-1][-1] if parts else -1
        if parts and row - last <= bridged + 1 and not any(last < cut <= row for cut in cuts):
            parts[-1] = range(parts[-1].start, row + 1)
        else:
            parts.append(range(row, row + 1))
    return parts


def glided(path: NDArray[np.float64], fps: Fraction, slack: Slack = CLOSE) -> NDArray[np.float64]:
    """The gliding path (N,3 or more) of one stretch: as lazy as `slack` says, then low-pass filtered at 0.7 Hz.

    While a face moves back and forth within the slack, the path is still. If it moves on, the path follows without
    delay, since it is dragged from both ends.
    """
    reach = np.exp(path[:, 2:3])
    lazy = path
    if slack.place or slack.size:
        lazy = path.copy()
        allowed = np.concatenate(
            [slack.place * reach, slack.place * reach, np.full_like(reach, slack.size)], 1
        )
        for column in range(3):
            forth = _dragged(path[:, column], allowed[:, column])
            back = _dragged(path[::-1, column], allowed[::-1, column])[::-1]
            lazy[:, column] = (forth + back) / 2
    smooth = smooth_path(lazy, CUTOFF / float(fps))
    farthest = slack.farthest * reach
    smooth[:, :2] = smooth[:, :2].clip(path[:, :2] - farthest, path[:, :2] + farthest)
    return smooth


def _dragged(values: NDArray[np.float64], allowed: NDArray[np.float64]) -> NDArray[np.float64]:
    """A series that moves only to stay within `allowed` (N,) of the values (N,)."""
    place, path = float(values[0]), []
    for value, slack in zip(values.tolist(), allowed.tolist(), strict=True):
        place = min(max(place, value - slack), value + slack)
        path.append(place)
    return np.array(path)


class LiveGlide:
    """The same for live input, row by row: it follows with a delay, and slowly returns to an off-centre face."""

    def __init__(self, fps: Fraction, slack: Slack = LAZY) -> None:
        self._slack = slack
        self._smoothing = 1 - math.exp(-2 * math.pi * CUTOFF / float(fps))
        self._return = 1 - math.exp(-1 / (RETURN * float(fps)))
        self._goal: NDArray[np.float64] | None = None
        self._path = np.empty(0)

    def __call__(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        """The path (3,) at the next row (3,): x, y and the logarithm of the size."""
        if self._goal is None:
            self._goal = self._path = row.copy()
        size = float(np.exp(row[2]))
        slack = np.array([self._slack.place * size, self._slack.place * size, self._slack.size])
        goal = self._goal + self._return * (row - self._goal)
        self._goal = goal.clip(row - slack, row + slack)
        self._path = self._path + self._smoothing * (self._goal - self._path)
        reach = self._slack.farthest * size
        self._path[:2] = self._path[:2].clip(row[:2] - reach, row[:2] + reach)
        return self._path.copy()
