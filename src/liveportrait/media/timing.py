"""Frame rates as fractions, and frames laid on a constant rate. Pure functions.

A file's frames carry times. Where each lies within 0.4 intervals of its own tick of a constant rate, the file
has a constant rate and its frames are taken as they come. Otherwise the rate is variable: a constant one is
chosen at which hardly a picture is lost, a tick shows the newest frame at its time, and slow stretches repeat
frames. Times so dense that most frames would be lost are not believed: frames are taken as they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# In frame intervals. With one frame missing no rate comes closer than half an interval to all the others.
MAX_JITTER = 0.4
FALLBACK_RATE = Fraction(25)
MAX_RATE = Fraction(500)  # beyond it times are not believed
MAX_RESAMPLED_RATE = Fraction(120)
MAX_DELAY_S = 0.06  # by how much a frame may be shown late, so that no other is lost
MOST_LOST = 0.01  # share of frames that may be lost to bursts, rather than play all at the bursts' rate
_NTSC = Fraction(1000, 1001)
_STANDARD_RATES = (
    *(Fraction(rate) for rate in (8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
    *(Fraction(rate) * _NTSC for rate in (24, 30, 48, 60, 120, 240)),
)


def constant_rate(times: np.ndarray, declared: Iterable[Fraction | None]) -> Fraction | None:
    """The frames per second of ascending frame times (N,) in seconds, or None where the rate varies.

    A standard rate among the `declared` is preferred, then the standard rate within 0.1 % of the mean, then
    the declared ones. A single frame has the first rate declared, or 25. Rates above 500 do not count.
    """
    rates = [rate for rate in declared if rate and rate <= MAX_RATE]
    if len(times) < 2 or times[-1] <= times[0]:
        return next(iter(rates), FALLBACK_RATE) if len(times) < 2 else None
    mean = Fraction(float((len(times) - 1) / (times[-1] - times[0])))
    if mean > MAX_RATE:
        return None
    nearest = min(_STANDARD_RATES, key=lambda rate: abs(rate - mean))
    candidates = [rate for rate in rates if rate in _STANDARD_RATES]
    if abs(nearest / mean - 1) < Fraction(1, 1000):
        candidates.append(nearest)
    candidates += [*rates, mean.limit_denominator(1001)]
    ticks = np.arange(len(times))
    for rate in candidates:
        if np.abs((times - times[0]) * float(rate) - ticks).max() < MAX_JITTER:
            return rate
    return None


def sustained_rate(times: np.ndarray, declared: Iterable[Fraction | None]) -> Fraction | None:
    """The frames per second, at most 120, that keep the frames of ascending times (N,) in seconds.

    It is that of the median interval, unless more than 1 % of the frames would be lost at it; then that of the
    longest interval at which they are not. None where the times are not to be believed: there are more than 500
    a second, or more than half are lost even at 120.
    """
    if (len(times) - 1) / MAX_RATE > times[-1] - times[0]:
        return None
    standard = [rate for rate in declared if rate in _STANDARD_RATES]
    intervals = np.diff(times)
    intervals = intervals[intervals > 0]
    for share in _SHARES:
        rate = _near_standard(float(1.0 / np.quantile(intervals, share)), standard)
        if _lost(times, rate) <= MOST_LOST * len(times):
            return rate
    return rate if _lost(times, rate) <= len(times) / 2 else None


# Of intervals from the shortest on: the rate that a file sustains for a while is that of a part of them.
_SHARES = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.0)


def plain_rate(declared: Iterable[Fraction | None]) -> Fraction:
    """The rate of frames whose times say nothing: the first declared one between 1 and 120 per second, or 25."""
    return next((rate for rate in declared if rate and 1 <= rate <= MAX_RESAMPLED_RATE), FALLBACK_RATE)


def _near_standard(rate: float, declared: Iterable[Fraction]) -> Fraction:
    """The standard rate within 2 %, a `declared` one first (times are often rounded to milliseconds), or the rate."""
    for known in (*declared, *_STANDARD_RATES):
        if abs(float(known) / rate - 1) < 1 / 50:
            return min(known, MAX_RESAMPLED_RATE)
    return min(Fraction(rate).limit_denominator(1001), MAX_RESAMPLED_RATE)


def _lost(times: np.ndarray, rate: Fraction) -> int:
    """How many frames of ascending times (N,) share a tick with a later one."""
    tick, lost = -1, 0
    for seconds in (times - times[0]).tolist():
        before, tick = tick, next_tick(tick, seconds, rate)
        lost += tick == before
    return lost


def next_tick(before: int, seconds: float, rate: Fraction) -> int:
    """The tick of a frame, given that of the one `before` it (-1 for none): the nearest to its time, from 0.

    Where that is taken it is the one after, up to 0.06 s late, or one tick at low rates.
    """
    place = seconds * float(rate)
    late = before + 1 - place
    if late <= max(MAX_DELAY_S * float(rate), 1.0):
        return max(round(place), before + 1)
    return max(round(place), before)


@dataclass(frozen=True)
class Joints:
    """How times that start anew, where recordings were joined, are told from others."""

    fall_s: float  # they fall back by more than this
    leap_s: float  # or leap forward by more

    def between(self, before: float, now: float) -> bool:
        """Whether there is one between two times in s, one after the other."""
        return now < before - self.fall_s or now > before + self.leap_s


# Transport streams are made to be joined: times run forward, and after a leap they go on without a pause.
STREAM_JOINTS = Joints(fall_s=0.0, leap_s=10.0)
# Elsewhere times may be a little out of order, and a picture may stay for as long as it likes.
FILE_JOINTS = Joints(fall_s=0.25, leap_s=float("inf"))


def chained(times: np.ndarray, order: np.ndarray, joints: Joints) -> tuple[np.ndarray, float]:
    """Ascending times (N,) of frames whose times may start anew, and the interval (s) put between the parts.

    `times` (N,) in seconds are when frames are shown, `order` (N,) when they are decoded, both as they come in
    the file. `order` runs forward but where times start anew; from there on `times` follow what was before.
    """
    starts = [0]
    for index, (before, now) in enumerate(pairwise(order.tolist()), 1):
        if joints.between(before, now):
            starts.append(index)
    parts = [np.sort(part) for part in np.split(times, starts[1:])]
    intervals = np.concatenate([np.diff(part) for part in parts])
    intervals = intervals[intervals > 0]
    gap = float(np.median(intervals)) if len(intervals) else float(1 / FALLBACK_RATE)
    for before, part in pairwise(parts):
        part += before[-1] + gap - part[0]
    return np.concatenate(parts), gap


def hold_until_next(frames: Iterable[tuple[int, T]], count: int = 0) -> Iterator[T]:
    """One item for each tick from 0 to the last, out of (tick, item) in ascending order.

    An item is repeated until the next one's tick, the last one until there are `count`; of several at one tick the
    last is shown.
    """
    shown: tuple[int, T] | None = None
    for tick, item in frames:
        if shown is not None:
            for _ in range(tick - shown[0]):
                yield shown[1]
        # A first frame that is late is shown from the start.
        shown = (tick if shown is not None else 0, item)
    if shown is not None:
        for _ in range(max(count - shown[0], 1)):
            yield shown[1]
