"""Writing videos frame by frame, with the sound of another file; a file is complete or does not appear at all.

H.264, VP9 in .webm, ProRes on request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream

from liveportrait.choices import VideoCodec
from liveportrait.errors import UserError
from liveportrait.media.colour import SCALING
from liveportrait.media.files import OutputGroup, check_output
from liveportrait.media.sound.soundtrack import Soundtrack
from liveportrait.types import Image

VIDEO_OUTPUTS = (".mp4", ".mov", ".mkv", ".webm")

BT709 = 1  # AVCOL_SPC_BT709
TO_YUV = SCALING | Interpolation.FULL_CHR_H_INP
# The index goes to the front, so that a browser can start playing before it has the entire file.
CONTAINER_OPTIONS = {".mp4": {"movflags": "+faststart"}, ".mov": {"movflags": "+faststart"}}


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders with its settings."""

    name: Literal["libx264", "libvpx-vp9", "prores_ks"]
    pixels: str  # format of the frames it takes
    options: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = False  # frames are RGBA
    takes_odd_sizes: bool = False  # without padding a column or row

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in px of the video for frames of the given size."""
        return (width, height) if self.takes_odd_sizes else (width + width % 2, height + height % 2)


_X264 = Encoder("libx264", "yuv420p", {"crf": "18", "preset": "medium"})
_VP9_OPTIONS = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_VP9 = Encoder("libvpx-vp9", "yuv420p", _VP9_OPTIONS, takes_odd_sizes=True)
# libvpx does not allow reference frames that are never shown together with transparency.
_VP9_ALPHA = Encoder(
    "libvpx-vp9", "yuva420p", _VP9_OPTIONS | {"auto-alt-ref": "0"}, alpha=True, takes_odd_sizes=True
)
_PRORES = Encoder("prores_ks", "yuv422p10le", {"profile": "hq", "vendor": "apl0"})
_PRORES_ALPHA = Encoder(
    "prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0"}, alpha=True, takes_odd_sizes=True
)


def encoder_for(path: Path, codec: VideoCodec = "auto", alpha: bool = False) -> Encoder:
    """The encoder for a file: "auto" is H.264 (CRF 18), VP9 in .webm, ProRes 4444 in a .mov with transparency.

    ProRes is 422 HQ, or 4444 with `alpha`, in 10 bits. Raises UserError if the container does not support it.
    """
    suffix = path.suffix.lower()
    if codec == "prores" and suffix not in (".mov", ".mkv"):
        raise UserError(f"{path} cannot hold ProRes: name it .mov")
    if not alpha:
        return _PRORES if codec == "prores" else _VP9 if suffix == ".webm" else _X264
    check_alpha(path)
    return _VP9_ALPHA if suffix == ".webm" else _PRORES_ALPHA


def check_alpha(path: Path) -> None:
    """Raise UserError if the file format, given by its suffix, does not support transparency."""
    if path.suffix.lower() not in (".mov", ".webm", ".png", ".webp", ""):
        raise UserError(
            f"{path} cannot hold transparency: use .mov, .webm, .png or a folder of PNG (no suffix)"
        )


class VideoWriter:
    """Writes (H,W,3) uint8 RGB frames as H.264, VP9 or ProRes (see `encoder_for`), BT.709 in limited range.

    A context manager: the file appears under its name on a clean exit, and not at all after an exception. H.264 and
    ProRes 422 need even sizes: the last column or row of odd ones is repeated. The sound of `audio_from`, if it has
    any, is copied or re-encoded (see `soundtrack`), and ends no later than the pictures.

    >>> with VideoReader("driving.mov") as reader:
    ...     info = reader.info
    ...     with VideoWriter("out.mp4", info.fps, info.width, info.height, audio_from=reader.path) as writer:
    ...         for frame in reader:
    ...             writer.write(frame)
    """

    def __init__(
        self,
        path: Path | str,
        fps: Fraction,
        width: int,
        height: int,
        audio_from: Path | str | None = None,
        overwrite: bool = False,
        codec: VideoCodec = "auto",
        alpha: bool = False,
        group: OutputGroup | None = None,
    ) -> None:
        """`fps` in frames per second, `width` and `height` in px; with `alpha`, frames are (H,W,4) RGBA.

        With a `group`, the file gets its final name only when the group is closed. Raises UserError like
        `check_output`, and if the container does not support the codec or transparency.
        """
        self.path = check_output(path, VIDEO_OUTPUTS, overwrite)
        self._encoder = encoder_for(self.path, codec, alpha)
        if fps <= 0 or width < 1 or height < 1:
            raise ValueError(f"expected a positive rate and size, got {fps} and {width}x{height}")
        self.fps = Fraction(fps)
        self.width = width
        self.height = height
        self.frame_count = 0  # frames written so far
        self._audio_from = None if audio_from is None else Path(audio_from)
        self._overwrite = overwrite
        self._group = group

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            temporary = (self._group or stack.enter_context(OutputGroup())).add(self.path, self._overwrite)
            suffix = self.path.suffix.lower()
            self._container = stack.enter_context(self._open_output(temporary, suffix))
            self._stream = self._add_video()
            self._reformatter = VideoReformatter()
            self._sound: Soundtrack | None = None
            if self._audio_from is not None:
                self._sound = stack.enter_context(Soundtrack(self._audio_from, self._container, suffix))
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Image) -> None:
        """Appends one frame (height,width,3) uint8 RGB, or RGBA. Raises UserError if it cannot be written."""
        channels = 4 if self._encoder.alpha else 3
        if frame.shape != (self.height, self.width, channels) or frame.dtype != np.uint8:
            size = f"{self.width}x{self.height}"
            raise ValueError(f"frame {self.frame_count}: not {size} uint8, but {frame.shape} {frame.dtype}")
        width, height = self._encoder.size(self.width, self.height)
        if (width, height) != (self.width, self.height):
            padding = (0, height - self.height, 0, width - self.width)
            frame = np.asarray(cv2.copyMakeBorder(frame, *padding, cv2.BORDER_REPLICATE))
        picture = self._reformatter.reformat(
            VideoFrame.from_ndarray(frame, format="rgba" if self._encoder.alpha else "rgb24"),
            format=self._encoder.pixels,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=TO_YUV,
            threads=1,
        )
        picture.pts = self.frame_count
        picture.time_base = 1 / self.fps
        with write_errors(self.path):
            self._container.mux(self._stream.encode(picture))
            self.frame_count += 1
            self._write_sound()

    def _write_sound(self) -> None:
        if self._sound is not None:
            self._sound.write_until(self.frame_count / self.fps)

    def _add_video(self) -> VideoStream:
        stream = self._container.add_stream(
            self._encoder.name, rate=self.fps, options=dict(self._encoder.options)
        )
        stream.width, stream.height = self._encoder.size(self.width, self.height)
        stream.pix_fmt = self._encoder.pixels
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.colorspace = BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        return stream

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After a clean exit, flushes the encoder."""
        if kind is not None:
            return
        if self.frame_count == 0:
            raise UserError(f"{self.path}: there was no frame to write")
        with write_errors(self.path):
            self._container.mux(self._stream.encode(None))
            self._write_sound()

    @contextmanager
    def _open_output(self, temporary: Path, suffix: str) -> Iterator[OutputContainer]:
        with write_errors(self.path):
            container = av.open(str(temporary), "w", options=CONTAINER_OPTIONS.get(suffix, {}))
        try:
            yield container
        except BaseException:
            with suppress(FFmpegError, OSError):  # the first error is the one to report
                container.close()
            raise
        with write_errors(self.path):
            container.close()


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise `UserError` that names the file if FFmpeg or the system cannot write it."""
    try:
        yield
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
