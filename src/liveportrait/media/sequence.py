"""Videos out as a folder of PNG: without loss, and complete or not at all."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from liveportrait.errors import UserError
from liveportrait.media.files import output_folder
from liveportrait.media.image import save_image


class PictureSequence:
    """Writes (H,W,3) uint8 RGB or (H,W,4) RGBA frames as frame-000000.png, frame-000001.png, ... into a new folder.

    A context manager: the folder appears under its name on a clean exit, and not at all after any exception.
    """

    def __init__(self, path: Path | str) -> None:
        """Raises UserError, here or on entering, where there is something of that name."""
        self.path = Path(path)
        self.frame_count = 0  # frames written so far

    def __enter__(self) -> PictureSequence:
        with ExitStack() as stack:
            self._folder = stack.enter_context(output_folder(self.path))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame. Raises UserError where the disk is full or alike."""
        try:
            save_image(self._folder / f"frame-{self.frame_count:06d}.png", frame)
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error
        self.frame_count += 1
