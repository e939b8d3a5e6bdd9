"""Frame rates as fractions, and frames laid on a constant rate. Pure functions.

A file's frames carry times. Where each lies within 0.4 intervals of its own tick of a constant rate, the file
has a constant rate and its frames are taken as they come. Otherwise the rate is variable: the usual
interval sets a constant rate, a tick shows the newest frame at its time, so slow stretches repeat frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# In frame intervals. With one frame missing no rate comes closer than half an interval to all the others.
MAX_JITTER = 0.4
FALLBACK_RATE = Fraction(25)
MAX_RESAMPLED_RATE = Fraction(120)
_NTSC = Fraction(1000, 1001)
_STANDARD_RATES = (
    *(Fraction(rate) for rate in (8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)),
    *(Fraction(rate) * _NTSC for rate in (24, 30, 48, 60, 120, 240)),
)


def constant_rate(times: np.ndarray, declared: Iterable[Fraction | None]) -> Fraction | None:
    """The frames per second of ascending frame times (N,) in seconds, or None where the rate varies.

    A standard rate among the `declared` is preferred, then the standard rate within 0.1 % of the mean, then
    the declared ones. A single frame has the first rate declared, or 25.
    """
    rates = [rate for rate in declared if rate]
    if len(times) < 2 or times[-1] <= times[0]:
        return next(iter(rates), FALLBACK_RATE) if len(times) < 2 else None
    mean = Fraction(float((len(times) - 1) / (times[-1] - times[0])))
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


def usual_rate(times: np.ndarray, declared: Iterable[Fraction | None]) -> Fraction:
    """The frames per second of the median interval of ascending times (N,), at most 120.

    Where a standard rate is within 2 % it is that one, a `declared` one first: times are often rounded to
    milliseconds.
    """
    intervals = np.diff(times)
    intervals = intervals[intervals > 0]
    if not len(intervals):
        return FALLBACK_RATE
    rate = Fraction(float(1.0 / np.median(intervals)))
    standard = [known for known in declared if known in _STANDARD_RATES]
    for known in (*standard, *_STANDARD_RATES):
        if known and abs(known / rate - 1) < Fraction(1, 50):
            return min(known, MAX_RESAMPLED_RATE)
    return min(rate.limit_denominator(1001), MAX_RESAMPLED_RATE)


def tick_of(seconds: float, rate: Fraction) -> int:
    """The tick nearest to a time, counted from 0."""
    return max(round(seconds * float(rate)), 0)


def hold_until_next(frames: Iterable[tuple[int, T]]) -> Iterator[T]:
    """One item for each tick from 0 to the last, out of (tick, item) in ascending order.

    An item is repeated until the next one's tick; of several at one tick the last is shown.
    """
    shown: tuple[int, T] | None = None
    for tick, item in frames:
        if shown is not None:
            for _ in range(tick - shown[0]):
                yield shown[1]
        # A first frame that is late is shown from the start.
        shown = (tick if shown is not None else 0, item)
    if shown is not None:
        yield shown[1]
