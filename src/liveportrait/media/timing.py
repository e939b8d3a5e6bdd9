"""Frame rates as fractions, and resampling frames to a constant rate. Pure functions.

A file's frames carry times. If each lies within 0.4 intervals of its own tick of a constant rate, the file has a
constant rate and its frames are used one by one. Otherwise the rate is variable: a constant one is chosen at which
hardly a picture is lost, each tick shows the newest frame at its time, and frames repeat in slow stretches. Times so
dense that most frames would be lost are ignored: the frames are used one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# In frame intervals. If one frame is missing, no rate comes closer than half an interval to all the others.
MAX_JITTER = 0.4
FALLBACK_RATE = Fraction(25)
MAX_RATE = Fraction(500)  # above it times are considered wrong
MAX_RESAMPLED_RATE = Fraction(120)
MAX_DELAY_S = 0.06  # how late a frame may be shown so that another is not lost
MAX_LOST = 0.01  # share of frames that may be lost in bursts before the rate is raised to that of the bursts
_NTSC = Fraction(1000, 1001)
_STANDARD_RATES = (
    *(Fraction(rate) for rate in (8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
    *(Fraction(rate) * _NTSC for rate in (24, 30, 48, 60, 120, 240)),
)


def constant_rate(times: np.ndarray, declared: Iterable[Fraction | None]) -> Fraction | None:
    """The frames per second of ascending frame times (N,) in seconds, or None if the rate varies.

    A standard rate among the `declared` ones is preferred, then the standard rate within 0.1 % of the mean, then the
    declared ones. A single frame has the first declared rate, or 25. Rates above 500 are ignored.
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

    This is the rate of the median interval or, if more than 1 % of the frames would be lost at it, of the longest
    interval at which they are not. None if the times are implausible: more than 500 frames per second, or more than
    half lost even at 120.
    """
    if (len(times) - 1) / MAX_RATE > times[-1] - times[0]:
        return None
    standard = [rate for rate in declared if rate in _STANDARD_RATES]
    intervals = np.diff(times)
    intervals = intervals[intervals > 0]
    for share in _SHARES:
        rate = _near_standard(float(1.0 / np.quantile(intervals, share)), standard)
        if _lost(times, rate) <= MAX_LOST * len(times):
            return rate
    return rate if _lost(times, rate) <= len(times) / 2 else None


# Quantiles of the intervals to try: the rate that a file sustains for a while is that of a share of its intervals.
_SHARES = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.0)


def plain_rate(declared: Iterable[Fraction | None]) -> Fraction:
    """The rate of frames without usable times: the first declared one between 1 and 120 per second, or 25."""
    return next((rate for rate in declared if rate and 1 <= rate <= MAX_RESAMPLED_RATE), FALLBACK_RATE)


def _near_standard(rate: float, declared: Iterable[Fraction]) -> Fraction:
    """A standard rate within 2 %, `declared` ones first (times are often rounded to milliseconds), or `rate` itself."""
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
    """The tick of a frame at a time in seconds, given the tick of the frame `before` it (-1 for none).

    It is the nearest tick or, if that is taken, the next one, unless the frame would be more than 0.06 s late (one tick
    at low rates).
    """
    place = seconds * float(rate)
    late = before + 1 - place
    if late <= max(MAX_DELAY_S * float(rate), 1.0):
        return max(round(place), before + 1)
    return max(round(place), before)


@dataclass(frozen=True)
class Joints:
    """How to recognise from its times where recordings were joined in a file."""

    fall_s: float  # times go back by more than this
    leap_s: float  # or jump forward by more than this

    def between(self, before: float, now: float) -> bool:
        """Whether there is a joint between two consecutive times in s."""
        return now < before - self.fall_s or now > before + self.leap_s


# Transport streams are meant to be joined: times increase within each, and a jump is not a pause.
STREAM_JOINTS = Joints(fall_s=0.0, leap_s=10.0)
# Elsewhere times may be slightly out of order, and a picture may stay for any length of time.
FILE_JOINTS = Joints(fall_s=0.25, leap_s=float("inf"))


def chain_times(times: np.ndarray, order: np.ndarray, joints: Joints) -> tuple[np.ndarray, float]:
    """Ascending times (N,) of the frames of a file of joined recordings, and the interval (s) put between recordings.

    `times` (N,) are presentation times and `order` (N,) decoding times, in seconds and in file order. `order` increases
    except at a joint; the `times` after a joint are moved to follow those before it.
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
    """One item for each tick from 0 to the last, from (tick, item) pairs in ascending order.

    An item is repeated until the next one's tick, the last one until there are `count`; of several at one tick the last
    is used.
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
