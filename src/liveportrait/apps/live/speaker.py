"""A portrait that speaks for a visitor of the live stream: sound comes at any time, frames go out by the clock."""

from __future__ import annotations

import threading

import numpy as np

from liveportrait.animation.options import DriveOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.speaking.live import MOST_CAUGHT_UP, MOST_WAITING, LiveVoice
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.apps.live.frames import NOT_TAKEN, Refusal
from liveportrait.errors import UserError
from liveportrait.media.sound.speech import SPEECH_RATE
from liveportrait.types import Image


class Speaker:
    """Takes sound from any thread, before it has a portrait already. Everything else belongs to one thread."""

    def __init__(self, options: SpeechOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._early = bytearray()  # what came before the voice was there
        self._voice: LiveVoice | None = None
        self._earlier = 0  # samples that were fed to the voices before this one
        self.stages: dict[str, float] = {}
        """seconds that each stage took since the frame before the last one; of frames side by side, of all of them"""
        self._before: dict[str, float] = {}

    @property
    def waiting(self) -> float:
        """Seconds of sound that are still to be said."""
        return self._voice.waiting if self._voice else 0.0

    @property
    def said(self) -> int:
        """How many of the samples that were fed have come out with a frame, or were forgotten with a portrait."""
        return self._earlier + (self._voice.said if self._voice else 0)

    def begin(self, portrait: Portrait, options: DriveOptions) -> None:
        """Speak through a portrait from now on; what waited to be said is forgotten. Raises `UserError`."""
        session = portrait.session()
        voice = portrait.live_with(session, options, self.options.fps).voice(self.options)
        with self._lock:
            if self._voice:
                self._earlier += self._voice.due
                self._voice.close()
            self._session, self._voice, self._before = session, voice, {}
            voice.feed(np.frombuffer(bytes(self._early), "<i2"))
            self._early.clear()

    def feed(self, samples: bytes) -> None:
        """Say this after what waits: 16-bit mono sound at 16 kHz, little end first.

        Raises `Refusal` for half a sample, `UserError` where far too much waits.
        """
        if len(samples) % 2:
            raise Refusal(NOT_TAKEN, f"{len(samples)} bytes of sound are no 16-bit samples")
        with self._lock:
            if self._voice is None:
                if len(self._early) + len(samples) > 2 * SPEECH_RATE * MOST_WAITING:
                    raise UserError("the portrait is not ready to speak: wait for its first frame")
                self._early += samples
                return
        self._voice.feed(np.frombuffer(samples, "<i2"))

    def interrupt(self) -> None:
        """Forget what waits to be said."""
        with self._lock:
            self._early.clear()
        if self._voice:
            self._voice.interrupt()

    @property
    def at_once(self) -> int:
        """How many pictures are made side by side."""
        assert self._voice
        return self._voice.at_once

    def ask(self, skipped: int) -> int:
        """Have the next picture be made after some that are left out; how many were left out.

        Where more were missed than `MOST_CAUGHT_UP`, the voice has waited instead.
        """
        assert self._voice
        skipped = skipped if skipped <= MOST_CAUGHT_UP * self.options.fps else 0
        self._voice.begin(skipped)
        return skipped

    def take(self) -> tuple[Image, bytes]:
        """The oldest picture that was asked for, and its sound with that of those left out; any thread may wait."""
        assert self._voice
        spoken = self._voice.take()
        spent = self._spent()
        self.stages = {name: busy - self._before.get(name, 0.0) for name, busy in spent.items()}
        self._before = spent
        return spoken.picture, spoken.pcm.astype("<i2").tobytes()

    def _spent(self) -> dict[str, float]:
        return {name: spent.busy for name, spent in self._session.clock.profile(0).stages.items()}

    def close(self) -> None:
        """Say nothing more."""
        if self._voice:
            self._voice.close()
