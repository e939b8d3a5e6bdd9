"""A voice as driver: V hears, the mean face speaks, and the portrait follows it like any other driver."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import torch

from liveportrait.animation.driver.base import Driver, DrivingBatch, Play, Start, resample_frames
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.canonical import EYE_BLINK
from liveportrait.media.sound.speech import Speech
from liveportrait.motion import FACE_MESH, change_since, groups_for, with_neck
from liveportrait.motion.voice import Performance, animate_mean_face

ONSET = 0.12  # s over which motion fades in from the first frame, which is at rest
LOWER_FACE = tuple(range(22, 52))  # jaw, mouth and nose among the 52 blendshapes


class VoiceStream(Protocol):
    """V on a sound that arrives in pieces."""

    def feed(self, samples: Speech) -> Performance:
        """The frames that are known after hearing these samples (mono, 16 kHz)."""
        ...

    def finish(self) -> Performance:
        """The remaining frames, at the end of the sound."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class SpeechDriver(Driver):
    """A voice. Its first frame is at rest, and motion starts from it."""

    engine: Engine
    sound: Callable[[], Iterator[Speech]]  # the entire sound from its start
    hear: Callable[[Fraction], VoiceStream]  # a new stream of V, at a frame rate
    head: Driver | None  # the driver of the head
    options: SpeechOptions
    speaks_only: bool  # whether only the lower face moves

    def at(self, fps: Fraction) -> SpeechDriver:
        """The same voice at another frame rate."""
        return replace(self, fps=fps, frames=max(1, math.ceil(self.frames * fps / self.fps)))

    def start(self, face: int) -> Start:
        """The mean face at rest."""
        rest = animate_mean_face(self.engine, Performance.at_rest(1))
        return Start(rest.motion, rest.ratios, rest.scores)

    def play(self, session: Session) -> Play:
        """All frames in batches."""
        with closing(self._heads(session)) as heads:
            yield from resample_frames(self._animated(heads), Fraction(1), session.batch)

    def _animated(self, heads: Iterator[DrivingBatch]) -> Iterator[DrivingBatch]:
        done = 0
        for performance in self._performed():
            count = min(len(performance.lips), self.frames - done)
            if not count:
                continue
            batch = driving_batch(self.engine, Performance(*(part[:count] for part in performance)))
            if self.head:
                batch = _with_heads(batch, heads, self.head.start(0))
            yield batch
            done += count
        if done < self.frames:  # the sound is slightly shorter than its header says
            yield driving_batch(self.engine, Performance.at_rest(self.frames - done))

    def _performed(self) -> Iterator[Performance]:
        """V's performance of the sound; the first frame is at rest, and motion fades in from there."""
        voice = self.hear(self.fps)
        done, onset = 0, max(1.0, float(ONSET * self.fps))
        for samples in self._pieces():
            heard = voice.finish() if samples is None else voice.feed(samples)
            performance = apply_options(heard, self.options, self.speaks_only, self.head is not None)
            count = len(performance.lips)
            share = ((done + torch.arange(count)) / onset).clamp(max=1)
            done += count
            scores, lips, angles, shift = performance
            rows = share[:, None]
            yield Performance(rows * scores, share * lips, rows * angles, rows * shift)

    def _pieces(self) -> Iterator[Speech | None]:
        """The sound in pieces of at most a second, then None."""
        for samples in self.sound():
            for begin in range(0, len(samples), 16000):
                yield samples[begin : begin + 16000]
        yield None

    def _heads(self, session: Session) -> Generator[DrivingBatch, None, None]:
        """Single frames of the head's driver, in a loop."""
        if self.head is None:
            return
        while True:
            with closing(self.head.play(session)) as play:
                for batch in resample_frames(play, self.head.fps / self.fps, session.batch):
                    yield from batch.slices(1)


def driving_batch(engine: Engine, performance: Performance) -> DrivingBatch:
    """A performance as a driver's frames."""
    animated = animate_mean_face(engine, performance)
    return DrivingBatch(animated.motion, animated.ratios, (None,) * len(performance.lips), animated.scores)


def apply_options(
    performance: Performance, options: SpeechOptions, speaks_only: bool, has_head: bool
) -> Performance:
    """A performance as modified by the options; `has_head`: whether a driver moves the head."""
    scores = performance.scores.clone()
    mouth = list(LOWER_FACE)
    scores[:, mouth] = scores[:, mouth] * options.strength
    if speaks_only:
        scores[:, : LOWER_FACE[0]] = 0
    elif not options.blink:
        scores[:, list(EYE_BLINK)] = 0
    angles, shift = performance.angles, performance.shift
    if speaks_only or has_head or options.head == "still":
        angles, shift = torch.zeros_like(angles), torch.zeros_like(shift)
    return Performance(scores, performance.lips * options.strength, angles, shift)


def require_speaker(engine: Engine) -> None:
    """Raise `UserError` if the weights cannot be driven by a voice."""
    if not (engine.can_express and groups_for(engine.variant).keypoints_are_landmarks):
        raise UserError("these weights have no expression module, which a voice needs: use compact")


def require_speaking_face(source: Source) -> None:
    """Raise `UserError` if a face of the source is an animal's, or was not found."""
    if any(face.is_animal for face in source.faces):
        raise UserError(f"{source.name} shows an animal: a voice moves the faces of people")
    if any(face.openings is None for face in source.faces):
        raise UserError(f"no face was found in {source.name}, so nothing can speak: leave out --no-crop")


def _with_heads(batch: DrivingBatch, heads: Iterator[DrivingBatch], start: Start) -> DrivingBatch:
    """Frames whose head also makes the movement of another driver's head since its start."""
    driving = DrivingBatch.cat([next(heads) for _ in range(len(batch))]).motion
    change = change_since(driving, start.motion, FACE_MESH)
    own = batch.motion
    local = own.expression @ own.rotation.transpose(1, 2)
    rotation = change.rotation @ own.rotation
    scale = own.scale * change.scale
    moved = own._replace(rotation=rotation, scale=scale, expression=local @ rotation)
    return replace(batch, motion=with_neck(moved, own, own.scale * change.translation))
