"""The files of a result: a video or a picture, and the same side by side with source and driver."""

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
from liveportrait.choices import VideoCodec
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
    """The files that will be written, after a check that they may be; a name without a suffix is a folder of PNG.

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
    """Whether the file to be written holds a single picture."""
    return path.suffix.lower() in IMAGE_OUTPUTS


def size_notes(rendering: Rendering, path: Path, options: OutputOptions) -> list[str]:
    """A sentence if the video at `path` is larger than its frames, since the codec wants even sizes."""
    height, width = rendering.compositor.shape
    if path.suffix.lower() not in VIDEO_OUTPUTS:
        return []
    padded = encoder_for(path, options.codec, rendering.paste.alpha).size(width, height)
    if padded == (width, height):
        return []
    return [
        f"{path} is {padded[0]}x{padded[1]} px: its codec takes even sizes, so the last row or column of the"
        f" {width}x{height} px is there twice; .webm and a folder of PNG keep the size"
    ]


class FrameWriter:
    """Composes the frames of a rendering and writes them, one call a frame in order, by a single thread.

    A context manager: files appear under their names on a clean exit, all at once, and not at all after any exception.
    """

    def __init__(
        self,
        rendering: Rendering,
        paths: Sequence[Path],
        audio: Path | None,
        options: OutputOptions,
        seal: Seal | None = None,
    ) -> None:
        """`paths` as `output_paths` gives them, `audio` a file with sound; `seal` marks the finished files."""
        self._rendering, self._paths, self._audio, self._options = rendering, paths, audio, options
        source, watermark = rendering.source, rendering.compositor.watermark
        payload = watermark.payload if watermark else None
        self._seal = seal and seal.about(source.file, source.sha256, payload)
        self._side = rendering.session.engine.variant.output_size
        self._compare: Write | None = None
        self.unchanged: list[bool] = []  # of each frame so far, whether it went through as it was

    def __enter__(self) -> FrameWriter:
        rendering = self._rendering
        with ExitStack() as stack:
            # Encoders end first, and take a while for what they still hold; then there is nothing left but names.
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
        """Pictures of a face side by side: source, driver where it has pictures, and result."""
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
        """Source, driver and result of each face in a row of its own; a face that is not in view leaves it black."""
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
        """A function that writes frames of a height and width to a video, a GIF, a folder of PNG, or one picture."""
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
    audio: Path | None,
    options: OutputOptions,
    seal: Seal | None = None,
) -> NDArray[np.bool_]:
    """Write all frames of a rendering, in files marked by `seal`; of each, whether it went through unchanged."""
    with (
        FrameWriter(rendering, paths, audio, options, seal) as writer,
        rendering.session.write_behind(writer.write, "to be written") as submit,
        closing(rendering),
    ):
        for rendered in rendering.uncomposed():
            submit(rendered)
    return np.array(writer.unchanged)
