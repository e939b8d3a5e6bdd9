"""The free part of a voice's motion: head, gaze, brows and blinks, which the sound does not determine.

They are sampled, not predicted; the same seed gives the same video. Head, gaze and brows are an autoregressive process
at 12.5 Hz, x_n = A (x_{n−1}, …, x_{n−4}, loudness) + e, whose innovations e are drawn from recorded speakers, all
channels together, so that glances and nods stay coordinated. Blinks are a point process: their probability depends on
the time since the last one, and each has the mean shape of recorded blinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liveportrait.types import Array

RATE = 12.5  # steps per second
ORDER = 4  # steps that the next one depends on
PITCH, YAW, ROLL, ACROSS, UP, INNER_BROW, OUTER_BROW, FROWN = range(8)
CHANNELS = 8  # degrees of the head, then scores
HAZARD_EDGES = (0.4, 0.8, 1.6, 3.2, 6.4)  # s since the last blink; the blink rate is constant between edges
BLINK_BEFORE, BLINK_AFTER = 6, 10  # samples of a blink's shape before and after its deepest point
BLINK_RATE = 25.0  # of these samples, per second
WARM_UP = 40  # steps before the first one, after which the initial state no longer matters
LOUDNESS_DELAY = 2  # steps after which loudness has an effect


@dataclass(frozen=True, eq=False)
class FreeNumbers:
    """Parameters learned from recorded speakers."""

    matrix: NDArray[np.float64]  # (8, 4·8 + 1)
    innovations: NDArray[np.float64]  # (M,8)
    bounds: NDArray[np.float64]  # (8,) limits of the channels
    hazard: NDArray[np.float64]  # (6,) blinks per second, by the time since the last one
    blink: NDArray[np.float64]  # (17,) lids closed, 0 to 1


class FreeMotion:
    """One sample of the free part, from its start."""

    def __init__(self, numbers: FreeNumbers, seed: int) -> None:
        self._numbers = numbers
        self._random = np.random.default_rng(seed)
        self._past = np.zeros((ORDER, CHANNELS))  # the latest first
        self._since = float(self._random.uniform(0, 2))  # s since the last blink
        self._blinks: list[float] = []  # when lids are closed most, s
        self._states: list[NDArray[np.float64]] = []
        self._dropped = 0  # of the states
        for _ in range(WARM_UP):
            self._advance(0.0)
        self._start = self._bounded(self._past[0])

    def frames(self, times: NDArray[np.float64], loudness: Sequence[float]) -> tuple[Array, Array]:
        """Channels (n,8), head and gaze relative to the first moment, and how far the lids are closed (n,).

        `times` (n,) s, ascending over all calls; `loudness` of the steps 0, 1, … at 12.5 Hz, as far as `times` reach.
        """
        if not len(times):
            return np.zeros((0, CHANNELS), np.float32), np.zeros(0, np.float32)
        last = int(times[-1] * RATE) + 2
        while self._dropped + len(self._states) <= last:
            step = self._dropped + len(self._states)
            heard = step - 1 - LOUDNESS_DELAY
            self._states.append(self._bounded(self._past[0]))
            self._advance(loudness[heard] if 0 <= heard < len(loudness) else 0.0)
            self._blink(step / RATE)
        place = times * RATE
        whole = place.astype(int)
        share = (place - whole)[:, None]
        states = np.stack(self._states)
        points = [states[np.maximum(whole + shift - self._dropped, 0)] for shift in (-1, 0, 1, 2)]
        channels = _catmull_rom(points, share)
        channels[:, :INNER_BROW] -= self._start[:INNER_BROW]
        closed = self._closed(times)
        keep = max(int(whole[-1]) - 2 - self._dropped, 0)
        self._states, self._dropped = self._states[keep:], self._dropped + keep
        return channels.astype(np.float32), closed.astype(np.float32)

    def _advance(self, loudness: float) -> None:
        known = np.append(self._past.ravel(), loudness)
        chosen = self._numbers.innovations[self._random.integers(len(self._numbers.innovations))]
        self._past = np.concatenate([(self._numbers.matrix @ known + chosen)[None], self._past[:-1]])

    def _bounded(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        bounds = self._numbers.bounds
        return np.asarray(bounds * np.tanh(state / bounds))

    def _blink(self, time: float) -> None:
        """Decide whether a blink begins in the step after a time; it is deepest a little later."""
        odds = self._numbers.hazard[int(np.searchsorted(HAZARD_EDGES, self._since))] / RATE
        drawn, within = self._random.random(2)
        self._since += 1 / RATE
        if drawn < odds:
            self._blinks.append(time + (within + 1) / RATE + BLINK_BEFORE / BLINK_RATE)
            self._since = 0.0

    def _closed(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        place = (np.arange(len(self._numbers.blink)) - BLINK_BEFORE) / BLINK_RATE
        closed = np.zeros(len(times))
        for deepest in self._blinks:
            closed = np.maximum(
                closed, np.interp(times - deepest, place, self._numbers.blink, left=0.0, right=0.0)
            )
        self._blinks = [deepest for deepest in self._blinks if deepest + 1 > times[-1]]
        return closed


def _catmull_rom(points: list[NDArray[np.float64]], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spline between points 1 and 2, at a share of the way between them."""
    before, first, second, after = points
    slope, next_slope = (second - before) / 2, (after - first) / 2
    return np.asarray(
        first
        + share * slope
        + share**2 * (3 * (second - first) - 2 * slope - next_slope)
        + share**3 * (2 * (first - second) + slope + next_slope)
    )
