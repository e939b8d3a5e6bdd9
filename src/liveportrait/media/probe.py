"""Probing a video file and checking that it is complete: one pass over its packets, without decoding.

A truncated file ends earlier than its header says, or inside a packet. MP4, MOV, MKV, WebM and AVI declare their
duration (a live recording may not); a GIF ends with a known byte. A shortfall of up to two frames or 0.1 s, whichever
is more, is accepted, since muxers round. A fragmented MP4 cut exactly between two fragments cannot be distinguished
from a shorter one. An AVI may end in empty frames, which keep showing the last picture.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from liveportrait.errors import UserError
from liveportrait.limits import check_frames
from liveportrait.media.container import audio_stream, open_media, require_video
from liveportrait.media.timing import (
    FILE_JOINTS,
    STREAM_JOINTS,
    Joints,
    chain_times,
    constant_rate,
    next_tick,
    plain_rate,
    sustained_rate,
)

TOLERANCE_FRAMES = 2
TOLERANCE_S = 0.1
# The last frame of an animated picture has a duration too, which may be practically infinite.
MAX_LAST_FRAME_S = 10.0

_DECLARES_DURATION = ("mov", "matroska", "avi")


@dataclass(frozen=True)
class VideoInfo:
    """The frames that a reader of the file delivers: upright with square pixels, at a constant rate."""

    width: int  # px, as shown
    height: int  # px, as shown
    fps: Fraction  # frames per second
    frame_count: int
    has_audio: bool
    variable_rate: bool  # the file's own frame rate varies, and its frames are resampled to the constant one

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.frame_count / self.fps)


@dataclass(frozen=True)
class Timeline:
    """The times at which the frames of a file are shown."""

    start_s: float  # time of the first frame
    fps: Fraction
    frame_count: int  # at the constant rate `fps`
    last_tick: int  # of the last frame, which is shown from there until `frame_count`
    variable_rate: bool  # frames are resampled to the constant rate
    has_audio: bool
    pixel_aspect: float  # width of a pixel over its height
    gap_s: float = 0.0  # inserted between joined recordings, see `chain_times`
    joints: Joints = FILE_JOINTS

    @property
    def tolerance_frames(self) -> float:
        """How many frames a file may lack of its declared duration."""
        return tolerance_s(self.fps) * float(self.fps)


def build_timeline(
    times: np.ndarray, declared: Sequence[Fraction | None], end_s: float, **facts: Any
) -> Timeline:
    """The timeline of frames at ascending times (N,) s, the last one shown until `end_s`.

    `declared` are the frame rates that the file declares, `facts` the remaining fields of `Timeline`.
    """
    constant = constant_rate(times, declared)
    sustained = constant or (sustained_rate(times, declared) if len(times) else None)
    fps = sustained or plain_rate(declared)
    held = round((end_s - float(times[-1])) * float(fps)) if len(times) and sustained else 1
    start = float(times[0]) if len(times) else 0.0
    last = len(times) - 1
    variable = sustained is not None and (constant is None or held > 1)
    if variable:
        last = -1
        for time in (times - start).tolist():
            last = next_tick(last, time, fps)
    return Timeline(start, fps, last + max(held, 1), last, variable, **facts)


def tolerance_s(fps: Fraction) -> float:
    """How many seconds a file with this frame rate may lack of its declared duration."""
    return max(TOLERANCE_S, float(TOLERANCE_FRAMES / fps))


def probe(path: Path) -> Timeline:
    """The timeline of a video file. Raises UserError if it is not a video, has no frames or is cut off."""
    with open_media(path) as container:
        stream = require_video(container, path)
        packets = _read_packets(container, stream, path)
        if not packets.count:
            raise UserError(f"{path} has a video track without any frames: record or convert it again")
        declared = (stream.guessed_rate, stream.average_rate)
        sound = audio_stream(container)
        facts: dict[str, Any] = {
            "has_audio": sound is not None and sound.index in packets.streams,
            "pixel_aspect": float(stream.sample_aspect_ratio or 1),
        }
        if len(packets.times) < packets.count:
            fps, last = stream.average_rate or plain_rate(declared), packets.count - 1
            timeline = Timeline(0.0, fps, packets.count, last, False, **facts)
        else:
            joints = STREAM_JOINTS if container.format.name in ("mpegts", "mpeg") else FILE_JOINTS
            times, gap = chain_times(np.frombuffer(packets.times), np.frombuffer(packets.order), joints)
            is_complete_avi = container.format.name == "avi" and _is_complete_avi(path)
            end = _avi_duration(stream) if is_complete_avi else 0.0
            if container.format.name == "gif":
                end = min(packets.end_s, float(times[-1]) + MAX_LAST_FRAME_S)
            timeline = build_timeline(times, declared, end, gap_s=gap, joints=joints, **facts)
        check_frames(path, timeline.frame_count)
        _require_complete(container, stream, packets, timeline, path)
    return timeline


@dataclass
class _Packets:
    """The findings of one pass over a file's packets; 16 bytes are kept per frame."""

    count: int  # packets of the video stream
    times: array[float]  # presentation times of the video stream in seconds, in decoding order
    order: array[float]  # decoding times in seconds; NaN if unknown
    end_s: float  # where the last packet of any stream ends
    is_cut: bool  # the last packet of some stream is incomplete
    streams: frozenset[int]  # indices of the streams that have packets


