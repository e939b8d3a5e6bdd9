"""Reading videos frame by frame, as often as needed, in memory that does not grow with their length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from liveportrait.errors import UserError
from liveportrait.limits import check_pixels
from liveportrait.media.colour import FrameConverter
from liveportrait.media.container import alpha_decoder, is_animated, open_media, picture_format, require_video
from liveportrait.media.files import check_input
from liveportrait.media.probe import VideoInfo, probe
from liveportrait.media.timing import hold_until_next, next_tick
from liveportrait.types import Image

if TYPE_CHECKING:
    from liveportrait.media.pictures import AnimatedPicture


Frame = VideoFrame | Image  # as decoded; frames of animated pictures are RGB already


class VideoReader:
    """The frames of a video, (H,W,3) uint8 RGB each: upright, square pixels, at the constant rate `info.fps`.

    A file with a constant rate gives exactly its frames; one with a variable rate is resampled to a constant rate at
    which frames repeat in slow stretches (see `timing`). Each iteration starts at the first frame, and several may run
    at the same time. Frames are numbered from 0.

    Creating a reader reads the entire file once without decoding it, so a truncated file is refused before any work
    starts. Interlaced video is not deinterlaced. Raises UserError, then or while iterating, if the file is not a video,
    has no frames, or is damaged or cut off.
    """

    info: VideoInfo

    def __init__(self, path: Path | str) -> None:
        self.path = check_input(path)
        self._animation = _animation(self.path)
        self._timeline = timeline = self._animation.timeline if self._animation else probe(self.path)
        self._passes: WeakSet[Generator[Image, None, None]] = WeakSet()
        with closing(self._decoded()) as frames:
            _, first = next(frames, (None, None))
        if first is None:
            raise UserError(f"{path}: no frame can be decoded; copy it again or convert it to MP4")
        if isinstance(first, VideoFrame):  # an absurd pixel aspect ratio would make frames enormous
            aspect = timeline.pixel_aspect
            check_pixels(
                self.path, round(first.width * max(aspect, 1)), round(first.height * max(1 / aspect, 1))
            )
        height, width = self._converter(first)(first).shape[:2]
        self.info = VideoInfo(
            width,
            height,
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
        """The path, for messages."""
        return str(self.path)

    @property
    def audio(self) -> Path | None:
        """The file's path if it has sound."""
        return self.path if self.info.has_audio else None

    def __iter__(self) -> Generator[Image, None, None]:
        frames = self._frames()
        self._passes.add(frames)
        return frames

    def _frames(self) -> Generator[Image, None, None]:
        timeline = self._timeline
        convert: Callable[[Any], Image] | None = None
        count = 0
        held = hold_until_next(self._ticked(), timeline.frame_count)
        for frame in held if timeline.variable_rate else (frame for _, frame in self._decoded()):
            convert = convert or self._converter(frame)
            yield convert(frame)
            count += 1
        self._require_end(count)

    def _converter(self, first: Frame) -> Callable[[Any], Image]:
        """A function that converts frames like the first one to RGB arrays with their own memory."""
        return (
            np.array if isinstance(first, np.ndarray) else FrameConverter(first, self._timeline.pixel_aspect)
        )

    def _require_end(self, count: int) -> None:
        """Raises UserError if `count` frames are too few."""
        timeline = self._timeline
        if count < timeline.last_tick + 1 - timeline.tolerance_frames:
            raise UserError(
                f"{self.path} ends at frame {count} of {timeline.frame_count}: the rest cannot be decoded; "
                "copy or download it again"
            )

    def _ticked(self) -> Iterator[tuple[int, Frame]]:
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

    def _decoded(self) -> Generator[tuple[float | None, Frame], None, None]:
        """The file's own frames in the order in which they are shown, each with its time in s or None."""
        if self._animation:
            yield from self._animation.frames()
            return
        count = 0
        with open_media(self.path) as container:
            stream = require_video(container, self.path)
            decoder = alpha_decoder(stream) or stream.codec_context
            decoder.thread_type = "AUTO"
            # An AVI stores only decoding times. Just as many frames are shown by then, though not the same ones.
            clock: deque[float] | None = deque() if container.format.name == "avi" else None
            try:
                for packet in chain((each for each in container.demux(stream) if each.size), (None,)):
                    if clock is not None and packet and packet.dts is not None:
                        clock.append(float(packet.dts * packet.time_base))
                    for frame in decoder.decode(packet):  # None flushes the decoder
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


def _animation(path: Path) -> AnimatedPicture | None:
    """The animated picture in a file; None for a video. Raises UserError for a still picture."""
    picture = picture_format(path)
    if picture in (None, "GIF"):
        return None
    if not is_animated(path, picture):
        raise UserError(f"{path} is a picture, not a video: name a video")
    from liveportrait.media.pictures import AnimatedPicture

    return AnimatedPicture(path, picture)
