"""The sound of one file, carried into another beside the pictures.

Packets are copied as they are where the container can hold their codec and common players play it there;
otherwise the sound is encoded anew, AAC at 192 kbit/s (Opus in WebM), mono or stereo. Either way packets go
out just ahead of the pictures, so that nothing piles up, and none ends after the pictures do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from liveportrait.errors import UserError
from liveportrait.media.container import audio_stream, open_media, video_stream

COPIED = {
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"},
    ".mkv": {"aac", "mp3", "ac3", "eac3", "opus", "vorbis", "alac", "flac", "pcm_s16le", "pcm_s24le", "dts"},
    ".webm": {"opus", "vorbis"},
}
_ENCODERS: Mapping[str, Literal["libopus", "aac"]] = {".webm": "libopus"}
_RATES = {"aac": (48000, 44100, 32000, 24000, 22050, 16000), "libopus": (48000,)}
_BIT_RATE = 192_000
# Codecs need packets from before the first sound that is heard: AAC up to 48 ms, Opus 80 ms.
_LEAD_IN = Fraction(1, 10)


class Soundtrack:
    """Feeds the first sound of `source` to `output`; does nothing where the source has none.

    A context manager that holds the source open. Times are shifted so that the first picture of the source
    comes at zero.
    """

    def __init__(self, source: Path, output: OutputContainer, suffix: str) -> None:
        """`suffix` is that of the output, in lower case. Raises UserError where the source cannot be used."""
        self._source = source
        self._next: Packet | None = None
        self._output = output
        with ExitStack() as stack:
            container = stack.enter_context(open_media(source))
            stream = audio_stream(container)
            self._packets = iter(()) if stream is None else self._start(container, stream, suffix)
            self._stack = stack.pop_all()

    def __enter__(self) -> Soundtrack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write_until(self, end: Fraction) -> None:
        """Writes the packets that end no later than `end` seconds after the first picture."""
        try:
            while (packet := self._next or next(self._packets, None)) is not None:
                self._next = packet
                if end_of(packet) > end:
                    return
                self._output.mux(packet)
                self._next = None
        except FFmpegError as error:
            raise UserError(
                f"{self._source}: its sound cannot be carried over ({error.strerror}): leave the sound out"
            ) from error

    def _start(self, container: InputContainer, stream: AudioStream, suffix: str) -> Iterator[Packet]:
        """Adds a stream to the output and returns the packets for it, not yet read."""
        if stream.codec_context is None:
            raise UserError(f"{self._source}: its sound codec is unknown here: leave the sound out")
        if stream.codec_context.codec.canonical_name in COPIED[suffix]:
            return _copied(container, stream, self._output.add_stream_from_template(stream))
        encoder = _ENCODERS.get(suffix, "aac")
        rate = stream.rate if stream.rate in _RATES[encoder] else _RATES[encoder][0]
        layout = "mono" if stream.layout.nb_channels == 1 else "stereo"
        encoded = self._output.add_stream(encoder, rate=rate, layout=layout, bit_rate=_BIT_RATE)
        return _encoded(container, stream, encoded)


def _first_picture(container: InputContainer) -> Fraction:
    """When the first picture of a file is shown, in seconds; 0 where it has none."""
    stream = video_stream(container)
    if stream is None or stream.start_time is None or stream.time_base is None:
        return Fraction(0)
    return stream.start_time * stream.time_base


def _copied(container: InputContainer, stream: AudioStream, output: AudioStream) -> Iterator[Packet]:
    origin = _first_picture(container)
    for packet in container.demux(stream):
        if not packet.size or packet.pts is None:
            continue
        shift = round(origin / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if end_of(packet) >= -_LEAD_IN:
            packet.stream = output
            yield packet


def _encoded(container: InputContainer, stream: AudioStream, output: AudioStream) -> Iterator[Packet]:
    origin = _first_picture(container)
    for frame in container.decode(stream):
        if frame.pts is None or frame.time_base is None:
            continue
        frame.pts -= round(origin / frame.time_base)
        if frame.pts >= 0:
            yield from output.encode(frame)
    yield from output.encode(None)


def end_of(packet: Packet) -> Fraction:
    """When a packet ends, in seconds."""
    return ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base
