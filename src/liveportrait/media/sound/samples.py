"""The samples of a file's sound, in sync with its pictures, whatever happens to the sound in the file.

Frames are decoded, mixed to mono or stereo and resampled to one rate. Times are trusted except for small
inaccuracies: gaps become silence, overlaps are cut. What cannot be decoded is silent.
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
_SURROUND_WEIGHT = 0.5**0.5  # of side, rear, height and centre channels: ITU-R BS.775
_LAYOUTS = {1: "mono", 2: "stereo"}
# How much a time may differ from the end of the samples before it. Web cameras are that inaccurate.
_TOLERANCE_S = Fraction(4, 100)
_DOUBTFUL_S = 1  # a time that goes back by more is considered wrong, and the sound continues


@dataclass(frozen=True)
class Block:
    """Samples as decoded."""

    samples: Samples  # mono or stereo
    rate: int  # per second
    time: Fraction | None  # of the first sample, in seconds after the first picture
    starts_recording: bool  # the first block of one of the file's joined recordings


def unname_layout(stream: AudioStream) -> tuple[str, ...]:
    """The names of a stream's channels; call it before the decoder is opened.

    It gives the decoder a layout without names: PyAV (17.1 to 18.1) frees a file's custom layout twice, with the frame
    and with the decoder. A replaced layout is freed only once.
    """
    context = stream.codec_context
    layout = context.layout
    names = tuple(channel.name for channel in layout.channels)
    if names:
        context.layout = f"{len(names)}C"
    return names


def decode_blocks(container: InputContainer, stream: AudioStream, origin: Fraction) -> Iterator[Block]:
    """The decoded sound; `origin` is the time of the first picture in seconds. Damaged packets are skipped.

    Raises ValueError or FFmpegError if there is no decoder for it.
    """
    names = unname_layout(stream)
    unnamed = AudioLayout(f"{len(names)}C") if names else None
    stream.codec_context.open(strict=False)
    recording, starts_recording = 0, True
    for packet, number in readable_packets(container):
        if packet.stream_index != stream.index:
            continue
        if number != recording:
            recording, starts_recording = number, True
            stream.codec_context.flush_buffers()
        frames: Sequence[AudioFrame] = ()
        with suppress(FFmpegError):
            frames = cast(list[AudioFrame], packet.decode())
        for frame in frames:
            if not frame.samples or not frame.rate:
                continue
            if frame.layout != unnamed:  # the decoder's layout takes precedence over the container's
                names = tuple(channel.name for channel in frame.layout.channels)
            time = None if frame.pts is None or not frame.time_base else frame.pts * frame.time_base - origin
            yield Block(_mixed(_samples(frame), names), frame.rate, time, starts_recording)
            starts_recording = False


def _samples(frame: AudioFrame) -> Samples:
    """All channels of a frame. Raises ValueError or KeyError if its sample format is not supported."""
    data = frame.to_ndarray()
    if not frame.format.is_planar:
        data = data.reshape(frame.samples, -1).T
    name = frame.format.name.removesuffix("p")
    samples = data.astype(np.float32) - (128 if name == "u8" else 0)
    return cast(Samples, samples / np.float32(_FULL_SCALE[name]))


def _mixed(samples: Samples, names: Sequence[str]) -> Samples:
    """Mono unchanged, and anything else as stereo."""
    if len(samples) == 1 or names == ("FL", "FR"):
        return samples
    if len(names) != len(samples):
        names = ("NONE",) * len(samples)
    weights = np.array([_weights(name, index) for index, name in enumerate(names)], np.float32).T  # (2,C)
    return cast(Samples, weights / max(weights.sum(1).max(), 1.0) @ samples)


def _weights(name: str, index: int) -> tuple[float, float]:
    """The weights of a channel in left and right; unnamed channels alternate."""
    if name.startswith("LFE"):
        return 0.0, 0.0
    if name.startswith("AMBI"):  # the first is omnidirectional, the second left minus right
        return {"AMBI0": (0.5, 0.5), "AMBI1": (0.5, -0.5)}.get(name, (0.0, 0.0))
    weight = 1.0 if name in ("FL", "FR", "FLC", "FRC", "DL", "DR") else _SURROUND_WEIGHT
    if name[-1:] in ("L", "R") or name in ("FLC", "FRC"):
        return (weight, 0.0) if "L" in name[-2:] else (0.0, weight)
    if name.endswith("C"):
        return weight, weight
    return (1.0, 0.0) if index % 2 == 0 else (0.0, 1.0)


def continuous_samples(decoded: Iterator[Block], rate: int, channels: int) -> Iterator[Samples]:
    """The blocks as samples without gaps, starting at time 0, at `rate` per second, in 1 or 2 channels."""
    count = 0  # samples so far
    run: _Run | None = None
    for block in decoded:
        if run is None or not run.continues_with(block):
            if run is not None:
                for part in run.flush():
                    count += part.shape[1]
                    yield part
            time = block.time
            if time is None or (
                run is not None and not block.starts_recording and time < run.end - _DOUBTFUL_S
            ):
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
        yield from run.flush()


class _Run:
    """Blocks of one rate that follow each other without a gap, resampled to another rate."""

    def __init__(self, first: Block, time: Fraction, rate: int, channels: int) -> None:
        self._rate, self._channels = first.rate, channels
        self._given = 0  # input samples so far
        self._time = time
        self._moved = Fraction(0) if first.time is None else time - first.time
        self._resampler = None if first.rate == rate else AudioResampler("fltp", _LAYOUTS[channels], rate)
        self.skip = 0  # output samples to drop because they overlap with what came before

    @property
    def end(self) -> Fraction:
        """The end of the run so far, in seconds."""
        return self._time + Fraction(self._given, self._rate)

    def continues_with(self, block: Block) -> bool:
        """Whether a block follows without a gap."""
        if block.starts_recording or block.rate != self._rate:
            return False
        return block.time is None or abs(block.time + self._moved - self.end) <= _TOLERANCE_S

    def convert(self, block: Block) -> Iterator[Samples]:
        """The output samples that are available after `block`."""
        samples = block.samples
        if len(samples) != self._channels:
            samples = samples.repeat(2, 0) if len(samples) == 1 else samples.mean(0, keepdims=True)
        start, self._given = self._given, self._given + samples.shape[1]
        if self._resampler is None:
            return self._kept(samples)
        return self._resampled(audio_frame(samples, self._rate, start))

    def flush(self) -> Iterator[Samples]:
        """The samples that the resampler still holds."""
        return iter(()) if self._resampler is None else self._resampled(None)

    def _resampled(self, frame: AudioFrame | None) -> Iterator[Samples]:
        assert self._resampler is not None
        for converted in self._resampler.resample(frame):
            yield from self._kept(cast(Samples, converted.to_ndarray()))

    def _kept(self, samples: Samples) -> Iterator[Samples]:
        skipped = min(self.skip, samples.shape[1])
        self.skip -= skipped
        if samples.shape[1] > skipped:
            yield samples[:, skipped:]


def audio_frame(samples: Samples, rate: int, start: int) -> AudioFrame:
    """Samples as a frame that starts `start` samples after time 0."""
    layout = _LAYOUTS[len(samples)]
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame
