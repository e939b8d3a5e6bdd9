"""The named portraits that live streams choose from; each is opened on first use and shared by all streams."""

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

MAX_SIDE = 1024  # px of a live picture by default: larger ones are slow to send and to draw
THUMBNAIL_SIDE = 320  # px, longest side


class Gallery:
    """Portraits by name: samples, until `set_portraits` replaces them. Methods may be called from any thread."""

    def __init__(self, load: Callable[[], Animator]) -> None:
        """`load` returns the animator, which may take seconds."""
        self._load = load
        self._opened: dict[str, Portrait] = {}
        self._opening = threading.Lock()
        self.set_portraits(sample_portraits())

    def set_portraits(
        self,
        portraits: Mapping[str, Path | Image],
        source: SourceOptions | None = None,
        drive: DriveOptions | None = None,
    ) -> None:
        """Replace all portraits, before any stream starts: files or photos (H,W,3) uint8 RGB, and their options."""
        self.close()
        self._sources = dict(portraits)
        self._options = source or SourceOptions(max_size=MAX_SIDE)
        self.drive = drive or DriveOptions()

    @property
    def names(self) -> list[str]:
        """All names, in the order given."""
        return list(self._sources)

    def portrait(self, name: str) -> Portrait:
        """The open portrait with a name. Raises `UserError` if there is none, or it cannot be opened."""
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
        ratio = min(THUMBNAIL_SIDE / max(picture.shape[:2]), 1.0)
        small = cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        return encode_frame(np.asarray(small, np.uint8))

    def open_photo(self, photo: bytes, name: str) -> Portrait:
        """Open a visitor's photo as a private portrait, which is not added to the gallery; no file remains.

        `name` is for errors. Raises `UserError` if it is not a photo, or shows no face.
        """
        with temporary_folder() as folder:
            path = folder / "photo"
            path.write_bytes(photo)
            try:
                if not _is_photo(path):
                    raise UserError(f"{path} is not a photo: choose a JPEG, PNG or WebP picture")
                return self._load().open(path, self._options)
            except UserError as error:
                raise UserError(str(error).replace(str(path), name)) from error

    def close(self) -> None:
        """Close the portraits."""
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
    """The astronaut and the cat from scikit-image; empty if it is not installed."""
    try:
        from skimage.data import astronaut, chelsea
    except ImportError:
        return {}
    return {"astronaut": astronaut(), "cat": chelsea()}
