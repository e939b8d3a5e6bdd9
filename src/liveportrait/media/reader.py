"""Videos in: frame by frame, as often as wanted, in memory that does not grow with length."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from weakref import WeakSet

from av.error import FFmpegError
from av.video.frame import VideoFrame

from liveportrait.errors import UserError
from liveportrait.media.colour import FrameConverter
from liveportrait.media.container import open_media, picture_format, require_video
from liveportrait.media.files import check_input
from liveportrait.media.probe import VideoInfo, probe
from liveportrait.media.timing import hold_until_next, tick_of
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
            first = next(frames, None)
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
        for frame in hold_until_next(self._ticked()) if timeline.variable_rate else self._decoded():
            convert = convert or FrameConverter(frame, timeline.pixel_aspect)
            yield convert(frame)
            count += 1
        if count < timeline.frame_count - timeline.tolerance_frames:
            raise UserError(
                f"{self.path} ends at frame {count} of {timeline.frame_count}: the rest cannot be decoded; "
                "copy or download it again"
            )

    def _ticked(self) -> Iterator[tuple[int, VideoFrame]]:
        """The decoded frames with their ticks at the constant rate."""
        tick = -1
        for frame in self._decoded():
            if frame.pts is None or frame.time_base is None:
                tick += 1
            else:
                time = float(frame.pts * frame.time_base)
                tick = tick_of(time - self._timeline.start_s, self._timeline.fps)
            yield tick, frame

    def _decoded(self) -> Generator[VideoFrame, None, None]:
        """The file's own frames, in the order in which they are shown."""
        count = 0
        with open_media(self.path) as container:
            stream = require_video(container, self.path)
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    yield frame
                    count += 1
            except FFmpegError as error:
                raise UserError(
                    f"{self.path}: frame {count} cannot be decoded ({error.strerror}): the file is damaged; "
                    "copy it again or convert it to MP4"
                ) from error
