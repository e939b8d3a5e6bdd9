"""The output files: a video or a picture, and a side-by-side comparison with source and driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.compositor import RenderedFace
from liveportrait.animation.options import OutputOptions, PasteOptions
from liveportrait.animation.pipeline import Rendering
from liveportrait.choices import AudioMode, VideoCodec
from liveportrait.face.crop import to_input
from liveportrait.folders import check_new_folder
from liveportrait.marking.seal import Seal
from liveportrait.media import (
    IMAGE_OUTPUTS,
    VIDEO_OUTPUTS,
    OutputGroup,
    PictureSequence,
    VideoWriter,
    check_alpha,
    check_output,
    encoder_for,
    save_image,
)
from liveportrait.media.gif import GIF_OUTPUTS, GifWriter
from liveportrait.types import Image

Write = Callable[[Image], None]

MOVING_OUTPUTS = (*VIDEO_OUTPUTS, *GIF_OUTPUTS)


def output_paths(
    out: Path,
    output: OutputOptions,
    paste: PasteOptions,
    suffixes: Sequence[str] = (*MOVING_OUTPUTS, *IMAGE_OUTPUTS),
) -> list[Path]:
    """The files to write, after checking that they can be written; a name without a suffix is a folder of PNG.

    With `output.compare` the second one is NAME_compare.SUFFIX.
    """
    if paste.alpha:
        check_alpha(out)
    paths = [out]
    if output.compare:
        paths.append(out.with_name(f"{out.stem}_compare{out.suffix}"))
    return [
        check_output(path, suffixes, output.overwrite) if path.suffix else check_new_folder(path)
        for path in paths
    ]


def is_picture(path: Path) -> bool:
    """Whether the output file holds a single picture."""
    return path.suffix.lower() in IMAGE_OUTPUTS


def size_notes(rendering: Rendering, path: Path, options: OutputOptions) -> list[str]:
    """A sentence if the video at `path` is larger than its frames because the codec needs even sizes."""
    height, width = rendering.compositor.shape
    if path.suffix.lower() not in VIDEO_OUTPUTS:
        return []
    padded = encoder_for(path, options.codec, rendering.paste.alpha).size(width, height)
    if padded == (width, height):
        return []
    return [
        f"{path} is {padded[0]}x{padded[1]} px: its codec needs even sizes, so the last row or column of the"
        f" {width}x{height} px is repeated; .webm and a folder of PNG keep the size"
    ]


class FrameWriter:
    """Composes the frames of a rendering and writes them, one call per frame in order, from a single thread.

    A context manager: files appear under their names on a clean exit, all at once, and not at all after an exception.
    """

    def __init__(
        self,
        rendering: Rendering,
        paths: Sequence[Path],
        options: OutputOptions,
        seal: Seal | None = None,
    ) -> None:
        """`paths` as `output_paths` gives them; `seal` marks the finished files."""
        self._rendering, self._paths, self._options = rendering, paths, options
        self._audio = _sound(rendering, options.audio)
        source, watermark = rendering.source, rendering.compositor.watermark
        payload = watermark.payload if watermark else None
        self._seal = seal and seal.about(source.file, source.sha256, payload)
        self._side = rendering.session.engine.variant.output_size
        self._compare: Write | None = None
        self.unchanged: list[bool] = []  # of each frame so far, whether it has no rendered face

    def __enter__(self) -> FrameWriter:
        rendering = self._rendering
        with ExitStack() as stack:
            # Encoders close first, which takes a while; then only renaming is left.
            self._group = stack.enter_context(OutputGroup(self._seal))
            shape, alpha = rendering.compositor.shape, rendering.paste.alpha
            self._write = stack.enter_context(self._open(self._paths[0], shape, self._options.codec, alpha))
            if len(self._paths) > 1:
                shape = (len(rendering.source.faces) * self._side, self._columns * self._side)
                self._compare = stack.enter_context(self._open(self._paths[1], shape))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def _columns(self) -> int:
        """Pictures of a face side by side: source, driver if it has pictures, and result."""
        return 2 + any(driver.driver.has_pictures for driver in self._rendering.drivers)

    def write(self, rendered: tuple[Image, Sequence[RenderedFace]]) -> None:
        """Write one frame with its faces."""
        frame, faces = rendered
        clock = self._rendering.session.clock
        with clock.step("paste"):
            frame = self._rendering.compositor.compose(frame, faces)
        self.unchanged.append(not faces)
        with clock.step("encode"):
            self._write(frame)
            if self._compare:
                self._compare(self._sheet(faces))

    def _sheet(self, faces: Sequence[RenderedFace]) -> Image:
        """Source, driver and result of each face, one row per face; the row of a face not in view is black."""
        side = self._side
        sheet = np.zeros((len(self._rendering.source.faces) * side, self._columns * side, 3), np.uint8)
        for face in faces:
            pictures = [face.crop, face.driving, face.generated]
            row = np.hstack([to_input(picture, side) for picture in pictures if picture is not None])
            sheet[face.face * side : (face.face + 1) * side, : row.shape[1]] = row
        return sheet

    @contextmanager
    def _open(
        self, path: Path, shape: tuple[int, int], codec: VideoCodec = "auto", alpha: bool = False
    ) -> Iterator[Write]:
        """A function that writes frames of the given height and width to a video, GIF, folder of PNG or picture."""
        overwrite, group = self._options.overwrite, self._group
        if is_picture(path):
            yield partial(save_image, path, overwrite=overwrite, group=group)
        elif not path.suffix:
            with PictureSequence(path, group) as sequence:
                yield sequence.write
        elif path.suffix.lower() in GIF_OUTPUTS:
            with GifWriter(path, self._rendering.fps, shape[1], shape[0], overwrite, group) as gif:
                yield gif.write
        else:
            height, width = shape
            with VideoWriter(
                path, self._rendering.fps, width, height, self._audio, overwrite, codec, alpha, group
            ) as writer:
                yield writer.write


def write_rendering(
    rendering: Rendering,
    paths: Sequence[Path],
    options: OutputOptions,
    seal: Seal | None = None,
) -> NDArray[np.bool_]:
    """Write all frames of a rendering to files marked by `seal`; returns (N,) which of them have no rendered face."""
    with (
        FrameWriter(rendering, paths, options, seal) as writer,
        rendering.session.write_behind(writer.write, "to be written") as submit,
        closing(rendering),
    ):
        for rendered in rendering.uncomposed():
            submit(rendered)
    return np.array(writer.unchanged)


def _sound(rendering: Rendering, mode: AudioMode) -> Path | None:
    """The file that the result takes its sound from."""
    source = rendering.source.audio
    driving = next((each.driver.audio for each in rendering.drivers if each.driver.audio), None)
    if mode == "none":
        return None
    return driving or source if mode == "driving" else source or driving
