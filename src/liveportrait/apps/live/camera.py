"""A camera of this machine, of which the newest frame counts; a film may stand in for one."""

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

PATIENCE = 5.0  # s that a camera may take for a frame
LET_GO_S = 1.0  # that it may take when it is closed
SIZE = 640, 480  # px asked for: the networks look at 256


class Seen(NamedTuple):
    """A frame of a camera."""

    picture: Image  # (H,W,3) RGB
    time: float  # s, when it was taken from the camera, by time.monotonic


class Camera:
    """Reads a camera in a thread, so that no frame waits in the driver's queue. A context manager.

    `name` is a camera's number or device file, or a film, which is played at its own rate and ends.
    """

    def __init__(self, name: str, mirrored: bool = True) -> None:
        """`mirrored`: turn the picture left to right, as people know themselves. Raises `UserError`, here or later."""
        self.name = name
        self._number = int(name) if name.isdecimal() else None
        if self._number is None and not Path(name).exists():
            raise UserError(
                f"camera is {name!r}: give the number of a camera, such as 0, or a device or film"
            )
        self._mirrored = mirrored
        self._is_film = self._number is None and Path(name).is_file()
        self._newest: Seen | None = None
        self._has_ended = self._is_closing = False
        self._changed = threading.Condition()

    def __enter__(self) -> Camera:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the reason is told in a sentence
        self._capture = cv2.VideoCapture(self.name if self._number is None else self._number)
        cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            self._capture.release()
            raise UserError(
                f"camera {self.name} does not open: plug it in, close other programs that use it, or name another"
            )
        if not self._is_film:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, SIZE[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, SIZE[1])
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1 <= rate <= 240 else 30.0
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        self._thread.join(LET_GO_S)
        if not self._thread.is_alive():  # otherwise it hangs in the driver, which would not let go either
            self._capture.release()

    @property
    def has_newer(self) -> bool:
        """Whether there is a frame that was not given yet."""
        return self._newest is not None

    def newest(self) -> Seen | None:
        """The newest frame that was not given yet, waited for; None when a film has ended.

        Raises `UserError` where the camera gives no more: it was unplugged, or does not answer.
        """
        with self._changed:
            came = self._changed.wait_for(lambda: self._newest or self._has_ended, PATIENCE)
            seen, self._newest = self._newest, None
        if seen:
            return seen
        if came and self._is_film:
            return None
        raise UserError(f"camera {self.name} gives no more frames: plug it in again, and start again")

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
                self._newest = Seen(self._upright(frame), time.monotonic())
                self._changed.notify()
            count += 1

    def _upright(self, frame: np.ndarray) -> Image:
        picture = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        return np.asarray(cv2.flip(picture, 1) if self._mirrored else picture, np.uint8)
