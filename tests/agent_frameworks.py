"""Stand-ins for the voice-agent frameworks if they are not installed: the classes that the integrations use."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import types
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

INTEGRATIONS = Path(__file__).parents[1] / "integrations"


def installed(name: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def integration(name: str, patch: pytest.MonkeyPatch, stand_in: dict[str, types.ModuleType]) -> Any:
    """The module of an integration, freshly imported with a stand-in for its framework."""
    for module, made in stand_in.items():
        patch.setitem(sys.modules, module, made)
    place = INTEGRATIONS / name / f"liveportrait_{name}.py"
    spec = importlib.util.spec_from_file_location(f"liveportrait_{name}", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _modules(*names: str) -> dict[str, Any]:
    return {name: types.ModuleType(name) for name in names}


class VideoFrame:
    def __init__(self, width: int, height: int, kind: int, data: bytes) -> None:
        assert len(data) == width * height * {1: 3, 2: 4}[kind]
        self.width, self.height, self.data = width, height, data


class AudioFrame:
    def __init__(self, data: bytes, rate: int, channels: int, samples: int) -> None:
        assert len(data) == 2 * channels * samples
        self.data, self.sample_rate, self.num_channels = memoryview(data).cast("h"), rate, channels
        self.samples_per_channel = samples


@dataclass
class _AvatarOptions:
    video_width: int
    video_height: int
    video_fps: float
    audio_sample_rate: int
    audio_channels: int


def livekit() -> dict[str, types.ModuleType]:
    """The parts of LiveKit Agents that a video generator uses."""
    made = _modules("livekit", "livekit.rtc", "livekit.agents", "livekit.agents.voice")
    made |= _modules("livekit.agents.voice.avatar")
    rtc, avatar = made["livekit.rtc"], made["livekit.agents.voice.avatar"]
    rtc.VideoFrame, rtc.AudioFrame = VideoFrame, AudioFrame
    rtc.VideoBufferType = types.SimpleNamespace(RGB24=1, RGBA=2)
    avatar.AudioSegmentEnd = type("AudioSegmentEnd", (), {})
    avatar.VideoGenerator, avatar.AvatarOptions = type("VideoGenerator", (), {}), _AvatarOptions
    made["livekit"].rtc = rtc
    return made


@dataclass
class _Frame:
    interruptible: bool = field(default=True, init=False)


class _System(_Frame):
    pass


class EndFrame(_Frame):
    def __init__(self) -> None:
        super().__init__()
        self.interruptible = False


@dataclass
class _Sound(_Frame):
    audio: bytes
    sample_rate: int
    num_channels: int


@dataclass
class _Image(_Frame):
    image: bytes
    size: tuple[int, int]
    format: str
    sync_with_audio: bool = field(default=False, init=False)


class _Direction(Enum):
    DOWNSTREAM = 1
    UPSTREAM = 2


class _Processor:
    """Collects pushed frames. As in Pipecat, nothing may be pushed before the pipeline has started."""

    def __init__(self) -> None:
        self.pushed: list[Any] = []

    async def setup(self, setup: Any) -> None:
        """Called first."""

    async def cleanup(self) -> None:
        """Called last."""

    async def process_frame(self, frame: _Frame, direction: _Direction) -> None:
        """Forward a frame."""

    async def push_frame(self, frame: _Frame, direction: _Direction = _Direction.DOWNSTREAM) -> None:
        """Collect a frame."""
        assert self.pushed or type(frame).__name__ == "StartFrame"
        self.pushed.append(frame)

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        return asyncio.create_task(work)

    async def cancel_task(self, task: asyncio.Task[None]) -> None:
        """Cancel a task and wait for it."""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _SameRate:
    async def resample(self, audio: bytes, given: int, wanted: int) -> bytes:
        assert given == wanted
        return audio


def pipecat() -> dict[str, types.ModuleType]:
    """The parts of Pipecat that a processor uses."""
    made = _modules("pipecat", "pipecat.audio", "pipecat.audio.utils", "pipecat.frames")
    made |= _modules("pipecat.frames.frames", "pipecat.processors", "pipecat.processors.frame_processor")
    made["pipecat.audio.utils"].create_stream_resampler = _SameRate
    frames, processors = made["pipecat.frames.frames"], made["pipecat.processors.frame_processor"]
    frames.Frame, frames.SystemFrame, frames.EndFrame = _Frame, _System, EndFrame
    for name in ("StartFrame", "CancelFrame", "InterruptionFrame"):
        setattr(frames, name, type(name, (_System,), {}))
    frames.TTSStoppedFrame = type("TTSStoppedFrame", (_Frame,), {})
    frames.TTSAudioRawFrame, frames.OutputImageRawFrame = _Sound, _Image
    processors.FrameDirection, processors.FrameProcessor = _Direction, _Processor
    processors.FrameProcessorSetup = types.SimpleNamespace
    return made
