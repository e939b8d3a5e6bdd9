"""A portrait that speaks live sound, and breathes, blinks and moves a little while there is none."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from liveportrait.animation.driver.base import DrivingBatch, Start, Surroundings
from liveportrait.animation.options import DriveOptions
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.animation.speaking.driver import VoiceStream, apply_options, driving_batch
from liveportrait.animation.speaking.options import SpeechOptions, speaking_options
from liveportrait.animation.speaking.stage import LiveStage
from liveportrait.errors import UserError
from liveportrait.media.sound.speech import SPEECH_RATE, Speech, SpeechResampler, as_int16, as_speech
from liveportrait.motion.expression import REACH
from liveportrait.motion.voice import Performance, animate_mean_face
from liveportrait.types import Closeable, Image

MAX_QUEUED_SECONDS = 600  # of sound: speech services send faster than real time
# Skip frames after gaps up to this between calls; after longer ones, pause instead
MAX_CATCH_UP_SECONDS = 2.0


class SpokenFrame(NamedTuple):
    """A picture, and the sound that belongs to it."""

    picture: Image  # (H,W,3) uint8 RGB
    sound: Speech  # (n,) mono at the voice's rate, to be heard from when the picture is shown

    @property
    def pcm(self) -> NDArray[np.int16]:
        """The sound as 16-bit samples (n,)."""
        return as_int16(self.sound)


class _Sound(NamedTuple):
    """The sound of one frame."""

    samples: Speech
    fed: int  # how many of the samples were fed; the rest are silence, as the queue was empty

    @property
    def silenced(self) -> _Sound:
        """The same length of silence."""
        return _Sound(np.zeros_like(self.samples), 0)


@dataclass(eq=False)
class _Coming:
    """A frame that is being rendered, and the sound of it and of frames skipped before it."""

    picture: Future[Image]
    sounds: list[_Sound]


class LiveVoice(Closeable):
    """Gives frames of a portrait that speaks the sound it is fed, each with its sound; without sound, idle ones.

    `feed`, `interrupt`, `said` and `due` may be called from any thread, and `take` from a second one; use everything
    else from one thread only. Sound comes out with its picture, delayed by the look-ahead of the voice network.

    >>> with portrait.live() as live, live.voice() as voice:
    ...     voice.feed(samples)
    ...     for picture, sound in voice.frames():
    ...         send(picture, sound)
    """

    def __init__(
        self,
        session: Session,
        source: Source,
        options: DriveOptions,
        speech: SpeechOptions,
        hear: VoiceStream,
        rate: int = SPEECH_RATE,
    ) -> None:
        """`hear`: V for the coming sound, at `speech.fps`; `rate`: samples per second of input and output."""
        is_video = source.fps is not None
        self._session, self._speech, self._hear, self._is_video = session, speech, hear, is_video
        self._fps = Fraction(speech.fps).limit_denominator(1001)
        options = speaking_options(options, is_video)
        self._stage = LiveStage(session, source, options, self._fps, "spoken")
        rest = animate_mean_face(session.engine, Performance.at_rest(1))
        start = Start(rest.motion, rest.ratios, rest.scores)
        self._transfers = [MotionTransfer(session.engine, own, start, False, options) for own in source.faces]
        self._rest = driving_batch(session.engine, Performance.at_rest(1))
        self._rate, self._at_speech_rate = rate, SpeechResampler(rate)
        self._lock = threading.Lock()  # guards what is queued, heard and said
        self._waiting: deque[Speech] = deque()
        self._waits = 0  # samples
        self._known: deque[DrivingBatch] = deque()  # one frame each
        self._heard: deque[_Sound] = deque()  # of each frame that V has heard and that is not begun
        self._coming: deque[_Coming] = deque()
        self._said = 0
        self._past: deque[DrivingBatch] = deque(maxlen=math.ceil(REACH * speech.fps))
        self._given = 0  # frames
        self._is_closed = False

    @property
    def fps(self) -> float:
        """Frames per second."""
        return float(self._fps)

    @property
    def at_once(self) -> int:
        """How many frames are rendered in parallel."""
        return self._stage.at_once

    @property
    def waiting(self) -> float:
        """Seconds of sound that were fed and are not spoken yet."""
        return self._waits / self._rate

    @property
    def said(self) -> int:
        """How many of the fed samples have come out with a frame."""
        return self._said

    @property
    def due(self) -> int:
        """What `said` will be once everything fed so far has come out."""
        with self._lock:
            coming = [sound for each in self._coming for sound in each.sounds]
            return self._said + self._waits + sum(each.fed for each in (*self._heard, *coming))

    @property
    def delay(self) -> float:
        """Seconds from input to output: the look-ahead of V."""
        return len(self._heard) / float(self._fps)

    def feed(self, samples: ArrayLike) -> None:
        """Queue mono samples (n,) at the voice's rate, floats in [-1, 1] or int16.

        Raises `UserError` for any other kind of samples, and when the queue is full.
        """
        sound = as_speech(samples, self._rate)
        with self._lock:
            if self._waits + len(sound) > MAX_QUEUED_SECONDS * self._rate:
                raise UserError(
                    f"{self.waiting:.0f} s of sound wait to be spoken: take frames as fast as sound is fed"
                )
            self._waiting.append(sound)
            self._waits += len(sound)

    def interrupt(self) -> None:
        """Stop speaking at once and drop all queued sound, because somebody else has begun to speak.

        The mouth closes within V's look-ahead.
        """
        with self._lock:
            self._waiting.clear()
            self._waits = 0
            self._heard = deque(each.silenced for each in self._heard)
            for coming in self._coming:
                coming.sounds = [each.silenced for each in coming.sounds]

    def frame(self, left_out: int = 0) -> SpokenFrame:
        """The next frame, 1 / `fps` s after the one before, with its sound.

        `left_out`: how many frames to skip first; their sound comes with this one. Frames that were begun and not taken
        come first.
        """
        passed = [self.take().sound for _ in range(min(left_out, len(self._coming)))]
        if self._coming:
            picture, sound = self.take()
        else:
            driving, sounds = self._driving(left_out - len(passed))
            picture = self._stage.show(self._transfers, driving)
            sound = self._out(sounds)
        return SpokenFrame(picture, np.concatenate([*passed, sound]))

    def begin(self, left_out: int = 0) -> Future[Image]:
        """Render the next frame, as `frame` does, in another thread; `take` gives it once it is done.

        Up to `at_once` frames are rendered in parallel.
        """
        driving, sounds = self._driving(left_out)
        picture = self._stage.ahead(self._transfers, driving)
        with self._lock:
            self._coming.append(_Coming(picture, sounds))
        return picture

    def take(self) -> SpokenFrame:
        """The oldest frame that was begun; waits until it is done."""
        picture = self._coming[0].picture.result()
        with self._lock:
            sounds = self._coming.popleft().sounds
        return SpokenFrame(picture, self._out(sounds))

    def skip(self) -> Speech:
        """Skip one frame; returns its sound."""
        if self._coming:
            return self.take().sound
        ((batch, sound),) = self._next(1)
        self._past.append(batch)
        self._stage.skip()
        return self._out([sound])

    def frames(self) -> Iterator[SpokenFrame]:
        """Frames in real time at `fps` until closed; several are rendered in parallel.

        If rendering is slower, frames are skipped, and their sound comes with the next one. If the caller takes more
        than two seconds between frames, the voice pauses instead.
        """
        begun = time.monotonic()
        shown = 0
        while not self._is_closed:
            due = begun + shown / float(self._fps)
            if not self._coming:
                time.sleep(max(due - time.monotonic(), 0.0))
            now, room = time.monotonic(), self.at_once - len(self._coming)
            if not self._coming or (now >= due and room > 0):
                late = max(int((now - begun) * self._fps) - shown, 0)
                self.begin(late)
                shown += late + 1
            elif _is_done(self._coming[0].picture, max(due - now, 0.0) if room > 0 else None):
                frame = self.take()
                given = time.monotonic()
                yield frame
                if (away := time.monotonic() - given) > MAX_CATCH_UP_SECONDS:
                    begun += away

    def close(self) -> None:
        """Stop. No more frames are given."""
        self._is_closed = True
        self._stage.close()

    def _driving(self, left_out: int) -> tuple[DrivingBatch, list[_Sound]]:
        """The driving motion of the next frame after skipping some, and the sound of them all."""
        *passed, (batch, sound) = self._next(left_out + 1)
        for before, _ in passed:
            self._past.append(before)
            self._stage.skip()
        around = Surroundings.of(self._past, batch, (), self._fps)
        self._past.append(batch)
        return replace(batch, around=around), [*(each for _, each in passed), sound]

    def _out(self, sounds: Sequence[_Sound]) -> Speech:
        """The samples of sounds that come out now."""
        with self._lock:
            self._said += sum(each.fed for each in sounds)
        return np.concatenate([each.samples for each in sounds])

    def _next(self, count: int) -> list[tuple[DrivingBatch, _Sound]]:
        """Let V hear the sound of `count` more frames; returns as many frames that are known by now, or at rest."""
        if self._is_closed:
            raise UserError("this voice is closed: ask the live portrait for another one")
        edges = [int((self._given + row) * self._rate / self._fps) for row in range(count + 1)]
        self._given += count
        taken = [self._take(end - begin) for begin, end in pairwise(edges)]
        with self._session.clock.step("motion"):
            heard = self._hear.feed(self._at_speech_rate(np.concatenate(taken)))
            performance = apply_options(heard, self._speech, self._is_video, has_head=False)
            if len(performance.lips):
                self._known.extend(driving_batch(self._session.engine, performance).slices(1))
        early = max(count - len(self._known), 0)  # nothing is known of the sound yet
        frames = [(self._rest, _Sound(np.zeros_like(sound), 0)) for sound in taken[:early]]
        with self._lock:
            frames += [(self._known.popleft(), self._heard.popleft()) for _ in range(count - early)]
        return frames

    def _take(self, count: int) -> Speech:
        """`count` queued samples, padded with silence; they count as heard."""
        taken = np.zeros(count, np.float32)
        done = 0
        with self._lock:
            while self._waiting and done < count:
                part = self._waiting.popleft()
                here = part[: count - done]
                taken[done : done + len(here)] = here
                done += len(here)
                if len(part) > len(here):
                    self._waiting.appendleft(part[len(here) :])
            self._waits -= done
            self._heard.append(_Sound(taken, done))
        return taken


def _is_done(picture: Future[Image], timeout: float | None) -> bool:
    """Whether the picture is done, after waiting up to `timeout` seconds; None waits until it is."""
    return bool(wait((picture,), timeout).done)
