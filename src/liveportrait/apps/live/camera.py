"""A local camera that always gives its newest frame; a video file may take its place."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np

from liveportrait.errors import UserError
from liveportrait.types import Image

FRAME_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
CAPTURE_SIZE = 640, 480  # px, requested of the camera: the networks see only 256


class CameraFrame(NamedTuple):
    """A frame from a camera."""

    picture: Image  # (H,W,3) RGB
    time: float  # s, when it was read, by time.monotonic


class Camera:
    """Reads a camera in a thread, so that no frame waits in the driver's queue. A context manager.

    `name` is a camera's number or device file, or a video file, which is played at its own frame rate until it ends.
    """

    def __init__(self, name: str, mirrored: bool = True) -> None:
        """`mirrored`: flip the picture left to right, as in a mirror. Raises `UserError`, here or on entering."""
        self.name = name
        self._number = int(name) if name.isdecimal() else None
        if self._number is None and not Path(name).exists():
            raise UserError(
                f"camera is {name!r}: give a camera's number, such as 0, or a device or video file"
            )
        self._mirrored = mirrored
        self._is_film = self._number is None and Path(name).is_file()
        self._newest: CameraFrame | None = None
        self._has_ended = self._is_closing = False
        self._changed = threading.Condition()

    def __enter__(self) -> Camera:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error below is enough
        self._capture = cv2.VideoCapture(self.name if self._number is None else self._number)
        cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            self._capture.release()
            raise UserError(
                f"cannot open camera {self.name}: plug it in, close other programs that use it, or choose another"
            )
        if not self._is_film:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, CAPTURE_SIZE[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, CAPTURE_SIZE[1])
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1 <= rate <= 240 else 30.0
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():  # otherwise it hangs in the driver, and so would release()
            self._capture.release()

    @property
    def has_newer(self) -> bool:
        """Whether there is a frame that `newest` has not returned yet."""
        return self._newest is not None

    def newest(self) -> CameraFrame | None:
        """Wait for a frame that was not returned yet, and return the newest; None when a video file has ended.

        Raises `UserError` if the camera was unplugged or does not respond.
        """
        with self._changed:
            came = self._changed.wait_for(lambda: self._newest or self._has_ended, FRAME_TIMEOUT_S)
            seen, self._newest = self._newest, None
        if seen:
            return seen
        if came and self._is_film:
            return None
        raise UserError(f"camera {self.name} has stopped sending frames: plug it in again and restart")

    def _read(self) -> None:
        begin, count = time.monotonic(), 0
        while not self._is_closing:
            done, frame = self._capture.read()
            if done and self._is_film:
                time.sleep(max(begin + count / self.rate - time.monotonic(), 0.0))
            with self._changed:
                if not done:
                    self._has_ended = True
                    self._changed.notify()
                    return
                self._newest = CameraFrame(self._upright(frame), time.monotonic())
                self._changed.notify()
            count += 1

    def _upright(self, frame: np.ndarray) -> Image:
        picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return np.asarray(cv2.flip(picture, 1) if self._mirrored else picture, np.uint8)
