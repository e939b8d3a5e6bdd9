"""A talking portrait in a Pipecat pipeline: TTS audio in; pictures, and the audio in sync with them, out."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from liveportrait import DriveOptions, Portrait, SpeechOptions


class SpeakingPortrait(FrameProcessor):
    """Goes between the TTS service and the transport's output; between turns the portrait moves a little and blinks.

    Pictures come in real time, `speech.fps` per second; those that the machine cannot render in time are dropped, so
    the voice is never late. Each picture is pushed before its sound. Frames that follow speech, such as the end of a
    turn, wait until the speech has gone out. An interruption silences the voice at once.
    """

    def __init__(
        self,
        portrait: Portrait,
        speech: SpeechOptions | None = None,
        drive: DriveOptions | None = None,
        **kwargs: object,
    ) -> None:
        """`kwargs` go to `FrameProcessor`. Raises `UserError` for options that do not suit the portrait."""
        super().__init__(**kwargs)
        self._live, self._speech = portrait.live(drive), speech
        self._worker = ThreadPoolExecutor(1, "portrait")  # a live voice must stay on one thread
        self._resampler = create_stream_resampler()
        self._held: deque[tuple[int, Frame]] = deque()  # each goes out once this many samples have been said
        self._drained = asyncio.Event()
        self._turn = 0  # counts interruptions
        self._showing: asyncio.Task[None] | None = None

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Create the voice at the pipeline's sample rate."""
        await super().setup(setup)
        self._rate = setup.audio_out_sample_rate
        self._voice = self._live.voice(self._speech, self._rate)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Feed speech to the voice; pass everything else on, in order."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM and isinstance(frame, TTSAudioRawFrame):
            await self._feed(frame)
            return
        if isinstance(frame, InterruptionFrame):
            self._interrupt()
        elif isinstance(frame, CancelFrame):
            await self._stop()
        elif isinstance(frame, EndFrame):
            await self._finish()
        elif direction is FrameDirection.DOWNSTREAM and not isinstance(frame, SystemFrame):
            due = self._voice.due
            if self._held or due > self._voice.said:
                self._held.append((due, frame))
                return
        await self.push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._showing = self.create_task(self._show())

    async def cleanup(self) -> None:
        """Stop the portrait."""
        await self._stop()
        await super().cleanup()

    async def _feed(self, frame: TTSAudioRawFrame) -> None:
        sound = await self._resampler.resample(frame.audio, frame.sample_rate, self._rate)
        samples = np.frombuffer(sound, np.int16).reshape(-1, frame.num_channels)
        self._voice.feed(samples.mean(1).astype(np.int16))

    def _interrupt(self) -> None:
        self._turn += 1
        self._voice.interrupt()
        self._held = deque((0, frame) for _, frame in self._held if not frame.interruptible)

    async def _show(self) -> None:
        loop, frames = asyncio.get_running_loop(), self._voice.frames()
        while True:
            turn, before = self._turn, self._voice.said
            frame = await loop.run_in_executor(self._worker, next, frames, None)
            if frame is None:
                return
            speaks = self._voice.said > before and turn == self._turn
            await self.push_frame(_image(frame.picture, speaks))
            if speaks:
                await self.push_frame(TTSAudioRawFrame(frame.pcm.tobytes(), self._rate, 1))
            while self._held and self._voice.said >= self._held[0][0]:
                await self.push_frame(self._held.popleft()[1])
            if not self._held and self._voice.said >= self._voice.due:
                self._drained.set()

    async def _finish(self) -> None:
        """Say what is queued, then stop."""
        if self._showing:
            self._drained.clear()
            await self._drained.wait()
        await self._stop()

    async def _stop(self) -> None:
        if self._showing:
            showing, self._showing = self._showing, None
            await self.cancel_task(showing)
            await asyncio.get_running_loop().run_in_executor(self._worker, self._live.close)
            self._worker.shutdown()


def _image(picture: np.ndarray, speaks: bool) -> OutputImageRawFrame:
    """A picture as Pipecat's frame; one that speaks is shown once the audio before it has been played."""
    height, width, channels = picture.shape
    image = OutputImageRawFrame(picture.tobytes(), (width, height), "RGBA" if channels == 4 else "RGB")
    image.sync_with_audio = speaks
    return image
