"""Where the pictures of an animation go: a video or a picture, and the same side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.driver import Driver
from liveportrait.animation.options import AnimateOptions
from liveportrait.face.crop import to_input
from liveportrait.media import IMAGE_OUTPUTS, VIDEO_OUTPUTS, VideoWriter, check_output, save_image

Image = NDArray[np.uint8]
Write = Callable[[Image], None]


def compare_path(out: Path) -> Path:
    """Where the side-by-side version of `out` goes: NAME_compare.SUFFIX."""
    return out.with_name(f"{out.stem}_compare{out.suffix}")


def output_paths(out: Path, options: AnimateOptions) -> list[Path]:
    """The files that will be written, after a check that they may be."""
    paths = [out, compare_path(out)] if options.compare else [out]
    return [check_output(path, (*VIDEO_OUTPUTS, *IMAGE_OUTPUTS), options.overwrite) for path in paths]


@contextmanager
def picture_writer(
    path: Path, driver: Driver, width: int, height: int, audio: Path | None, options: AnimateOptions
) -> Iterator[Write]:
    """A function that writes frames (height,width,3) to `path`: a video, or a single picture."""
    if path.suffix.lower() in IMAGE_OUTPUTS:
        yield partial(save_image, path, overwrite=options.overwrite)
        return
    with VideoWriter(path, driver.fps, width, height, audio, options.overwrite) as writer:
        yield writer.write


def side_by_side(pictures: list[Image | None], size: int) -> Image:
    """The pictures that are there, as squares of `size` px from left to right."""
    return np.hstack([to_input(p, size) for p in pictures if p is not None])
