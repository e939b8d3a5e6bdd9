"""Writing animated GIFs: dithered, with one palette of 256 colours computed from all frames.

Until all frames are known they are kept in a lossless file next to the GIF, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from liveportrait.errors import UserError
from liveportrait.folders import unfinished
from liveportrait.media.files import OutputGroup, check_output
from liveportrait.media.writer import write_errors
from liveportrait.types import Image

GIF_OUTPUTS = (".gif",)

MAX_FPS = Fraction(50)  # frames/s: players show faster GIFs at a tenth of their rate
_KEPT = "bgr0"  # pixels of the lossless copy


class GifWriter:
    """Writes (H,W,3) uint8 RGB frames as a GIF that loops forever. Above 50 frames/s, frames are dropped.

    A context manager: the file appears under its name on a clean exit, and not at all after an exception. Times are in
    hundredths of a second, rounded so that errors do not add up.
    """

    def __init__(
        self,
        path: Path | str,
        fps: Fraction,
        width: int,
        height: int,
        overwrite: bool = False,
        group: OutputGroup | None = None,
    ) -> None:
        """`fps` in frames per second, `width` and `height` in px. Raises UserError like `check_output`.

        With a `group`, the file gets its final name only when the group is closed.
        """
        self.path = check_output(path, GIF_OUTPUTS, overwrite)
        self.fps = min(Fraction(fps), MAX_FPS)
        self._step = self.fps / fps  # GIF frames per frame given
        self._width, self._height, self._overwrite = width, height, overwrite
        self._group = group
        self._given = self._kept = 0

    def __enter__(self) -> GifWriter:
        with ExitStack() as stack:
            group = self._group or stack.enter_context(OutputGroup())
            self._temporary = group.add(self.path, self._overwrite)
            self._copy = stack.enter_context(unfinished(self._temporary.with_suffix(".mkv")))
            with write_errors(self.path):
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
        """Appends one frame (height,width,3) uint8 RGB. Raises UserError if it cannot be written."""
        if frame.shape != (self._height, self._width, 3) or frame.dtype != np.uint8:
            size = f"{self._width}x{self._height}"
            raise ValueError(f"frame {self._given}: not {size} uint8, but {frame.shape} {frame.dtype}")
        is_kept = int(self._given * self._step) >= self._kept
        self._given += 1
        if is_kept:
            picture = VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=_KEPT)
            picture.pts, picture.time_base = self._kept, 1 / self.fps
            self._kept += 1
            with write_errors(self.path):
                self._container.mux(self._stream.encode(picture))

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After a clean exit, makes the GIF from the lossless copy."""
        if kind is not None:
            return
        if not self._kept:
            raise UserError(f"{self.path}: there was no frame to write")
        with write_errors(self.path):
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._encode(self._palette())

    def _palette(self) -> VideoFrame:
        """The best 256 colours for all frames together, as a 16x16 picture."""
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
        """The frames of the lossless copy, with their times."""
        with av.open(str(self._copy)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                frame.pts, frame.time_base = number, 1 / self.fps
                yield frame

    def _buffer(self, graph: Graph) -> FilterContext:
        return graph.add_buffer(
            width=self._width, height=self._height, format=VideoFormat(_KEPT), time_base=1 / self.fps
        )


def _palette_buffer(graph: Graph, palette: VideoFrame) -> FilterContext:
    return graph.add_buffer(
        width=palette.width, height=palette.height, format=palette.format, time_base=Fraction(1)
    )


def _sink(graph: Graph) -> FilterContext:
    return graph.add("buffersink")


def _pulled(sink: FilterContext) -> Iterator[VideoFrame]:
    """The frames that a graph has ready."""
    while True:
        try:
            picture = sink.pull()
        except (BlockingIOError, EOFError):
            return
        assert isinstance(picture, VideoFrame)
        yield picture
