"""What the drivers say for each frame of the result: smoothed, and laid on the result's clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import pairwise, repeat

import torch

from liveportrait.animation.driver import Driver, DrivingBatch, Play
from liveportrait.animation.report import Jitter
from liveportrait.animation.streams import nothing
from liveportrait.motion import JitterMeter, MotionSmoother, crop_points
from liveportrait.networks.interface import Motion


class Cues:
    """One driver for a stretch of time: its frames smoothed, its jitter measured on the way."""

    def __init__(self, driver: Driver, strength: float) -> None:
        self._driver = driver
        self._strength = strength
        self._before, self._after = JitterMeter(), JitterMeter()

    def play(self, fps: Fraction, size: int, prepare: Callable[[], None] = nothing) -> Play:
        """Batches of `size` frames for a result of a frame rate; the last may be shorter. A photo never ends.

        `prepare` is what a thread does before it runs M.

        The result's frame i shows the driver's frame ⌊i · own rate / result's rate⌋: what is on the screen then.
        """
        if self._driver.is_photo:
            with closing(self._driver.play(prepare)) as play:
                yield from repeat(next(play).take([0] * size))
        with closing(self._driver.play(prepare)) as play:
            yield from on_clock(self._smoothed(play), self._driver.fps / fps, size)

    def jitter(self, name: str) -> Jitter:
        """How much the keypoints played so far trembled, px of the 256 px crop."""
        return Jitter(name, self._before.value, self._after.value)

    def _smoothed(self, play: Iterable[DrivingBatch]) -> Iterator[DrivingBatch]:
        """The same frames with smoothed motion; smoothing starts anew at cuts."""
        smoother = MotionSmoother(self._strength, self._driver.fps)
        waiting: list[DrivingBatch] = []  # single frames whose motion is not out yet

        def ready(motion: Motion) -> Iterator[DrivingBatch]:
            count = len(motion.scale)
            if count:
                self._after.add(crop_points(motion))
                done = joined(waiting[:count])
                del waiting[:count]
                yield DrivingBatch(motion, done.openings, done.tiles)

        if not self._strength:
            for part, starts in _split(play, self._driver.cuts):
                for meter in (self._before, self._after):
                    if starts:
                        meter.restart()
                    meter.add(crop_points(part.motion))
                yield part
            return
        for part, starts in _split(play, self._driver.cuts):
            if starts:
                if waiting:
                    yield from ready(smoother.flush(part.motion))
                self._before.restart()
                self._after.restart()
            self._before.add(crop_points(part.motion))
            waiting += [part.take([row]) for row in range(len(part))]
            yield from ready(smoother.push(part.motion))
        if waiting:
            yield from ready(smoother.flush(waiting[0].motion))


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
            yield joined(waiting[:size])
            del waiting[:size]
    if waiting:
        yield joined(waiting)


def joined(parts: Sequence[DrivingBatch]) -> DrivingBatch:
    """Several batches as one."""
    openings = [part.openings for part in parts if part.openings is not None]
    return DrivingBatch(
        Motion(*(torch.cat(each) for each in zip(*(part.motion for part in parts), strict=True))),
        torch.cat(openings) if openings else None,
        tuple(tile for part in parts for tile in part.tiles),
    )


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
