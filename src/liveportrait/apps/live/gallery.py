"""Portraits by name that live streams choose from: opened when first asked for, each once for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from liveportrait.animation.options import DriveOptions, SourceOptions
from liveportrait.apps.live.frames import encode_frame
from liveportrait.errors import UserError
from liveportrait.folders import temporary_folder
from liveportrait.media import media_kind
from liveportrait.types import Image

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.portrait import Portrait

LONGEST_SIDE = (
    1024  # px of a live picture, unless the options say more: larger ones take long to send and to show
)
THUMBNAIL = 320  # px, longest side


class Gallery:
    """Names and what they stand for: some samples, until others are exhibited. Any thread may call its methods."""

    def __init__(self, load: Callable[[], Animator]) -> None:
        """`load` gives the animator, which may take seconds."""
        self._load = load
        self._opened: dict[str, Portrait] = {}
        self._opening = threading.Lock()
        self.exhibit(sample_portraits())

    def exhibit(
        self,
        portraits: Mapping[str, Path | Image],
        source: SourceOptions | None = None,
        drive: DriveOptions | None = None,
    ) -> None:
        """Replace all portraits before streams begin: files or photos (H,W,3) uint8 RGB, how to open and move them."""
        self.close()
        self._sources = dict(portraits)
        self._options = source or SourceOptions(max_size=LONGEST_SIDE)
        self.drive = drive or DriveOptions()

    @property
    def names(self) -> list[str]:
        """All names, in the order in which they were given."""
        return list(self._sources)

    def portrait(self, name: str) -> Portrait:
        """A portrait, ready to be moved. Raises `UserError` where there is none of that name, or it does not open."""
        if name not in self._sources:
            choice = f"choose one of {', '.join(self._sources)}" if self._sources else "send a photo"
            raise UserError(f"there is no portrait {name!r}: {choice}")
        with self._opening:
            if name not in self._opened:
                self._opened[name] = self._load().open(self._sources[name], self._options)
            return self._opened[name]

    def thumbnail(self, name: str) -> bytes:
        """A small JPEG of a portrait. Raises `UserError` as `portrait` does."""
        portrait = self.portrait(name)
        with portrait.source.frames(portrait.session()) as frames:
            picture = next(iter(frames))
        ratio = min(THUMBNAIL / max(picture.shape[:2]), 1.0)
        small = cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        return encode_frame(np.asarray(small, np.uint8))

    def open_photo(self, photo: bytes, name: str) -> Portrait:
        """A photo that somebody sent, as a portrait that is theirs: it gets no name here, and no file stays.

        `name` is for errors. Raises `UserError` where it is no photo, or shows no face.
        """
        with temporary_folder() as folder:
            path = folder / "photo"
            path.write_bytes(photo)
            try:
                if not _is_photo(path):
                    raise UserError(f"{path} is no photo: choose a JPEG, PNG or WebP picture")
                return self._load().open(path, self._options)
            except UserError as error:
                raise UserError(str(error).replace(str(path), name)) from error

    def close(self) -> None:
        """Let go of what was opened."""
        with self._opening:
            for portrait in self._opened.values():
                portrait.close()
            self._opened.clear()


def _is_photo(path: Path) -> bool:
    try:
        return media_kind(path) == "image"
    except UserError:
        return False


def sample_portraits() -> dict[str, Path | Image]:
    """Scikit-image's astronaut and cat; nothing where it is not installed."""
    try:
        from skimage.data import astronaut, chelsea
    except ImportError:
        return {}
    return {"astronaut": astronaut(), "cat": chelsea()}
