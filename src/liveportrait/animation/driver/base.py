"""The driver: a video, a photo or a motion template, read as motion in small batches."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, repeat
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from liveportrait.animation.report import Jitter, Stretches
from liveportrait.animation.session import Session
from liveportrait.choices import Reference
from liveportrait.engine.guard import check_motion
from liveportrait.marking.payload import Work
from liveportrait.media.arrays import DEFAULT_FPS
from liveportrait.motion import JitterMeter, MotionSmoother, crop_points
from liveportrait.motion.expression import REACH, smoothing_weights
from liveportrait.networks.interface import Motion
from liveportrait.types import Array, Image

PHOTO_FPS = DEFAULT_FPS


@dataclass(frozen=True, eq=False)
class DrivingBatch:
    """Some frames of a driver, in order."""

    motion: Motion  # batch B
    ratios: Tensor | None  # (B,3) openings of left eye, right eye and lips, if measured
    crops: tuple[Image | None, ...]  # B crops (S,S,3) as M saw them; None from a template
    scores: Tensor | None = None  # (B,52) blendshapes, if measured
    scenes: Tensor | None = None  # (B,) numbers of the scenes that they belong to, if there are several
    around: Surroundings | None = None  # the frames before and after, if known
    cues: Tensor | None = None  # (B,5) what the mouth shows, see `measures.mouth_cues`, if measured

    def __len__(self) -> int:
        return len(self.crops)

    def take(self, rows: Sequence[int]) -> DrivingBatch:
        """The frames in these rows, in this order."""
        wanted = list(rows)

        def taken(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[wanted]

        return DrivingBatch(
            self.motion.rows(wanted),
            taken(self.ratios),
            tuple(self.crops[row] for row in wanted),
            taken(self.scores),
            taken(self.scenes),
            None if self.around is None else self.around.take(wanted),
            taken(self.cues),
        )

    def slices(self, size: int) -> Play:
        """All frames, up to `size` at a time."""
        for begin in range(0, len(self), size):
            yield self.take(range(begin, min(begin + size, len(self))))

    @classmethod
    def cat(cls, parts: Sequence[DrivingBatch]) -> DrivingBatch:
        """Several batches joined, without their surroundings."""

        def joined(values: Iterable[Tensor | None]) -> Tensor | None:
            known = [value for value in values if value is not None]
            return torch.cat(known) if known else None

        return cls(
            Motion.cat([part.motion for part in parts]),
            joined(part.ratios for part in parts),
            tuple(crop for part in parts for crop in part.crops),
            joined(part.scores for part in parts),
            joined(part.scenes for part in parts),
            cues=joined(part.cues for part in parts),
        )


class Surroundings(NamedTuple):
    """The frames of a driver around those of a batch, and the weights with which they smooth it."""

    frames: DrivingBatch  # C, without crops
    weights: Tensor  # (B,C)
    own: Sequence[int]  # which of these frames are the batch's (B)

    def take(self, rows: list[int]) -> Surroundings:
        """The surroundings of some frames of the batch."""
        return Surroundings(self.frames, self.weights[rows], [self.own[row] for row in rows])

    @classmethod
    def of(
        cls, before: Iterable[DrivingBatch], batch: DrivingBatch, after: Iterable[DrivingBatch], fps: Fraction
    ) -> Surroundings:
        """The surroundings of a batch, given the batches of consecutive frames before and after it."""
        earlier = list(before)
        frames = DrivingBatch.cat([*earlier, batch, *after])
        first = sum(map(len, earlier))
        times = torch.arange(len(frames), device=batch.motion.scale.device) / float(fps)
        own = slice(first, first + len(batch))
        weights = smoothing_weights(times[own], times)
        if frames.scenes is not None:
            weights = weights * (frames.scenes[own, None] == frames.scenes)
        bare = replace(frames, crops=(None,) * len(frames))
        return cls(bare, weights / weights.sum(1, keepdim=True), range(own.start, own.stop))


Play = Generator[DrivingBatch, None, None]


class Start(NamedTuple):
    """The point that relative motion starts from: one, or one for each scene of the driver (S)."""

    motion: Motion  # batch 1 or S
    ratios: Tensor | None = None  # (1 or S,3) openings, if known
    scores: Tensor | None = None  # (1 or S,52) blendshapes, if known
    # (128,) embedding of the person, if expressions may be adapted to the source
    identity: Array | None = None

    def of(self, scenes: Tensor | None) -> Start:
        """The start of each frame (B), given the numbers of their scenes; if there is only one start, that one."""
        if scenes is None or self.motion.batch == 1:
            return self
        ratios, scores = (None if known is None else known[scenes] for known in (self.ratios, self.scores))
        return Start(self.motion.rows(scenes), ratios, scores, self.identity)


@dataclass(frozen=True, eq=False, kw_only=True)
class Driver(ABC):
    """The motion that drives a face. It can be played any number of times."""

    name: str  # for messages
    fps: Fraction
    frames: int  # number of frames
    is_photo: bool = False
    has_pictures: bool = True  # whether batches have the crops that M saw
    ratios: Array | None = None  # (N,3) openings of left eye, right eye and lips in all frames of a video
    scores: Array | None = None  # (N,52) blendshapes likewise
    audio: Path | None = None  # a file with sound
    cuts: tuple[int, ...] = ()  # frames at which a new scene begins
    held: Stretches = ()  # frames without a face, during which the last motion is held
    is_steadied: bool = False  # whether camera movement was taken out, or position or size bounded
    work: Work = "animated"  # how the watermark describes the result

    @abstractmethod
    def start(self, face: int) -> Start:
        """The start for a face, by its number among those that this driver moves, from 0."""

    @abstractmethod
    def play(self, session: Session) -> Play:
        """All frames in batches; close the iterator."""


def missing_reference(reference: Reference, name: str, count: int) -> str:
    """A sentence about a reference frame that does not exist or shows no face."""
    if isinstance(reference, int) and reference >= count:
        return (
            f"reference names frame {reference}, but {name} has frames 0 to {count - 1}: choose one of these"
        )
    return f"reference names frame {reference}, which shows no face in {name}: choose another one, or auto"


class TimedDriver:
    """Plays one driver for one result: smooths its motion and measures its jitter."""

    def __init__(self, driver: Driver, strength: float, needs_surroundings: bool = False) -> None:
        """`strength` of the smoothing; `needs_surroundings`: whether batches come with their surroundings."""
        self.driver = driver
        self._strength, self._needs_surroundings = strength, needs_surroundings
        self._before, self._after = JitterMeter(), JitterMeter()

    def play(self, session: Session, fps: Fraction) -> Play:
        """Batches of `session.batch` frames for a result at rate `fps`; the last may be shorter. A photo never ends.

        Frame i of the result shows the driver's frame ⌊i · own rate / result's rate⌋, the one displayed at that time.
        """
        with closing(self.driver.play(session)) as play:
            if self.driver.is_photo:
                yield from repeat(next(play).take([0] * session.batch))
            frames = resample_frames(self._smoothed(play), self.driver.fps / fps, session.batch)
            yield from with_surroundings(frames, fps, session.batch) if self._needs_surroundings else frames

    def jitter(self) -> Jitter:
        """The jitter of the keypoints played so far, px of the 256 px crop."""
        return Jitter(f"keypoints of {self.driver.name}", self._before.value, self._after.value)

    def _smoothed(self, play: Iterable[DrivingBatch]) -> Iterator[DrivingBatch]:
        """The same frames with smoothed motion; smoothing restarts at cuts."""
        smoother = MotionSmoother(self._strength, self.driver.fps)
        waiting: list[DrivingBatch] = []  # single frames whose smoothed motion is not known yet
        scene = number = 0
        for part, is_start in _split(play, self.driver.cuts):
            frames = range(number, number + len(part))
            check_motion(self.driver.name, frames, part.motion)
            number += len(part)
            if self.driver.cuts:
                scene += is_start
                numbers = torch.full((len(part),), scene, device=part.motion.scale.device)
                part = replace(part, scenes=numbers)
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
        """The waiting frames whose smoothed motion is known after `part`; with None, at the end of a stretch, all."""
        if not waiting:
            return
        motion = smoother.push(part.motion) if part else smoother.flush(waiting[0].motion)
        count = len(motion.scale)
        if count:
            self._after.add(crop_points(motion))
            done = DrivingBatch.cat(waiting[:count])
            del waiting[:count]
            yield replace(done, motion=motion)


def resample_frames(play: Iterable[DrivingBatch], ratio: Fraction, size: int) -> Iterator[DrivingBatch]:
    """The frames ⌊i · ratio⌋ for i = 0, 1, ... until the input ends, in batches of `size`."""
    waiting: list[DrivingBatch] = []
    first, number = 0, 0  # input number of a batch's first frame; number of the next output frame
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


def with_surroundings(play: Iterable[DrivingBatch], fps: Fraction, size: int) -> Iterator[DrivingBatch]:
    """The same batches of at most `size` frames with their surroundings, for which a few are held back."""
    near = math.ceil(REACH * float(fps) / size)  # batches to each side
    before: deque[DrivingBatch] = deque(maxlen=near)
    after: deque[DrivingBatch] = deque()

    def complete() -> DrivingBatch:
        batch = after.popleft()
        around = Surroundings.of(before, batch, after, fps)
        before.append(replace(batch, crops=(None,) * len(batch)))
        return replace(batch, around=around)

    for batch in play:
        after.append(batch)
        if len(after) > near:
            yield complete()
    while after:
        yield complete()


def _split(play: Iterable[DrivingBatch], cuts: Sequence[int]) -> Iterator[tuple[DrivingBatch, bool]]:
    """Batches split at cuts, and whether each begins at a cut."""
    first = 0
    for batch in play:
        inside = [cut - first for cut in cuts if first < cut < first + len(batch)]
        edges = [0, *inside, len(batch)]
        for begin, end in pairwise(edges):
            whole = (begin, end) == (0, len(batch))
            yield (batch if whole else batch.take(range(begin, end))), first + begin in cuts
        first += len(batch)
