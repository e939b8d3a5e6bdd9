"""The samples of a file's sound on the clock of its pictures, whatever the file does to them on the way.

Frames are decoded, mixed to mono or stereo and brought to one rate. Times are believed, but for small
inaccuracies: gaps become silence, what overlaps is cut. What cannot be decoded is silent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av import AudioFrame, AudioLayout, AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from liveportrait.media.sound.recordings import readable_packets

Samples = NDArray[np.float32]  # (channels, N) in [-1, 1]

_FULL_SCALE = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31, "flt": 1, "dbl": 1}
_BEHIND = 0.5**0.5  # of channels beside, behind and above, and the one in the middle: ITU-R BS.775
_LAYOUTS = {1: "mono", 2: "stereo"}
# By how much a time may differ from where the samples before it end. Web cameras are so inaccurate.
_TOLERANCE_S = Fraction(4, 100)
_DOUBTFUL_S = 1  # a time that falls back by more is wrong, and the sound goes on


@dataclass(frozen=True)
class Block:
    """Samples as they were decoded."""

    samples: Samples  # mono or stereo
    rate: int  # per second
    time: Fraction | None  # of the first one, in seconds after the first picture
    anew: bool  # the first of a recording


def hold_layout(stream: AudioStream) -> tuple[str, ...]:
    """The names of a stream's channels, before its decoder is opened.

    The decoder is given a layout without names: PyAV (17.1 to 18.1) frees a layout that a file has put together
    itself twice, with the frame and with the decoder. Once named here, such a layout is freed once.
    """
    context = stream.codec_context
    layout = context.layout
    names = tuple(channel.name for channel in layout.channels)
    if names:
        context.layout = f"{len(names)}C"
    return names


def blocks(container: InputContainer, stream: AudioStream, origin: Fraction) -> Iterator[Block]:
    """The decoded sound, `origin` being when the first picture is shown, in seconds. Damaged packets are left out.

    Raises ValueError or FFmpegError where there is no decoder for it.
    """
    names = hold_layout(stream)
    unnamed = AudioLayout(f"{len(names)}C") if names else None
    stream.codec_context.open(strict=False)
    recording, anew = 0, True
    for packet, number in readable_packets(container):
        if packet.stream_index != stream.index:
            continue
        if number != recording:
            recording, anew = number, True
            stream.codec_context.flush_buffers()
        frames: Sequence[AudioFrame] = ()
        with suppress(FFmpegError):
            frames = cast(list[AudioFrame], packet.decode())
        for frame in frames:
            if not frame.samples or not frame.rate:
                continue
            if frame.layout != unnamed:  # the decoder knows better than the container
                names = tuple(channel.name for channel in frame.layout.channels)
            time = None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base - origin
            yield Block(_mixed(_samples(frame), names), frame.rate, time, anew)
            anew = False


def _samples(frame: AudioFrame) -> Samples:
    """All channels of a frame. Raises ValueError where its format is unknown."""
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(frame.samples, -1).T
    name = frame.format.name.removesuffix("p")
    samples = data.astype(np.float32) - (128 if name == "u8" else 0)
    return cast(Samples, samples / np.float32(_FULL_SCALE[name]))


def _mixed(samples: Samples, names: Sequence[str]) -> Samples:
    """Mono as it is, and anything else as stereo."""
    if len(samples) == 1 or names == ("FL", "FR"):
        return samples
    if len(names) != len(samples):
        names = ("NONE",) * len(samples)
    weights = np.array([_weights(name, index) for index, name in enumerate(names)], np.float32).T  # (2,C)
    return cast(Samples, weights / max(weights.sum(1).max(), 1.0) @ samples)


def _weights(name: str, index: int) -> tuple[float, float]:
    """What a channel adds to left and right; unnamed ones take turns."""
    if name.startswith("LFE"):
        return 0.0, 0.0
    if name.startswith("AMBI"):  # the first is what comes from everywhere, the second left less right
        return {"AMBI0": (0.5, 0.5), "AMBI1": (0.5, -0.5)}.get(name, (0.0, 0.0))
    weight = 1.0 if name in ("FL", "FR", "FLC", "FRC", "DL", "DR") else _BEHIND
    if name[-1:] in ("L", "R") or name in ("FLC", "FRC"):
        return (weight, 0.0) if "L" in name[-2:] else (0.0, weight)
    if name.endswith("C"):
        return weight, weight
    return (1.0, 0.0) if index % 2 == 0 else (0.0, 1.0)


def laid(decoded: Iterator[Block], rate: int, channels: int) -> Iterator[Samples]:
    """The blocks as samples without gaps from time 0 on, `rate` a second, in 1 or 2 channels."""
    count = 0  # samples so far
    run: _Run | None = None
    for block in decoded:
        if run is None or not run.goes_on(block):
            if run is not None:
                for part in run.rest():
                    count += part.shape[1]
                    yield part
            time = block.time
            if time is None or (run is not None and not block.anew and time < run.end - _DOUBTFUL_S):
                time = Fraction(count, rate)
            run = _Run(block, time, rate, channels)
            missing = round(time * rate) - count
            run.skip = max(-missing, 0)
            while missing > 0:
                silence = np.zeros((channels, min(missing, rate)), np.float32)
                missing -= silence.shape[1]
                count += silence.shape[1]
                yield silence
        for part in run.convert(block):
            count += part.shape[1]
            yield part
    if run is not None:
        yield from run.rest()


class _Run:
    """Blocks of one rate that follow each other without a gap, brought to another rate."""

    def __init__(self, first: Block, time: Fraction, rate: int, channels: int) -> None:
        self._rate, self._channels = first.rate, channels
        self._given = 0  # samples taken so far
        self._time = time
        self._moved = Fraction(0) if first.time is None else time - first.time
        self._resampler = None if first.rate == rate else AudioResampler("fltp", _LAYOUTS[channels], rate)
        self.skip = 0  # samples of the result that are already taken by what came before

    @property
    def end(self) -> Fraction:
        """Where it ends so far, in seconds."""
        return self._time + Fraction(self._given, self._rate)

    def goes_on(self, block: Block) -> bool:
        """Whether a block follows."""
        if block.anew or block.rate != self._rate:
            return False
        return block.time is None or abs(block.time + self._moved - self.end) <= _TOLERANCE_S

    def convert(self, block: Block) -> Iterator[Samples]:
        """What can be said of the result once `block` is known."""
        samples = block.samples
        if len(samples) != self._channels:
            samples = samples.repeat(2, 0) if len(samples) == 1 else samples.mean(0, keepdims=True)
        start, self._given = self._given, self._given + samples.shape[1]
        if self._resampler is None:
            return self._kept(samples)
        return self._resampled(audio_frame(samples, self._rate, start))

    def rest(self) -> Iterator[Samples]:
        """What the resampler still holds."""
        return iter(()) if self._resampler is None else self._resampled(None)

    def _resampled(self, frame: AudioFrame | None) -> Iterator[Samples]:
        assert self._resampler is not None
        for converted in self._resampler.resample(frame):
            yield from self._kept(cast(Samples, converted.to_ndarray()))

    def _kept(self, samples: Samples) -> Iterator[Samples]:
        left_out = min(self.skip, samples.shape[1])
        self.skip -= left_out
        if samples.shape[1] > left_out:
            yield samples[:, left_out:]


def audio_frame(samples: Samples, rate: int, start: int) -> AudioFrame:
    """Samples as a frame that begins `start` samples after time 0."""
    layout = _LAYOUTS[len(samples)]
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame
