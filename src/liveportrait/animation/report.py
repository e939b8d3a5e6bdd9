"""What an animation did and where its time went."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Stretches = tuple[tuple[int, int], ...]

Progress = Callable[[str, int, int | None], None]
"""Called as progress(step, frames done, frames in all or None); a video SOURCE is followed and measured first."""

FOLLOW = "follow SOURCE"
MEASURE = "measure SOURCE"
FIND = "find the face"
ANIMATE = "animate"
STEPS = ("decode", "detect", "motion", "render", "paste", "encode")


def no_progress(step: str, done: int, total: int | None) -> None:
    """A progress function that shows nothing."""


class Stopwatch:
    """Seconds spent in each step. Steps may run in different threads, each step in one at a time."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time of making them is counted."""
        iterator = iter(items)
        while True:
            with self.step(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def elapsed(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self.started


class Jitter(NamedTuple):
    """How much something trembles before and after smoothing, px (see `motion.JitterMeter`)."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """What was written, how long it took, and what the user should know about it."""

    out: Path
    frames: int
    fps: Fraction
    elapsed: float  # s, wall clock
    seconds: dict[str, float] = field(default_factory=dict)  # of work by step; steps overlap
    compare: Path | None = None
    held: Stretches = ()  # first and last frame of each stretch of the driver (the first one) without a face
    passed: Stretches = ()  # the same of the result: its frames went through unchanged
    cuts: tuple[int, ...] = ()  # frames of a source video at which a new scene begins
    jitter: tuple[Jitter, ...] = ()
    stitched: bool = False
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line: frames, time, frames per second and the share of each step."""
        total = sum(self.seconds.values()) or 1.0
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in self.seconds.items() if value > 0)
        rate = self.frames / self.elapsed if self.elapsed > 0 else 0.0
        return f"{count(self.frames)} in {self.elapsed:.1f} s ({rate:.1f} frames/s): {shares}"


def held_note(held: Stretches) -> str:
    """A sentence on the frames of a driver without a face; frames count from 0."""
    return f"no face in {stretches_note(held, 'DRIVING')}: the last motion was held there"


def stretches_note(stretches: Stretches, name: str) -> str:
    """How many frames of what, and which: "3 frames of DRIVING (0, 3-4)"."""
    number = sum(last - first + 1 for first, last in stretches)
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in stretches[:10])
    more = f" and {len(stretches) - 10} more stretches" if len(stretches) > 10 else ""
    return f"{count(number)} of {name} ({shown}{more})"


def gaps(there: NDArray[np.bool_]) -> Stretches:
    """First and last index of each stretch of False in an array (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], there, [True]]).astype(np.int8)))
    return tuple((int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True))


def count(frames: int) -> str:
    """A number of frames in words: "1 frame", "7 frames"."""
    return "1 frame" if frames == 1 else f"{frames} frames"
