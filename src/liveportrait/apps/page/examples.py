"""Pictures to try the page with: the astronaut and the cat from scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from liveportrait.errors import UserError
from liveportrait.types import Image


def astronaut() -> Image:
    """Eileen Collins, (512,512,3)."""
    return _data("astronaut")


def two_astronauts() -> Image:
    """The astronaut next to her mirror image, (512,1024,3)."""
    picture = astronaut()
    return np.ascontiguousarray(np.hstack([picture, picture[:, ::-1]]))


def chelsea() -> Image:
    """A cat, (300,451,3)."""
    return _data("chelsea")


EXAMPLES: dict[str, Callable[[], Image]] = {
    "astronaut": astronaut,
    "two astronauts": two_astronauts,
    "cat": chelsea,
}


def example(name: str) -> BytesIO:
    """A picture as a PNG file. Raises `UserError` if scikit-image is missing."""
    file = BytesIO()
    Pillow.fromarray(EXAMPLES[name]()).save(file, "PNG")
    file.seek(0)
    return file


def _data(name: str) -> Image:
    try:
        from skimage import data
    except ImportError as error:
        raise UserError("the examples come from scikit-image: pip install scikit-image") from error
    picture: Image = getattr(data, name)()
    return picture
