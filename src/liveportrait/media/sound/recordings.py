"""The packets of a file that may consist of several joined recordings, on one continuous clock.

Times restart where recordings were joined; the sound's times are shifted by as much as those of its pictures.
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

_MIXED_S = Fraction(1, 2)  # at a joint, packets may arrive late by less than this
_MAX_WAIT = 5  # pictures to wait for one that shows that a new recording starts
_MAX_HELD = 1000  # packets


def joined_packets(container: InputContainer) -> Iterator[tuple[Packet, int]]:
    """The packets of all streams, each with the number of its recording in the file, from 0.

    Where recordings were joined, or a recorder restarted, times go back or jump (see `Joints`). Here they are made
    continuous: the first picture of a recording follows the last one of the recording before, and the sound stays in
    sync with its pictures.
    """
    joiner = _Joiner(container)
    for packet in container.demux():
        yield from joiner.push(packet)
    yield from joiner.flush()


def readable_packets(container: InputContainer) -> Iterator[tuple[Packet, int]]:
    """`joined_packets` as far as the file can be read; reading its pictures reports where it ends early."""
    with suppress(FFmpegError):
        yield from joined_packets(container)


@dataclass(frozen=True)
class _Recording:
    number: int = 0
    shift: Fraction = Fraction(0)  # added to its times, in seconds


class _Joiner:
    """Finds where recordings start from the decoding times of the pictures, or of the sound if there are no pictures.

    Near a joint the packets of both recordings are interleaved. Sound that goes back or jumps before the pictures do is
    held until a few more pictures have arrived; sound that continues as before still belongs to the earlier recording.
    """

    def __init__(self, container: InputContainer) -> None:
        pictures = video_stream(container)
        leading = pictures or audio_stream(container)
        self._leading = -1 if leading is None else leading.index
        self._joints = STREAM_JOINTS if container.format.name in ("mpegts", "mpeg") else FILE_JOINTS
        rate = (pictures.average_rate or pictures.guessed_rate) if pictures else None
        self._interval = 1 / (rate or FALLBACK_RATE)
        self._times: dict[
            int, Fraction
        ] = {}  # decoding time of each stream's last packet, as stored in the file
        self._recordings: dict[int, _Recording] = {}  # that each stream has reached
        self._latest = _Recording()
        self._end = Fraction(0)  # of the leading stream so far, after shifting
        self._held: list[Packet] = []
        self._waited = 0  # leading packets since the first one was held

    def push(self, packet: Packet) -> Iterator[tuple[Packet, int]]:
        """Take a packet; gives the packets that are ready after it."""
        time = _decoding_time(packet)
        restarts = time is not None and self._restarts(packet.stream_index, time)
        if packet.stream_index == self._leading:
            if restarts and packet.pts is not None:
                shift = self._end - packet.pts * packet.time_base
                self._latest = _Recording(self._latest.number + 1, shift)
            self._waited += 1
            if restarts or self._waited > _MAX_WAIT:
                yield from self.flush()
            yield self._moved(packet, self._latest)
        elif self._held or (restarts and packet.stream.type == "audio" and self._is_up_to_date(packet)):
            self._waited = self._waited if self._held else 0
            self._held.append(packet)
            if len(self._held) == _MAX_HELD:
                yield from self.flush()
        else:
            before = self._recordings.get(packet.stream_index, self._latest)
            yield self._moved(packet, before if self._lags(packet, time, restarts) else self._latest)

    def flush(self) -> Iterator[tuple[Packet, int]]:
        """The packets that are still held."""
        held, self._held = self._held, []
        for packet in held:
            yield self._moved(packet, self._latest)

    def _restarts(self, stream: int, time: Fraction) -> bool:
        """Whether a stream's times restart at a packet with this decoding time."""
        before = self._times.get(stream)
        if before is None or not self._joints.between(float(before), float(time)):
            return False
        # If one picture stays for long while the sound continues, nothing has jumped.
        together = (self._times[each] for each in self._times if self._reached(each) == self._reached(stream))
        return time < before or self._joints.between(float(max(together)), float(time))

    def _reached(self, stream: int) -> int:
        return self._recordings.get(stream, self._latest).number

    def _is_up_to_date(self, packet: Packet) -> bool:
        return self._reached(packet.stream_index) == self._latest.number

    def _lags(self, packet: Packet, time: Fraction | None, restarts: bool) -> bool:
        """Whether a packet still belongs to the recording that its stream has reached, not to the latest one."""
        before = self._times.get(packet.stream_index)
        if before is None or time is None or restarts:
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
            duration = packet.duration * packet.time_base if packet.duration else self._interval
            self._end = max(self._end, packet.pts * packet.time_base + duration)
        return packet, recording.number


def _decoding_time(packet: Packet) -> Fraction | None:
    """The decoding time of a packet in seconds, or None."""
    time = packet.dts if packet.dts is not None else packet.pts
    return None if time is None or not packet.size else time * packet.time_base
