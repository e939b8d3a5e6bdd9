"""A portrait that follows a camera of this machine, without a browser."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from liveportrait.animation.options import DriveOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.report import pace
from liveportrait.apps.live.camera import Camera
from liveportrait.apps.live.follower import Follower
from liveportrait.apps.live.outputs import Output
from liveportrait.types import Image

REPORT_EVERY = 0.5  # s
LOOK_EVERY = 0.005  # s, whether there is a newer frame while pictures are made


@dataclass(frozen=True)
class Told:
    """What was seen of a run."""

    frames: int
    rate: float  # frames/s
    latency: float  # s from the camera's frame to the picture's outputs, a mean of the last ones
    face_found: bool

    def __str__(self) -> str:
        told = f"{self.frames} frames, {pace(self.rate)}, {1000 * self.latency:.0f} ms from camera to picture"
        return told if self.face_found else f"{told}; no face in sight: the portrait waits"


class LocalLoop:
    """Takes the camera's newest frame, moves the portrait, and hands the picture to the outputs, until told to end."""

    def __init__(self, portraits: Sequence[Portrait], options: DriveOptions, camera: Camera) -> None:
        self._portraits, self._camera = portraits, camera
        self._follower = Follower(portraits[0], options, camera.rate)
        self._frames, self._latency = 0, 0.0

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """What the keys of a window do: r, look straight and press; 1 to 9, the portraits."""
        chosen = {
            str(number): partial(self._follower.switch, portrait)
            for number, portrait in enumerate(self._portraits[:9], 1)
        }
        return {"r": self._follower.reset, **chosen}

    def run(
        self, outputs: Sequence[Output], goes_on: Callable[[], bool], tell: Callable[[Told], None]
    ) -> Told:
        """Go on while it may and a film lasts; `tell` is called now and then. Raises `UserError` for a lost camera."""
        told_at = 0.0
        coming: deque[tuple[Future[Image], float]] = deque()  # with the time of its frame
        try:
            while goes_on():
                if not coming or (self._camera.has_newer and len(coming) < self._follower.at_once):
                    if (seen := self._camera.newest()) is None:
                        break
                    coming.append((self._follower.begin(seen.picture), seen.time))
                if not wait((coming[0][0],), LOOK_EVERY).done:
                    continue
                made, taken = coming.popleft()
                picture = made.result()
                for output in outputs:
                    output(picture)
                self._frames += 1
                now = time.monotonic()
                self._latency += (now - taken - self._latency) / min(self._frames, 20)
                if now - told_at > REPORT_EVERY:
                    told_at = now
                    tell(self._told())
        finally:
            self._follower.close()
        return self._told()

    def _told(self) -> Told:
        return Told(self._frames, self._follower.rate, self._latency, self._follower.face_found)


@contextmanager
def until_told() -> Iterator[threading.Event]:
    """An event that Ctrl-C, or a request to end, sets: what is being recorded is finished. A second one interrupts."""
    event = threading.Event()
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, end)
    try:
        yield event
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
