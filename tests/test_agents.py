"""Voice-agent integrations: one complete turn and one interrupted turn, through each framework's interface."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from agent_frameworks import installed, integration, livekit, pipecat
from animation_samples import portrait
from speech_samples import LoudVoice

from liveportrait import Animator, Portrait, SpeechOptions, UserError
from liveportrait.animation.speaking import voice as voices

RATE = 24000
OPTIONS = SpeechOptions(fps=5, head="still")


@pytest.fixture(scope="module")
def opened() -> Iterator[Portrait]:
    with Animator.load("compact", threads=1).open(portrait()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the voice network by a scripted one, and stop the clock so that no frame is late."""
    clock = types.SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda seconds: None)
    monkeypatch.setattr("liveportrait.animation.speaking.live.time", clock)
    monkeypatch.setattr(voices, "voice_for", lambda session, options, fps: LoudVoice(fps, options.seed))


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a new thread: tests of the pages leave an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def spoken(seconds: float) -> np.ndarray:
    """A tone as 16-bit samples."""
    return (9000 * np.sin(np.arange(int(seconds * RATE)) / 20)).astype(np.int16)


def chunks(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Samples in pieces of a tenth of a second, as services send them."""
    return (samples[begin : begin + RATE // 10] for begin in range(0, len(samples), RATE // 10))


def is_the_same(heard: np.ndarray, said: np.ndarray) -> bool:
    """Whether the speech is heard completely, in one piece, with only silence around it."""
    begin = int(np.argmax(heard != 0)) - 1  # a tone begins at 0
    piece = heard[begin : begin + len(said)].astype(int)
    return len(piece) == len(said) and abs(piece - said).max() <= 1 and not heard[begin + len(said) :].any()


class TestLiveKit:
    async def _heard(self, module: Any, opened: Portrait, interrupts: bool) -> tuple[list[Any], np.ndarray]:
        """Everything the generator yields until the turn ends, or for a second after an interruption."""
        video = module.PortraitVideo(opened, OPTIONS)
        said = spoken(0.7)
        given: list[Any] = []
        after: list[Any] = []
        try:
            assert video.options.video_fps == 5 and video.options.audio_sample_rate == RATE
            async for frame in video:
                given.append(frame)
                if len(given) == 1:  # first idle, then speech
                    for chunk in chunks(said):
                        await video.push_audio(module.rtc.AudioFrame(chunk.tobytes(), RATE, 1, len(chunk)))
                    await video.push_audio(module.AudioSegmentEnd())
                if interrupts and isinstance(frame, module.rtc.AudioFrame):
                    video.clear_buffer()
                    interrupts = False
                    after.append(frame)
                elif after:
                    after.append(frame)
                if isinstance(frame, module.AudioSegmentEnd) or len(after) > 3:
                    break
            with pytest.raises(UserError, match="at 8000 Hz: give QueueAudioOutput"):
                await video.push_audio(module.rtc.AudioFrame(said[:80].tobytes(), 8000, 1, 80))
        finally:
            await video.aclose()
        return after or given, said

    def test_a_turn(self, monkeypatch: pytest.MonkeyPatch, opened: Portrait) -> None:
        module = integration("livekit", monkeypatch, {} if installed("livekit.agents") else livekit())
        given, said = in_a_loop(self._heard(module, opened, False))
        kinds = [type(frame).__name__ for frame in given]
        assert kinds[0] == "VideoFrame" and kinds[-1] == "AudioSegmentEnd"
        first = kinds.index("AudioFrame")
        assert first >= 1 and kinds[first - 1] == "VideoFrame"  # a picture comes before its sound
        sounds = [np.array(frame.data) for frame in given if isinstance(frame, module.rtc.AudioFrame)]
        assert is_the_same(np.concatenate(sounds), said)
        before, during = (np.frombuffer(given[at].data, np.uint8) for at in (0, first + 1))
        assert len(before) == 3 * given[0].width * given[0].height
        assert np.abs(before.astype(int) - during).max() > 30  # the mouth has opened

    def test_an_interruption(self, monkeypatch: pytest.MonkeyPatch, opened: Portrait) -> None:
        module = integration("livekit", monkeypatch, {} if installed("livekit.agents") else livekit())
        given, _ = in_a_loop(self._heard(module, opened, True))
        assert [type(frame).__name__ for frame in given] == ["AudioFrame"] + 3 * ["VideoFrame"]


class TestPipecat:
    async def _pushed(self, module: Any, opened: Portrait, interrupts: bool) -> tuple[list[Any], np.ndarray]:
        """Everything the processor pushes when called as a pipeline would call it."""
        from pipecat.frames.frames import InterruptionFrame, TTSStoppedFrame

        down = module.FrameDirection.DOWNSTREAM
        processor = module.SpeakingPortrait(opened, OPTIONS)
        said = spoken(20 if interrupts else 0.7)  # long enough to be interrupted midway on a busy machine too
        await processor.setup(types.SimpleNamespace(audio_out_sample_rate=RATE))
        await processor.process_frame(module.StartFrame(), down)
        for chunk in chunks(said):
            await processor.process_frame(module.TTSAudioRawFrame(chunk.tobytes(), RATE, 1), down)
        await processor.process_frame(TTSStoppedFrame(), down)
        if interrupts:
            while not any(isinstance(frame, module.TTSAudioRawFrame) for frame in processor.pushed):
                await asyncio.sleep(0.01)
            await processor.process_frame(InterruptionFrame(), down)
        await processor.process_frame(module.EndFrame(), down)
        await processor.cleanup()
        return processor.pushed, said

    @pytest.fixture
    def module(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        return integration("pipecat", monkeypatch, pipecat())

    def test_a_turn(self, module: Any, opened: Portrait) -> None:
        pushed, said = in_a_loop(self._pushed(module, opened, False))
        rows = [row for row, frame in enumerate(pushed) if isinstance(frame, module.TTSAudioRawFrame)]
        assert all(pushed[row - 1].sync_with_audio for row in rows)  # a picture goes before its sound
        assert is_the_same(np.concatenate([np.frombuffer(pushed[row].audio, np.int16) for row in rows]), said)
        names = [type(frame).__name__ for frame in pushed]
        assert names[0] == "StartFrame" and names[-1] == "EndFrame"
        assert names.index("TTSStoppedFrame") == rows[-1] + 1

    def test_an_interruption(self, module: Any, opened: Portrait) -> None:
        pushed, said = in_a_loop(self._pushed(module, opened, True))
        heard = [frame.audio for frame in pushed if isinstance(frame, module.TTSAudioRawFrame)]
        assert 0 < sum(map(len, heard)) < said.nbytes / 2
        assert "TTSStoppedFrame" not in [type(frame).__name__ for frame in pushed]


@pytest.mark.skipif(not installed("livekit.agents"), reason="livekit-agents is not installed")
def test_inside_livekit(monkeypatch: pytest.MonkeyPatch, opened: Portrait) -> None:
    """LiveKit's own runner publishes its output, and reports to the agent how much was heard."""
    from livekit.agents.voice.avatar import AvatarRunner, QueueAudioOutput

    module = integration("livekit", monkeypatch, {})
    said = spoken(0.7)

    async def publish(track: Any, options: Any) -> Any:
        return types.SimpleNamespace(wait_for_subscription=lambda: asyncio.sleep(0))

    async def run() -> tuple[list[Any], list[Any]]:
        room = types.SimpleNamespace(
            on=lambda *given: None,
            off=lambda *given: None,
            isconnected=lambda: True,
            local_participant=types.SimpleNamespace(publish_track=publish),
        )
        video = module.PortraitVideo(opened, OPTIONS)
        agent = QueueAudioOutput(sample_rate=RATE)
        runner = AvatarRunner(room, audio_recv=agent, video_gen=video, options=video.options)
        shown: list[Any] = []
        push = runner.av_sync.push

        async def spied(frame: Any, timestamp: float | None = None) -> None:
            shown.append(frame)
            await push(frame, timestamp)

        monkeypatch.setattr(runner.av_sync, "push", spied)
        ended: list[Any] = []
        agent.on("playback_finished", ended.append)
        await runner.start()
        for turn in range(2):
            for chunk in chunks(said):
                await agent.capture_frame(module.rtc.AudioFrame(chunk.tobytes(), RATE, 1, len(chunk)))
            agent.flush()
            if turn:
                while not isinstance(shown[-1], module.rtc.AudioFrame):
                    await asyncio.sleep(0.01)
                agent.clear_buffer()
            while len(ended) <= turn:
                await asyncio.sleep(0.01)
            shown.append(None)
        await runner.aclose()
        await video.aclose()
        return shown, ended

    shown, (whole, cut) = in_a_loop(asyncio.wait_for(run(), 60))
    turn = shown[: shown.index(None)]
    sounds = [np.array(frame.data) for frame in turn if isinstance(frame, module.rtc.AudioFrame)]
    assert is_the_same(np.concatenate(sounds), said)
    assert not whole.interrupted and 0.7 <= whole.playback_position < 0.9 + 1 / OPTIONS.fps
    assert cut.interrupted and cut.playback_position < 0.7


@pytest.mark.skipif(not installed("pipecat"), reason="pipecat-ai is not installed")
def test_inside_pipecat(monkeypatch: pytest.MonkeyPatch, opened: Portrait) -> None:
    """Pipecat's own pipeline runs a complete turn and an interrupted one."""
    from pipecat.frames.frames import InterruptionFrame, TTSStoppedFrame
    from pipecat.tests.utils import SleepFrame, run_test

    module = integration("pipecat", monkeypatch, {})

    def turn(said: np.ndarray) -> list[Any]:
        sounds = [module.TTSAudioRawFrame(chunk.tobytes(), RATE, 1) for chunk in chunks(said)]
        return [*sounds, TTSStoppedFrame()]

    def pushed(sent: list[Any]) -> list[Any]:
        return in_a_loop(run_test(module.SpeakingPortrait(opened, OPTIONS), frames_to_send=sent))[0]

    whole = pushed(turn(said := spoken(0.7)))
    rows = [row for row, frame in enumerate(whole) if isinstance(frame, module.TTSAudioRawFrame)]
    assert all(whole[row - 1].sync_with_audio for row in rows)
    assert isinstance(whole[rows[-1] + 1], TTSStoppedFrame)
    assert is_the_same(np.concatenate([np.frombuffer(whole[row].audio, np.int16) for row in rows]), said)

    cut = pushed([*turn(spoken(20)), SleepFrame(sleep=0.2), InterruptionFrame(), SleepFrame(sleep=0.2)])
    assert any(isinstance(frame, InterruptionFrame) for frame in cut)
    assert not any(isinstance(frame, TTSStoppedFrame) for frame in cut)