def _read_packets(container: InputContainer, stream: VideoStream, path: Path) -> _Packets:
    count, end, times, order = 0, 0.0, array("d"), array("d")
    incomplete: dict[int, bool] = {}
    try:
        for packet in container.demux():
            if not packet.size or packet.is_discard:
                continue
            time = packet_time(packet, container)
            if time is not None:
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
            incomplete[packet.stream_index] = packet.is_corrupt
            if packet.stream_index == stream.index and not _is_hidden(packet, stream):
                count += 1
                if time is not None:
                    times.append(float(time * packet.time_base))
                    order.append(nan if packet.dts is None else float(packet.dts * packet.time_base))
    except FFmpegError as error:
        raise UserError(
            f"{path} is damaged after frame {count} ({error.strerror}): copy or download it again"
        ) from error
    return _Packets(count, times, order, end, any(incomplete.values()), frozenset(incomplete))


def packet_time(packet: Packet, container: InputContainer) -> int | None:
    """A packet's presentation time in its time base; for an AVI, which has none, its decoding time."""
    first, second = packet.pts, packet.dts
    if container.format.name == "avi":
        first, second = second, first
    return second if first is None else first


def _is_hidden(packet: Packet, stream: VideoStream) -> bool:
    """Whether a packet's picture is never shown: VP8 has such reference frames (RFC 6386, 9.1)."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] >> 4 & 1


def _require_complete(
    container: InputContainer, stream: VideoStream, packets: _Packets, timeline: Timeline, path: Path
) -> None:
    """Raises UserError if the file is truncated."""
    remedy = "copy or download it again"
    if packets.is_cut or (container.format.name == "gif" and not _is_complete_gif(path)):
        raise UserError(f"{path} is cut off: the data ends inside frame {packets.count - 1}; {remedy}")
    if not container.format.name.startswith(_DECLARES_DURATION):
        return
    promised = 0.0
    if stream.duration is not None and stream.time_base is not None:
        promised = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        promised = container.duration / 1e6
    if container.format.name == "avi":
        # Without an index FFmpeg guesses the duration from the file's size; the header's frame count is reliable.
        promised = 0.0 if _is_complete_avi(path) else max(promised, _avi_duration(stream))
    if packets.end_s < promised - tolerance_s(timeline.fps):
        raise UserError(
            f"{path} is cut off: it should last {promised:.2f} s but its data ends at {packets.end_s:.2f} s, "
            f"after frame {packets.count - 1}; {remedy}"
        )


def _is_complete_gif(path: Path) -> bool:
    """Whether the file's last bytes hold a GIF's trailer; some writers pad it with zeros."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 1024, 0))
        return file.read().rstrip(b"\0").endswith(b";")


def _avi_duration(stream: VideoStream) -> float:
    """The duration in seconds that an AVI's header declares, empty frames included."""
    return float(stream.frames * (stream.time_base or 0))


def _is_complete_avi(path: Path) -> bool:
    """Whether an AVI's outermost chunks fit in the file, according to their lengths."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            name, length = struct.unpack("<4sI", file.read(8))
            if name != b"RIFF" or not length:
                break
            place += 8 + length + length % 2
    return 0 < place <= size + 1
