"""A portrait that speaks in a live stream: sound arrives at any time, frames go out at a constant rate."""

from __future__ import annotations

import threading

import numpy as np

from liveportrait.animation.options import DriveOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.speaking.live import MAX_CATCH_UP_SECONDS, MAX_QUEUED_SECONDS, LiveVoice
from liveportrait.animation.speaking.options import SpeechOptions
from liveportrait.apps.live.frames import UNSUPPORTED_DATA, Refusal
from liveportrait.errors import UserError
from liveportrait.media.sound.speech import SPEECH_RATE
from liveportrait.types import Image


class Speaker:
    """Accepts sound from any thread, even before it has a portrait. All else must be called from one thread."""

    def __init__(self, options: SpeechOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._early = bytearray()  # sound that arrived before there was a voice
        self._voice: LiveVoice | None = None
        self._earlier = 0  # samples fed to previous voices
        self.stages: dict[str, float] = {}
        """seconds per stage since the frame before the last one, summed over frames rendered in parallel"""
        self._before: dict[str, float] = {}

    @property
    def waiting(self) -> float:
        """Seconds of sound not spoken yet."""
        return self._voice.waiting if self._voice else 0.0

    @property
    def said(self) -> int:
        """How many of the samples fed have come out with a frame, or were dropped with a portrait."""
        return self._earlier + (self._voice.said if self._voice else 0)

    def begin(self, portrait: Portrait, options: DriveOptions) -> None:
        """Speak through a portrait from now on; drops sound not spoken yet. Raises `UserError`."""
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
        """Queue sound to be spoken: 16-bit mono at 16 kHz, little-endian.

        Raises `Refusal` for an odd number of bytes, `UserError` if far too much is waiting.
        """
        if len(samples) % 2:
            raise Refusal(UNSUPPORTED_DATA, f"{len(samples)} bytes of sound are not 16-bit samples")
        with self._lock:
            if self._voice is None:
                if len(self._early) + len(samples) > 2 * SPEECH_RATE * MAX_QUEUED_SECONDS:
                    raise UserError("the portrait is not ready to speak: wait for its first frame")
                self._early += samples
                return
        self._voice.feed(np.frombuffer(samples, "<i2"))

    def interrupt(self) -> None:
        """Drop the sound not spoken yet."""
        with self._lock:
            self._early.clear()
        if self._voice:
            self._voice.interrupt()

    @property
    def at_once(self) -> int:
        """How many pictures are rendered in parallel."""
        assert self._voice
        return self._voice.at_once

    def ask(self, skipped: int) -> int:
        """Start rendering a picture, after leaving out `skipped` ones; returns how many were left out.

        If more than `MAX_CATCH_UP_SECONDS` seconds were missed, none are: the voice has waited instead.
        """
        assert self._voice
        skipped = skipped if skipped <= MAX_CATCH_UP_SECONDS * self.options.fps else 0
        self._voice.begin(skipped)
        return skipped

    def take(self) -> tuple[Image, bytes]:
        """Wait for the oldest picture asked for; its sound includes that of those left out. Any thread may call it."""
        assert self._voice
        spoken = self._voice.take()
        spent = self._spent()
        self.stages = {name: busy - self._before.get(name, 0.0) for name, busy in spent.items()}
        self._before = spent
        return spoken.picture, spoken.pcm.astype("<i2").tobytes()

    def _spent(self) -> dict[str, float]:
        return {name: spent.busy for name, spent in self._session.clock.profile(0).stages.items()}

    def close(self) -> None:
        """Stop speaking."""
        if self._voice:
            self._voice.close()
