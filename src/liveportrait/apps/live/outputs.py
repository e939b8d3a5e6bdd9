"""Outputs of a live portrait other than the screen: a recording, and a virtual camera."""

from __future__ import annotations

import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np

from liveportrait.animation.session import write_behind
from liveportrait.errors import UserError
from liveportrait.marking.seal import Seal
from liveportrait.media import OutputGroup, VideoWriter
from liveportrait.types import Image

RECORDING_FPS = 25  # constant: pictures are repeated or dropped to keep real time
MAX_QUEUED_PICTURES = 8  # waiting for the encoder
VIRTUAL_SIZE = 1280, 720  # px: what meeting software and OBS expect


class Output(Protocol):
    """Receives pictures for the duration of its `with` block."""

    def __call__(self, picture: Image) -> None:
        """Receive a picture (H,W,3) uint8 RGB of any size."""
        ...


class Recording:
    """A video of the pictures as they arrived, at a constant frame rate. The file appears when its block ends.

    Its size is that of the first picture; others are fitted into it.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        """Raises `UserError`, here or on writing."""
        self._path, self._overwrite = path, overwrite
        self.seal: Seal | None = None  # marks the file; set it before the first picture
        VideoWriter(path, Fraction(RECORDING_FPS), 2, 2, overwrite=overwrite)  # to refuse a bad path at once
        self._stack = ExitStack()
        self._size: tuple[int, int] | None = None
        self._last: Image | None = None
        self.frames = 0

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._last is not None:
            self._repeat_until(time.monotonic())
        self._stack.__exit__(kind, error, trace)

    def __call__(self, picture: Image) -> None:
        """Show a picture from now on."""
        now = time.monotonic()
        if self._size is None:
            height, width = picture.shape[:2]
            self._size, self._begin = (width, height), now
            group = self._stack.enter_context(OutputGroup(self.seal))
            writer = self._stack.enter_context(
                VideoWriter(
                    self._path, Fraction(RECORDING_FPS), width, height, overwrite=self._overwrite, group=group
                )
            )
            self._write = self._stack.enter_context(write_behind(writer.write, MAX_QUEUED_PICTURES))
        self._repeat_until(now)
        self._last = fitted(picture, *self._size)

    def _repeat_until(self, now: float) -> None:
        """Write the last picture for every frame that has become due; the very first one at least once."""
        while self._last is not None and self.frames <= (now - self._begin) * RECORDING_FPS:
            self._write(self._last)
            self.frames += 1


class VirtualCamera:
    """A virtual camera for other programs on this machine, such as OBS or meeting software. A context manager."""

    def __enter__(self) -> VirtualCamera:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise UserError(
                "a virtual camera needs pyvirtualcam, which is missing: pip install 'liveportrait[camera]'"
            ) from error
        try:
            self._camera = pyvirtualcam.Camera(*VIRTUAL_SIZE, RECORDING_FPS)
        except RuntimeError as error:
            raise UserError(
                "there is no virtual camera: on Linux, modprobe v4l2loopback; on Windows and macOS, install OBS and"
                " start its virtual camera once"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._camera.close()

    def __call__(self, picture: Image) -> None:
        """Send a picture, fitted into 1280x720 px."""
        self._camera.send(fitted(picture, *VIRTUAL_SIZE))

    @property
    def device(self) -> str:
        """The camera's device name."""
        return str(self._camera.device)


def fitted(picture: Image, width: int, height: int) -> Image:
    """A picture (H,W,3) scaled to fit a frame of another size, centred on black, keeping its aspect ratio."""
    tall, wide = picture.shape[:2]
    if (wide, tall) == (width, height):
        return picture
    ratio = min(width / wide, height / tall)
    inner = max(round(wide * ratio), 1), max(round(tall * ratio), 1)
    frame = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    frame[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=method)
    return frame
