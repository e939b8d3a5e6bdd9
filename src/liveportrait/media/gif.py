"""Moving GIFs out: one palette of 256 colours, made for all frames together, and dithered.

Frames are kept losslessly beside the GIF until all of them are known, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from liveportrait.errors import UserError
from liveportrait.folders import unfinished
from liveportrait.media.files import Names, check_output
from liveportrait.types import Image

GIF_OUTPUTS = (".gif",)

FASTEST = Fraction(50)  # frames/s: players show faster ones at a tenth of their rate
_KEPT = "bgr0"  # pixels of the lossless copy


class GifWriter:
    """Writes (H,W,3) uint8 RGB frames as a GIF that repeats without end. Of more than 50 frames/s some are left out.

    A context manager: the file appears under its name on a clean exit, and not at all after any exception. Times are
    whole hundredths of a second, rounded so that no error adds up.
    """

    def __init__(
        self,
        path: Path | str,
        fps: Fraction,
        width: int,
        height: int,
        overwrite: bool = False,
        names: Names | None = None,
    ) -> None:
        """`fps` in frames per second, `width` and `height` in px. Raises UserError as `check_output` does.

        `names`: the file takes its name only when this stack is closed, as others may (see `Names`).
        """
        self.path = check_output(path, GIF_OUTPUTS, overwrite)
        self.fps = min(Fraction(fps), FASTEST)
        self._step = self.fps / fps  # of the GIF's frames for each one given
        self._width, self._height, self._overwrite = width, height, overwrite
        self._names = names
        self._given = self._kept = 0

    def __enter__(self) -> GifWriter:
        with ExitStack() as stack:
            names = self._names or stack.enter_context(Names())
            self._temporary = names.add(self.path, self._overwrite)
            self._copy = stack.enter_context(unfinished(self._temporary.with_suffix(".mkv")))
            with self._reported():
                self._container = stack.enter_context(av.open(str(self._copy), "w"))
                self._stream = self._container.add_stream("ffv1", rate=self.fps)
            self._stream.width, self._stream.height, self._stream.pix_fmt = self._width, self._height, _KEPT
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: Image) -> None:
        """Appends one frame (height,width,3) uint8 RGB. Raises UserError where the disk is full or alike."""
        if frame.shape != (self._height, self._width, 3) or frame.dtype != np.uint8:
            size = f"{self._width}x{self._height}"
            raise ValueError(f"frame {self._given}: not {size} uint8, but {frame.shape} {frame.dtype}")
        wanted = int(self._given * self._step) >= self._kept
        self._given += 1
        if wanted:
            picture = VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=_KEPT)
            picture.pts, picture.time_base = self._kept, 1 / self.fps
            self._kept += 1
            with self._reported():
                self._container.mux(self._stream.encode(picture))

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After a clean exit makes the GIF of the copy."""
        if kind is not None:
            return
        if not self._kept:
            raise UserError(f"{self.path}: there was no frame to write")
        with self._reported():
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._encode(self._palette())

    def _palette(self) -> VideoFrame:
        """The 256 colours that suit all frames together, as a picture of 16x16."""
        graph = Graph()
        source, make, sink = (
            self._buffer(graph),
            graph.add("palettegen", reserve_transparent="0"),
            _sink(graph),
        )
        source.link_to(make)
        make.link_to(sink)
        graph.configure()
        for frame in self._frames():
            source.push(frame)
        source.push(None)
        (palette,) = _pulled(sink)
        return palette

    def _encode(self, palette: VideoFrame) -> None:
        graph = Graph()
        source, colours, sink = self._buffer(graph), _palette_buffer(graph, palette), _sink(graph)
        dither = graph.add("paletteuse", dither="sierra2_4a", diff_mode="rectangle")
        source.link_to(dither, 0, 0)
        colours.link_to(dither, 0, 1)
        dither.link_to(sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)
        with av.open(str(self._temporary), "w") as container:
            stream = container.add_stream("gif", rate=self.fps)
            stream.width, stream.height, stream.pix_fmt = self._width, self._height, "pal8"
            for frame in chain(self._frames(), [None]):
                source.push(frame)
                for picture in _pulled(sink):
                    container.mux(stream.encode(picture))
            container.mux(stream.encode(None))

    def _frames(self) -> Iterator[VideoFrame]:
        """The frames of the copy, at their times."""
        with av.open(str(self._copy)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                frame.pts, frame.time_base = number, 1 / self.fps
                yield frame

    def _buffer(self, graph: Graph) -> FilterContext:
        return graph.add_buffer(
            width=self._width, height=self._height, format=VideoFormat(_KEPT), time_base=1 / self.fps
        )

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (FFmpegError, OSError) as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error


def _palette_buffer(graph: Graph, palette: VideoFrame) -> FilterContext:
    return graph.add_buffer(
        width=palette.width, height=palette.height, format=palette.format, time_base=Fraction(1)
    )


def _sink(graph: Graph) -> FilterContext:
    return graph.add("buffersink")


def _pulled(sink: FilterContext) -> Iterator[VideoFrame]:
    """What comes out of a graph by now."""
    while True:
        try:
            picture = sink.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(picture, VideoFrame)
        yield picture
