"""Videos in: frame by frame, as often as wanted, in memory that does not grow with length."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from weakref import WeakSet

from av.error import FFmpegError
from av.video.frame import VideoFrame

from liveportrait.errors import UserError
from liveportrait.media.colour import FrameConverter
from liveportrait.media.container import alpha_decoder, open_media, picture_format, require_video
from liveportrait.media.files import check_input
from liveportrait.media.probe import VideoInfo, probe
from liveportrait.media.timing import hold_until_next, next_tick
from liveportrait.types import Image


class VideoReader:
    """The frames of a video, (H,W,3) uint8 RGB each: upright, square pixels, at the constant rate `info.fps`.

    A file of constant rate gives exactly its frames; one of variable rate is laid on a constant rate, where
    frames repeat in slow stretches (see `timing`). Iterating again starts again from the first frame; several
    passes may run side by side. Frames are numbered from 0.

    Making a reader reads the whole file once without decoding it, so that a file that is cut off is refused
    before any work. Interlaced video is not deinterlaced. Raises UserError, then or while iterating, where
    the file is no video, has no frames, or is damaged or cut off.
    """

    info: VideoInfo

    def __init__(self, path: Path | str) -> None:
        self.path = check_input(path)
        if picture_format(self.path) not in (None, "GIF"):
            raise UserError(f"{path} is a picture, not a video: name a video")
        self._timeline = timeline = probe(self.path)
        self._passes: WeakSet[Generator[Image, None, None]] = WeakSet()
        with closing(self._decoded()) as frames:
            _, first = next(frames, (None, None))
        if first is None:
            raise UserError(f"{path}: not one frame can be decoded; copy it again or convert it to MP4")
        converter = FrameConverter(first, timeline.pixel_aspect)
        self.info = VideoInfo(
            converter.width,
            converter.height,
            timeline.fps,
            timeline.frame_count,
            timeline.has_audio,
            timeline.variable_rate,
        )

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for frames in list(self._passes):
            frames.close()

    def __len__(self) -> int:
        return self.info.frame_count

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.path)

    @property
    def audio(self) -> Path | None:
        """The file, if it has sound."""
        return self.path if self.info.has_audio else None

    def __iter__(self) -> Generator[Image, None, None]:
        frames = self._frames()
        self._passes.add(frames)
        return frames

    def _frames(self) -> Generator[Image, None, None]:
        timeline = self._timeline
        convert: FrameConverter | None = None
        count = 0
        held = hold_until_next(self._ticked(), timeline.frame_count)
        for frame in held if timeline.variable_rate else (frame for _, frame in self._decoded()):
            convert = convert or FrameConverter(frame, timeline.pixel_aspect)
            yield convert(frame)
            count += 1
        self._require_end(count)

    def _require_end(self, count: int) -> None:
        """Raises UserError where so many frames are too few."""
        timeline = self._timeline
        if count < timeline.last_tick + 1 - timeline.tolerance_frames:
            raise UserError(
                f"{self.path} ends at frame {count} of {timeline.frame_count}: the rest cannot be decoded; "
                "copy or download it again"
            )

    def _ticked(self) -> Iterator[tuple[int, VideoFrame]]:
        """The decoded frames with their ticks at the constant rate."""
        timeline = self._timeline
        tick, shown, moved = -1, 0.0, -timeline.start_s
        for time, frame in self._decoded():
            if time is None:
                tick += 1
            else:
                if tick >= 0 and timeline.joints.between(shown, time + moved):
                    moved = shown + timeline.gap_s - time
                shown = time + moved
                tick = next_tick(tick, shown, timeline.fps)
            yield tick, frame
        self._require_end(tick + 1)

    def _decoded(self) -> Generator[tuple[float | None, VideoFrame], None, None]:
        """The file's own frames in the order in which they are shown, each with its time in s, or None."""
        count = 0
        with open_media(self.path) as container:
            stream = require_video(container, self.path)
            decoder = alpha_decoder(stream) or stream.codec_context
            decoder.thread_type = "AUTO"
            # An AVI knows when frames are decoded. As many are shown by then, though not the same ones.
            clock: deque[float] | None = deque() if container.format.name == "avi" else None
            try:
                for packet in container.demux(stream):
                    if clock is not None and packet.dts is not None:
                        clock.append(float(packet.dts * packet.time_base))
                    for frame in decoder.decode(packet if packet.size else None):
                        time = None
                        if clock is not None:
                            time = clock.popleft() if clock else None
                        elif frame.pts is not None and stream.time_base is not None:
                            time = float(frame.pts * stream.time_base)
                        yield time, frame
                        count += 1
            except FFmpegError as error:
                raise UserError(
                    f"{self.path}: frame {count} cannot be decoded ({error.strerror}): the file is damaged; "
                    "copy it again or convert it to MP4"
                ) from error
