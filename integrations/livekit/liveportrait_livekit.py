"""A talking portrait as a LiveKit agent's avatar: the agent's audio in; pictures, and the audio in sync, out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator

from liveportrait import DriveOptions, Portrait, SpeechOptions, UserError

RATE = 24000  # default sample rate, Hz


class PortraitVideo(VideoGenerator):
    """Speaks what the agent says; between turns it moves its head a little and blinks.

    Pictures come in real time, `speech.fps` per second; those that the machine cannot render in time are dropped, so
    the voice is never late. An interruption silences the voice at once.
    """

    def __init__(
        self,
        portrait: Portrait,
        speech: SpeechOptions | None = None,
        drive: DriveOptions | None = None,
        rate: int = RATE,
    ) -> None:
        """`rate`: the agent's sample rate, Hz. Renders one picture to learn its size.

        Raises `UserError` for options that do not suit the portrait.
        """
        self._voice = portrait.live(drive).voice(speech, rate)
        self._frames = self._voice.frames()
        self._worker = ThreadPoolExecutor(1, "portrait")  # a live voice must stay on one thread
        self._rate = rate
        self._ends: deque[int] = deque()  # a turn ends once this many samples have been said
        self._turn = 0  # counts interruptions
        self._height, self._width = self._worker.submit(self._voice.frame).result().picture.shape[:2]

    @property
    def options(self) -> AvatarOptions:
        """The formats of pictures and sound, for an `AvatarRunner`."""
        return AvatarOptions(
            video_width=self._width,
            video_height=self._height,
            video_fps=self._voice.fps,
            audio_sample_rate=self._rate,
            audio_channels=1,
        )

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Queue audio, or the end of a turn. Raises `UserError` for audio at another sample rate."""
        if isinstance(frame, AudioSegmentEnd):
            self._ends.append(self._voice.due)
            return
        if frame.sample_rate != self._rate:
            raise UserError(
                f"the agent's sound is at {frame.sample_rate} Hz: give QueueAudioOutput(sample_rate={self._rate})"
            )
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        self._voice.feed(samples.mean(1).astype(np.int16))

    def clear_buffer(self) -> None:
        """Fall silent: the user has started to speak."""
        self._turn += 1
        self._ends.clear()
        self._voice.interrupt()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        return self._stream()

    async def _stream(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        loop = asyncio.get_running_loop()
        while True:
            turn, before = self._turn, self._voice.said
            frame = await loop.run_in_executor(self._worker, next, self._frames, None)
            if frame is None:
                return
            yield self._picture(frame.picture)
            if self._voice.said > before and turn == self._turn:
                yield rtc.AudioFrame(frame.pcm.tobytes(), self._rate, 1, len(frame.pcm))
            while self._ends and self._voice.said >= self._ends[0]:
                self._ends.popleft()
                yield AudioSegmentEnd()

    @staticmethod
    def _picture(picture: np.ndarray) -> rtc.VideoFrame:
        height, width, channels = picture.shape
        kind = rtc.VideoBufferType.RGBA if channels == 4 else rtc.VideoBufferType.RGB24
        return rtc.VideoFrame(width, height, kind, picture.tobytes())

    async def aclose(self) -> None:
        """Stop, and release the portrait."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._voice.close)
        self._worker.shutdown()
