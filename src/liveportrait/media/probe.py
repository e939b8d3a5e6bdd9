"""The facts of a video file, and whether it is whole: one pass over its packets, without decoding.

A file that is cut off ends before its header says, or inside a packet. MP4, MOV, MKV, WebM and AVI say how
long they last (a live recording may not); a GIF ends with a known byte. A shortfall of up to two frames or
0.1 s, whichever is more, is let pass: muxers round. A fragmented MP4 that is cut exactly between two
fragments cannot be told from a shorter one.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from liveportrait.errors import UserError
from liveportrait.media.container import audio_stream, open_media, require_video
from liveportrait.media.timing import constant_rate, tick_of, usual_rate

TOLERANCE_FRAMES = 2
TOLERANCE_S = 0.1

_SAYS_HOW_LONG = ("mov", "matroska", "avi")


@dataclass(frozen=True)
class VideoInfo:
    """The frames that a reader of the file delivers: upright with square pixels, at a constant rate."""

    width: int  # px, as shown
    height: int  # px, as shown
    fps: Fraction  # frames per second
    frame_count: int
    has_audio: bool
    variable_rate: bool  # the file's own frames come at a variable rate, and are laid on the constant one

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.frame_count / self.fps)


@dataclass(frozen=True)
class Timeline:
    """When the frames of a file are shown."""

    start_s: float  # time of the first frame
    fps: Fraction
    frame_count: int  # at the constant rate `fps`
    variable_rate: bool
    has_audio: bool
    pixel_aspect: float  # width of a pixel over its height

    @property
    def tolerance_frames(self) -> float:
        """By how many frames a file may be shorter than it says."""
        return tolerance_s(self.fps) * float(self.fps)


def tolerance_s(fps: Fraction) -> float:
    """By how many seconds a file of a frame rate may be shorter than it says."""
    return max(TOLERANCE_S, float(TOLERANCE_FRAMES / fps))


def probe(path: Path) -> Timeline:
    """The timeline of a video file. Raises UserError where it is no video, has no frames or is cut off."""
    with open_media(path) as container:
        stream = require_video(container, path)
        packets = _read_packets(container, stream, path)
        if not packets.count:
            raise UserError(f"{path} has a video track without a single frame: record or convert it again")
        times = np.sort(np.frombuffer(packets.times, np.float64))
        declared = (stream.guessed_rate, stream.average_rate)
        constant = constant_rate(times, declared) if len(times) == packets.count else declared[1]
        fps = constant or usual_rate(times, declared)
        timeline = Timeline(
            start_s=float(times[0]) if len(times) else 0.0,
            fps=fps,
            frame_count=packets.count if constant else tick_of(float(times[-1] - times[0]), fps) + 1,
            variable_rate=constant is None,
            has_audio=audio_stream(container) is not None,
            pixel_aspect=float(stream.sample_aspect_ratio or 1),
        )
        _require_whole(container, stream, packets, timeline, path)
    return timeline


@dataclass
class _Packets:
    """Facts of the packets of a file, gathered in one pass: 8 bytes a frame are kept."""

    count: int  # of the video stream
    times: array[float]  # of the video stream, seconds, in decoding order
    end_s: float  # where the last packet of any stream ends
    cut: bool  # the last packet of some stream is incomplete


def _read_packets(container: InputContainer, stream: VideoStream, path: Path) -> _Packets:
    count, end, times = 0, 0.0, array("d")
    incomplete: dict[int, bool] = {}
    try:
        for packet in container.demux():
            if not packet.size or packet.is_discard:
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None:
                end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
            incomplete[packet.stream_index] = packet.is_corrupt
            if packet.stream_index == stream.index:
                count += 1
                if time is not None:
                    times.append(float(time * packet.time_base))
    except FFmpegError as error:
        raise UserError(
            f"{path} is damaged after frame {count} ({error.strerror}): copy or download it again"
        ) from error
    return _Packets(count, times, end, any(incomplete.values()))


def _require_whole(
    container: InputContainer, stream: VideoStream, packets: _Packets, timeline: Timeline, path: Path
) -> None:
    """Raises UserError where the file ends before its time."""
    remedy = "copy or download it again"
    if packets.cut or (container.format.name == "gif" and not _ends_gif(path)):
        raise UserError(f"{path} is cut off: the data ends inside frame {packets.count - 1}; {remedy}")
    if not container.format.name.startswith(_SAYS_HOW_LONG):
        return
    promised = 0.0
    if stream.duration is not None and stream.time_base is not None:
        promised = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        promised = container.duration / 1e6
    if container.format.name == "avi":
        # Its duration is guessed from the file's size once the index is lost; the header's count is not.
        promised = max(promised, float(stream.frames / timeline.fps))
    if packets.end_s < promised - tolerance_s(timeline.fps):
        raise UserError(
            f"{path} is cut off: it should last {promised:.2f} s but its data ends at {packets.end_s:.2f} s, "
            f"after frame {packets.count - 1}; {remedy}"
        )


def _ends_gif(path: Path) -> bool:
    """Whether the file's last bytes hold a GIF's trailer; some writers pad it with zeros."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 1024, 0))
        return file.read().rstrip(b"\0").endswith(b";")
