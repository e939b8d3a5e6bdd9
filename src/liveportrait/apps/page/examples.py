"""Pictures to try the page with: scikit-image's astronaut and cat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from liveportrait.errors import UserError
from liveportrait.media import save_image
from liveportrait.types import Image


def astronaut() -> Image:
    """Eileen Collins, (512,512,3)."""
    return _data("astronaut")


def two_astronauts() -> Image:
    """The same and her mirror image, side by side (512,1024,3)."""
    import numpy as np

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


def write_example(name: str, path: Path) -> Path:
    """Write a picture, and return its path. Raises `UserError` where scikit-image is missing."""
    save_image(path, EXAMPLES[name]())
    return path


def _data(name: str) -> Image:
    try:
        from skimage import data
    except ImportError as error:
        raise UserError("the examples come from scikit-image: pip install scikit-image") from error
    picture: Image = getattr(data, name)()
    return picture
