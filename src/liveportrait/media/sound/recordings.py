"""The packets of a file in which recordings may have been joined, on one clock.

Where recordings were joined, times start anew; those of the sound are moved by as much as those of the pictures
beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from liveportrait.media.container import audio_stream, video_stream
from liveportrait.media.timing import FALLBACK_RATE, FILE_JOINTS, STREAM_JOINTS

_MIXED_S = Fraction(1, 2)  # at a joint, packets may come late by less than this
_MOST_WAITED = 5  # pictures, until one tells that a recording begins
_MOST_HELD = 1000  # packets


def joined_packets(container: InputContainer) -> Iterator[tuple[Packet, int]]:
    """The packets of all streams, each with the number of its recording in the file, from 0.

    Where recordings were joined, or a recorder started anew, times fall back or leap (see `Joints`). Here they run
    on: the first picture of a recording follows the last one of the recording before, and its sound keeps its
    place beside its pictures.
    """
    joiner = _Joiner(container)
    for packet in container.demux():
        yield from joiner.pass_on(packet)
    yield from joiner.rest()


def readable_packets(container: InputContainer) -> Iterator[tuple[Packet, int]]:
    """The joined packets, as far as the file can be read; where it ends early, its pictures tell."""
    with suppress(FFmpegError):
        yield from joined_packets(container)


@dataclass(frozen=True)
class _Recording:
    number: int = 0
    shift: Fraction = Fraction(0)  # added to its times, in seconds


class _Joiner:
    """Finds where recordings begin: the decoding times of the pictures tell, or of the sound if it is alone.

    Near a joint the packets of both recordings are mixed. Sound that falls back or leaps before the pictures do is
    held until some more of them have come; sound that goes on as before still belongs to the recording before.
    """

    def __init__(self, container: InputContainer) -> None:
        pictures = video_stream(container)
        leading = pictures or audio_stream(container)
        self._leading = -1 if leading is None else leading.index
        self._joints = STREAM_JOINTS if container.format.name in ("mpegts", "mpeg") else FILE_JOINTS
        rate = (pictures.average_rate or pictures.guessed_rate) if pictures else None
        self._interval = 1 / (rate or FALLBACK_RATE)
        # When the last packet of each stream is decoded, as the file says.
        self._times: dict[int, Fraction] = {}
        self._recordings: dict[int, _Recording] = {}  # that each stream has reached
        self._latest = _Recording()
        self._end = Fraction(0)  # of the leading stream so far, as moved
        self._held: list[Packet] = []
        self._waited = 0  # leading packets since the first one was held

    def pass_on(self, packet: Packet) -> Iterator[tuple[Packet, int]]:
        """The packets that can go on once `packet` has come."""
        time = _decoding_time(packet)
        anew = time is not None and self._is_anew(packet.stream_index, time)
        if packet.stream_index == self._leading:
            if anew and packet.pts is not None:
                shift = self._end - packet.pts * packet.time_base
                self._latest = _Recording(self._latest.number + 1, shift)
            self._waited += 1
            if anew or self._waited > _MOST_WAITED:
                yield from self.rest()
            yield self._moved(packet, self._latest)
        elif self._held or (anew and packet.stream.type == "audio" and self._is_up_to_date(packet)):
            self._waited = self._waited if self._held else 0
            self._held.append(packet)
            if len(self._held) == _MOST_HELD:
                yield from self.rest()
        else:
            before = self._recordings.get(packet.stream_index, self._latest)
            yield self._moved(packet, before if self._goes_on(packet, time, anew) else self._latest)

    def rest(self) -> Iterator[tuple[Packet, int]]:
        """The packets that are still held."""
        held, self._held = self._held, []
        for packet in held:
            yield self._moved(packet, self._latest)

    def _is_anew(self, stream: int, time: Fraction) -> bool:
        before = self._times.get(stream)
        if before is None or not self._joints.between(float(before), float(time)):
            return False
        # Where pictures stay for long while sound goes on, nothing has leapt.
        together = (self._times[each] for each in self._times if self._reached(each) == self._reached(stream))
        return time < before or self._joints.between(float(max(together)), float(time))

    def _reached(self, stream: int) -> int:
        return self._recordings.get(stream, self._latest).number

    def _is_up_to_date(self, packet: Packet) -> bool:
        return self._reached(packet.stream_index) == self._latest.number

    def _goes_on(self, packet: Packet, time: Fraction | None, anew: bool) -> bool:
        """Whether a packet belongs to the recording that its stream has reached, though there is a later one."""
        before = self._times.get(packet.stream_index)
        if before is None or time is None or anew:
            return False
        moved = abs(self._latest.shift - self._recordings[packet.stream_index].shift)
        return time - before < _MIXED_S and moved > 2 * _MIXED_S

    def _moved(self, packet: Packet, recording: _Recording) -> tuple[Packet, int]:
        time = _decoding_time(packet)
        if time is not None:
            self._times[packet.stream_index] = time
        self._recordings[packet.stream_index] = recording
        if recording.shift:
            ticks = round(recording.shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.stream_index == self._leading and packet.pts is not None and packet.size:
            lasts = packet.duration * packet.time_base if packet.duration else self._interval
            self._end = max(self._end, packet.pts * packet.time_base + lasts)
        return packet, recording.number


def _decoding_time(packet: Packet) -> Fraction | None:
    """When a packet is decoded, in seconds, or None."""
    time = packet.dts if packet.dts is not None else packet.pts
    return None if time is None or not packet.size else time * packet.time_base
