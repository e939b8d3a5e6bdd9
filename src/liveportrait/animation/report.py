"""The report of an animation: what was written, the time of each stage, and the length of the queues between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

STEPS = ("decode", "detect", "crop", "motion", "render", "paste", "encode")
NETWORKS = ("motion", "render")  # the stages that are F, M, W and G


class StageTime(NamedTuple):
    """The time spent in a stage, seconds."""

    busy: float = 0.0  # wall time, summed over its threads
    cpu: float = 0.0  # CPU time of these threads, without helper threads that a codec or runtime starts


@dataclass
class Gauge:
    """How full a bounded queue was, sampled before each item is taken from it or added to it."""

    depth: int
    seen: int = 0
    total: int = 0
    empty: int = 0
    full: int = 0

    def record(self, level: int) -> None:
        """Record how many items are in the queue."""
        self.seen += 1
        self.total += level
        self.empty += level == 0
        self.full += level >= self.depth


@dataclass(frozen=True)
class Profile:
    """The time of one animation by stage. Stages overlap, so their busy times add up to more than the total."""

    frames: int = 0
    elapsed: float = 0.0  # s, wall clock
    cpu: float = 0.0  # s, of the entire process, including helper threads
    stages: Mapping[str, StageTime] = field(default_factory=dict)
    queues: Mapping[str, Gauge] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.frames / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def networks_share(self) -> float:
        """The networks' share, 0 to 1, of the busy time of all stages."""
        busy = sum(spent.busy for spent in self.stages.values())
        return sum(self.stages[name].busy for name in NETWORKS if name in self.stages) / (busy or 1.0)

    def table(self) -> str:
        """The profile as text: one line per stage and per queue."""
        lines = [f"{'stage':<24}{'busy s':>9}{'ms/frame':>10}{'share':>8}{'CPU s':>9}"]
        total = sum(spent.busy for spent in self.stages.values()) or 1.0
        frames = self.frames or 1
        for name, (busy, cpu) in self.stages.items():
            lines.append(
                f"{name:<24}{busy:>9.2f}{1000 * busy / frames:>10.2f}{busy / total:>8.1%}{cpu:>9.2f}"
            )
        helpers = max(self.cpu - sum(spent.cpu for spent in self.stages.values()), 0.0)
        lines.append(f"{'codecs and other threads':<24}{'':>27}{helpers:>9.2f}")
        lines.append(
            f"{'all':<24}{self.elapsed:>9.2f}{1000 * self.elapsed / frames:>10.2f}{'':>8}{self.cpu:>9.2f}"
        )
        lines.append("")
        lines.append(f"{'queue':<24}{'holds':>9}{'mean':>10}{'empty':>8}{'full':>9}")
        for name, gauge in self.queues.items():
            seen = gauge.seen or 1
            lines.append(
                f"{name:<24}{gauge.depth:>9}{gauge.total / seen:>10.1f}{gauge.empty / seen:>8.0%}"
                f"{gauge.full / seen:>9.0%}"
            )
        lines.append("")
        lines.append(f"{pace(self.rate)}; networks (motion, render) {self.networks_share:.0%} of the work")
        return "\n".join(lines)


class Stopwatch:
    """Measures the time spent in each stage, from any number of threads, and keeps the gauges of the queues."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()
        self._stages = dict.fromkeys(STEPS, StageTime())
        self._queues: dict[str, Gauge] = {}
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block, which must stay in one thread, to a stage."""
        start, start_cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            busy, cpu = time.perf_counter() - start, time.thread_time() - start_cpu
            with self._lock:
                before = self._stages[name]
                self._stages[name] = StageTime(before.busy + busy, before.cpu + cpu)

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time taken to produce them is added to a stage."""
        iterator = iter(items)
        while True:
            with self.step(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def gauge(self, name: str, depth: int) -> Gauge:
        """The gauge of a queue that holds `depth` items; queues with the same name share it."""
        with self._lock:
            return self._queues.setdefault(name, Gauge(depth))

    def profile(self, frames: int) -> Profile:
        """The measurements since the stopwatch was created, for a result with this many frames."""
        wall, cpu = self._started
        with self._lock:
            return Profile(
                frames,
                time.perf_counter() - wall,
                time.process_time() - cpu,
                dict(self._stages),
                dict(self._queues),
            )


Stretches = tuple[tuple[int, int], ...]

FOLLOW = "follow SOURCE"
MEASURE = "measure SOURCE"
FIND = "find the face"
ANIMATE = "animate"


class Jitter(NamedTuple):
    """The jitter of something before and after smoothing, px (see `motion.JitterMeter`)."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """The result of an animation: files, duration, and notes for the user."""

    out: Path
    frames: int
    fps: Fraction
    profile: Profile = field(default_factory=Profile)
    compare: Path | None = None
    held: Stretches = ()  # first and last frame of each stretch of the (first) driver without a face
    passed: Stretches = ()  # the same for stretches of the result that were left unchanged
    cuts: tuple[int, ...] = ()  # frames of a source video at which a new scene begins
    jitter: tuple[Jitter, ...] = ()
    stitched: bool = False
    notes: tuple[str, ...] = ()
    marking: str = ""  # how it was marked as generated, or why it was not

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and how the result was marked, for callers that do not show the summary."""
        return (*self.notes, self.marking) if self.marking else self.notes

    @property
    def elapsed(self) -> float:
        """Seconds the animation took."""
        return self.profile.elapsed

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of work by stage; stages overlap."""
        return {name: spent.busy for name, spent in self.profile.stages.items()}

    def summary(self) -> str:
        """One line: frames, time, frames per second, the share of each stage, and how the result was marked."""
        total = sum(self.seconds.values()) or 1.0
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in self.seconds.items() if value > 0)
        marking = f"; {self.marking}" if self.marking else ""
        return f"{count(self.frames)} in {self.elapsed:.1f} s ({pace(self.profile.rate)}): {shares}{marking}"


def held_note(held: Stretches) -> str:
    """A sentence about a driver's frames without a face; frames are counted from 0."""
    return f"no face in {stretches_note(held, 'DRIVING')}: the last motion was held there"


def framing_note(name: str, moves: bool, cuts: Sequence[int]) -> str:
    """A sentence about camera movement and cuts (frame numbers from 0) of a driver, which were taken out."""
    what = ["moves"] if moves else []
    if cuts:
        shown = ", ".join(map(str, cuts[:10])) + (f" and {len(cuts) - 10} more" if len(cuts) > 10 else "")
        what.append(f"is cut (frames {shown})" if len(cuts) > 1 else f"is cut (frame {shown})")
    return f"the framing of {name} {' and '.join(what)}: the head keeps its place; --framing follow lets it go along"


def stretches_note(stretches: Stretches, name: str) -> str:
    """How many frames, and which: "3 frames of DRIVING (0, 3-4)"."""
    number = sum(last - first + 1 for first, last in stretches)
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in stretches[:10])
    more = f" and {len(stretches) - 10} more stretches" if len(stretches) > 10 else ""
    return f"{count(number)} of {name} ({shown}{more})"


def gaps(present: NDArray[np.bool_]) -> Stretches:
    """First and last index of each stretch of False in an array (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], present, [True]]).astype(np.int8)))
    return tuple((int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True))


def pace(rate: float) -> str:
    """A rate in words: "9.1 frames/s", or "12.5 s a frame" below one frame per second."""
    return f"{1 / rate:.1f} s a frame" if 0 < rate < 1 else f"{rate:.1f} frames/s"


def count(frames: int) -> str:
    """A number of frames in words: "1 frame", "7 frames"."""
    return "1 frame" if frames == 1 else f"{frames} frames"
