"""Where the pictures of an animation go: a video or a picture, and the same side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.compositing import Compositor, Painted
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.profile import Stopwatch
from liveportrait.animation.source import Source
from liveportrait.choices import VideoCodec
from liveportrait.face.crop import to_input
from liveportrait.media import (
    IMAGE_OUTPUTS,
    VIDEO_OUTPUTS,
    PictureSequence,
    VideoWriter,
    check_alpha,
    check_new_folder,
    check_output,
    save_image,
)

Image = NDArray[np.uint8]
Write = Callable[[Image], None]


def compare_path(out: Path) -> Path:
    """Where the side-by-side version of `out` goes: NAME_compare.SUFFIX."""
    return out.with_name(f"{out.stem}_compare{out.suffix}")


def output_paths(out: Path, options: AnimateOptions) -> list[Path]:
    """The files that will be written, after a check that they may be; a name without a suffix is a folder of PNG."""
    if options.alpha:
        check_alpha(out)
    paths = [out, compare_path(out)] if options.compare else [out]
    suffixes = (*VIDEO_OUTPUTS, *IMAGE_OUTPUTS)
    return [
        check_output(path, suffixes, options.overwrite) if path.suffix else check_new_folder(path)
        for path in paths
    ]


def is_picture(path: Path) -> bool:
    """Whether the file to be written holds a single picture."""
    return path.suffix.lower() in IMAGE_OUTPUTS


@contextmanager
def picture_writer(
    path: Path,
    fps: Fraction,
    shape: tuple[int, int],
    audio: Path | None,
    overwrite: bool,
    codec: VideoCodec = "auto",
    alpha: bool = False,
) -> Iterator[Write]:
    """A function that writes frames of a height and width to `path`: a video, a folder of PNG, or one picture."""
    if is_picture(path):
        yield partial(save_image, path, overwrite=overwrite)
    elif not path.suffix:
        with PictureSequence(path) as sequence:
            yield sequence.write
    else:
        height, width = shape
        with VideoWriter(path, fps, width, height, audio, overwrite, codec, alpha) as writer:
            yield writer.write


class Finisher:
    """Composes frames and writes them, one call a frame in order; to be called by a single thread."""

    def __init__(
        self,
        clock: Stopwatch,
        source: Source,
        size: int,
        compositor: Compositor | None,
        write: Write,
        sheet: Sheet | None = None,
    ) -> None:
        """Without a compositor the first face's crop of `size` px is written, as it was generated or as it is."""
        self._clock, self._source, self._size, self._compositor = clock, source, size, compositor
        self._write, self._sheet = write, sheet
        self.unchanged: list[bool] = []  # of each frame so far, whether it went through as it was

    def __call__(self, frame: Image, faces: Sequence[Painted]) -> None:
        """Write one frame with its faces."""
        with self._clock.step("paste"):
            if self._compositor:
                frame = self._compositor.compose(frame, faces)
            elif faces:
                frame = faces[0].generated
            else:
                frame = self._source.faces[0].crop(len(self.unchanged), frame, self._size)
        self.unchanged.append(not faces)
        with self._clock.step("encode"):
            self._write(frame)
            if self._sheet:
                self._sheet.write(self._sheet.of(faces))


@dataclass(frozen=True, eq=False)
class Sheet:
    """The side-by-side version: source, driver and result of each face in a row of its own."""

    write: Write
    size: int  # side of a tile, px
    rows: int  # faces
    columns: int  # tiles of a face

    def of(self, faces: Sequence[Painted]) -> Image:
        """The sheet of one frame; a face that is not in view leaves its row black."""
        sheet = np.zeros((self.rows * self.size, self.columns * self.size, 3), np.uint8)
        for painted in faces:
            pictures = [painted.tile, painted.driving, painted.generated]
            row = np.hstack([to_input(picture, self.size) for picture in pictures if picture is not None])
            top = painted.face * self.size
            sheet[top : top + self.size, : row.shape[1]] = row
        return sheet
