"""Drivers on the clock of the result: their motion smoothed, and laid on its frame rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import pairwise, repeat

from liveportrait.animation.driver.base import Driver, DrivingBatch, Play
from liveportrait.animation.report import Jitter
from liveportrait.animation.session import Session
from liveportrait.motion import JitterMeter, MotionSmoother, crop_points


class TimedDriver:
    """One driver for the length of one result: its frames smoothed, its jitter measured on the way."""

    def __init__(self, driver: Driver, strength: float) -> None:
        self.driver = driver
        self._strength = strength
        self._before, self._after = JitterMeter(), JitterMeter()

    def play(self, session: Session, fps: Fraction) -> Play:
        """Batches of `session.batch` frames for a result of a rate; the last may be shorter. A photo never ends.

        The result's frame i shows the driver's frame ⌊i · own rate / result's rate⌋: what is on the screen then.
        """
        with closing(self.driver.play(session)) as play:
            if self.driver.is_photo:
                yield from repeat(next(play).take([0] * session.batch))
            yield from on_clock(self._smoothed(play), self.driver.fps / fps, session.batch)

    def jitter(self) -> Jitter:
        """How much the keypoints played so far trembled, px of the 256 px crop."""
        return Jitter(f"keypoints of {self.driver.name}", self._before.value, self._after.value)

    def _smoothed(self, play: Iterable[DrivingBatch]) -> Iterator[DrivingBatch]:
        """The same frames with smoothed motion; smoothing starts anew at cuts."""
        smoother = MotionSmoother(self._strength, self.driver.fps)
        waiting: list[DrivingBatch] = []  # single frames whose smoothed motion is not known yet
        for part, is_start in _split(play, self.driver.cuts):
            if is_start:
                yield from self._ready(waiting, smoother, None)
                self._before.restart()
                self._after.restart()
            self._before.add(crop_points(part.motion))
            if self._strength:
                waiting += [part.take([row]) for row in range(len(part))]
                yield from self._ready(waiting, smoother, part)
            else:
                self._after.add(crop_points(part.motion))
                yield part
        yield from self._ready(waiting, smoother, None)

    def _ready(
        self, waiting: list[DrivingBatch], smoother: MotionSmoother, part: DrivingBatch | None
    ) -> Iterator[DrivingBatch]:
        """Those of the waiting frames that are done with `part`; all with None, where a stretch ends."""
        if not waiting:
            return
        motion = smoother.push(part.motion) if part else smoother.flush(waiting[0].motion)
        count = len(motion.scale)
        if count:
            self._after.add(crop_points(motion))
            done = DrivingBatch.cat(waiting[:count])
            del waiting[:count]
            yield DrivingBatch(motion, done.ratios, done.crops)


def on_clock(play: Iterable[DrivingBatch], ratio: Fraction, size: int) -> Iterator[DrivingBatch]:
    """The frames ⌊i · ratio⌋ for i = 0, 1, ... as long as there are any, in batches of `size`."""
    waiting: list[DrivingBatch] = []
    first, number = 0, 0  # the number of the first frame of a batch; of the next frame wanted
    for batch in play:
        if ratio == 1 and not waiting and len(batch) == size:
            yield batch
            first, number = first + size, number + size
            continue
        rows = []
        while (row := int(number * ratio) - first) < len(batch):
            rows.append(row)
            number += 1
        first += len(batch)
        waiting += [batch.take([row]) for row in rows]
        while len(waiting) >= size:
            yield DrivingBatch.cat(waiting[:size])
            del waiting[:size]
    if waiting:
        yield DrivingBatch.cat(waiting)


def _split(play: Iterable[DrivingBatch], cuts: Sequence[int]) -> Iterator[tuple[DrivingBatch, bool]]:
    """Batches that do not reach across a cut, and whether one begins there."""
    first = 0
    for batch in play:
        inside = [cut - first for cut in cuts if first < cut < first + len(batch)]
        edges = [0, *inside, len(batch)]
        for begin, end in pairwise(edges):
            whole = (begin, end) == (0, len(batch))
            yield (batch if whole else batch.take(range(begin, end))), first + begin in cuts
        first += len(batch)
