"""Carrying the sound of one file over into another, next to new pictures.

Packets are copied unchanged if the container supports their codec, common players play it there, and they follow each
other in one format without a gap; otherwise the sound is re-encoded, as AAC at 192 kbit/s (Opus in WebM), mono or
stereo. Either way packets are written just ahead of the pictures, so that nothing accumulates, and none ends after the
pictures do.

Everything that can go wrong is tried beforehand: the sound is read once from start to end, and decoded unless it can
certainly be copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
from av import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.packet import Packet

from liveportrait.errors import UserError
from liveportrait.media.container import audio_stream, open_media, picture_format, video_stream
from liveportrait.media.files import check_input
from liveportrait.media.sound.recordings import joined_packets, readable_packets
from liveportrait.media.sound.samples import audio_frame, continuous_samples, decode_blocks, unname_layout

COPIED = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"},
    ".mkv": {"aac", "mp3", "ac3", "eac3", "opus", "vorbis", "alac", "flac", "pcm_s16le", "pcm_s24le", "dts"},
    ".webm": {"opus", "vorbis"},
}
_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_ENCODERS: Mapping[str, Literal["libopus", "aac"]] = {".webm": "libopus"}
_RATES = {"aac": (48000, 44100, 32000, 24000, 22050, 16000), "libopus": (48000,)}
_BIT_RATE = 192_000
# Codecs need packets from before the first sound that is heard: AAC up to 48 ms, Opus 80 ms.
_LEAD_IN = Fraction(1, 10)
# These containers declare the sound's format once; in others each packet may have a different one.
_STEADY = ("mov", "matroska")
_MAX_OVERLAP = Fraction(1, 100)  # times are rounded, to milliseconds at worst
_MAX_GAP = Fraction(1, 10)
_TRIAL_PACKETS = 30


@dataclass(frozen=True)
class SoundPlan:
    """How the sound of a file is carried over into another."""

    origin: Fraction  # time of the first picture, in seconds
    is_copied: bool  # packet by packet; otherwise re-encoded with the following
    rate: int = 48000
    channels: int = 2


def plan_sound(source: Path, suffix: str) -> SoundPlan | None:
    """How to carry the sound of `source` over into a file with this suffix, after a trial; None if it has no sound.

    Raises UserError if the sound cannot be carried over.
    """
    if picture_format(check_input(source)) not in (None, "GIF"):
        return None  # an animated picture, which FFmpeg might not open
    with open_media(source) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else None
        steady = container.format.name.startswith(_STEADY)
        survey = _survey(container, stream)
    if not survey.packets:
        return None
    if codec in COPIED[suffix] and survey.is_gapless and _can_copy(source, suffix):
        if steady:
            return SoundPlan(survey.origin, True)
        forms = _decoded_forms(source, codec, survey.origin)
        if len(forms) == 1:
            return SoundPlan(survey.origin, True)
    else:
        forms = _decoded_forms(source, codec, survey.origin)
    rates = _RATES[_ENCODERS.get(suffix, "aac")]
    rate = max(rate for rate, _ in forms)
    return SoundPlan(
        survey.origin, False, rate if rate in rates else rates[0], max(channels for _, channels in forms)
    )


@dataclass
class _Survey:
    """Properties of a sound that its packets show without decoding."""

    origin: Fraction  # time of the first picture, in seconds
    packets: int
    is_gapless: bool  # they follow each other without gaps


def _survey(container: InputContainer, stream: AudioStream) -> _Survey:
    pictures = video_stream(container)
    first: Fraction | None = None
    end: Fraction | None = None
    order: int | None = None
    survey = _Survey(Fraction(0), 0, True)
    try:
        for packet, _ in joined_packets(container):
            if not packet.size or packet.is_discard:
                continue
            time = None if packet.pts is None else packet.pts * packet.time_base
            if pictures is not None and packet.stream_index == pictures.index and time is not None:
                first = time if first is None else min(first, time)
            if packet.stream_index != stream.index:
                continue
            survey.packets += 1
            if time is None or (end is not None and not -_MAX_OVERLAP <= time - end <= _MAX_GAP):
                survey.is_gapless = False
            if packet.dts is not None and order is not None and packet.dts <= order:
                survey.is_gapless = False
            end, order = end_of(packet), packet.dts
    except FFmpegError:  # the rest cannot be read, nor can its pictures
        survey.is_gapless = False
    survey.origin = first or Fraction(0)
    return survey


def _can_copy(source: Path, suffix: str) -> bool:
    """Whether packets of the sound can be copied into a file with this suffix; tries the first ones."""
    with open_media(source) as container, ExitStack() as stack:
        stream = audio_stream(container)
        assert stream is not None
        if stream.codec_context.codec.canonical_name.startswith("pcm_"):
            # PCM has its channels in the old container's order, and the new container may declare another.
            names = unname_layout(stream)
            default = AudioLayout(f"{len(names)}c").channels
            if names != tuple(channel.name for channel in default):
                return False
        try:
            output = stack.enter_context(av.open(BytesIO(), "w", format=_FORMATS[suffix]))
            copy = output.add_stream_from_template(stream)
            for packet in islice((each for each in container.demux(stream) if each.size), _TRIAL_PACKETS):
                packet.stream = copy
                output.mux(packet)
            output.close()
        except (FFmpegError, ValueError):
            return False
    return True


def _decoded_forms(source: Path, codec: str | None, origin: Fraction) -> set[tuple[int, int]]:
    """The sample rates and channel counts (1 or 2) that occur when the entire sound is decoded."""
    remedy = "leave it out with --audio none, or convert the file"
    if codec is None:
        raise UserError(f"{source}: the codec of its sound is unknown here: {remedy}")
    try:
        with open_media(source) as container:
            stream = audio_stream(container)
            assert stream is not None
            forms = {(block.rate, len(block.samples)) for block in decode_blocks(container, stream, origin)}
    except (FFmpegError, ValueError, KeyError) as error:
        raise UserError(f"{source}: its sound ({codec}) cannot be decoded: {remedy}") from error
    if not forms:
        raise UserError(f"{source}: its sound ({codec}) cannot be decoded: {remedy}")
    return forms


class Soundtrack:
    """Writes the sound of `source` to `output`; does nothing if the source has none.

    A context manager that keeps the source open. Times are shifted so that the source's first picture is at zero.
    """

    def __init__(self, source: Path, output: OutputContainer, suffix: str) -> None:
        """`suffix` is the output's, in lower case. Raises UserError if the source cannot be used."""
        self._next: Packet | None = None
        self._output = output
        with ExitStack() as stack:
            self._packets: Iterator[Packet] = iter(())
            if plan := plan_sound(source, suffix):
                container = stack.enter_context(open_media(source))
                self._packets = self._start(container, plan, suffix)
            self._stack = stack.pop_all()

    def __enter__(self) -> Soundtrack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write_until(self, end: Fraction) -> None:
        """Writes the packets that end no later than `end` seconds after the first picture."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            if end_of(packet) > end:
                return
            self._next = None
            try:
                self._output.mux(packet)
            except (ArgumentError, InvalidDataError):  # one bad packet must not spoil the rendering
                continue

    def _start(self, container: InputContainer, plan: SoundPlan, suffix: str) -> Iterator[Packet]:
        """Adds a stream to the output and returns an iterator over its packets."""
        stream = audio_stream(container)
        assert stream is not None
        if plan.is_copied:
            return _copied(container, stream, self._output.add_stream_from_template(stream), plan.origin)
        layout = "mono" if plan.channels == 1 else "stereo"
        encoder = _ENCODERS.get(suffix, "aac")
        encoded = self._output.add_stream(encoder, rate=plan.rate, layout=layout, bit_rate=_BIT_RATE)
        return _encoded(container, stream, encoded, plan)


def _copied(
    container: InputContainer, stream: AudioStream, output: AudioStream, origin: Fraction
) -> Iterator[Packet]:
    for packet, _ in readable_packets(container):
        if packet.stream_index != stream.index or not packet.size or packet.pts is None:
            continue
        shift = round(origin / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if end_of(packet) >= -_LEAD_IN:
            packet.stream = output
            yield packet


def _encoded(
    container: InputContainer, stream: AudioStream, output: AudioStream, plan: SoundPlan
) -> Iterator[Packet]:
    count = 0
    decoded = decode_blocks(container, stream, plan.origin)
    for samples in continuous_samples(decoded, plan.rate, plan.channels):
        yield from output.encode(audio_frame(samples, plan.rate, count))
        count += samples.shape[1]
    yield from output.encode(None)


def end_of(packet: Packet) -> Fraction:
    """The end time of a packet, in seconds."""
    return ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base
