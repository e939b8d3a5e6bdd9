"""A portrait that follows a local camera, without a browser."""

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

REPORT_INTERVAL_S = 0.5
POLL_S = 0.005  # how often to look for a newer frame while pictures are rendered


@dataclass(frozen=True)
class Stats:
    """The figures of a run."""

    frames: int
    rate: float  # frames/s
    latency: float  # s from the camera's frame to the outputs, a moving average
    face_found: bool

    def __str__(self) -> str:
        text = f"{self.frames} frames, {pace(self.rate)}, {1000 * self.latency:.0f} ms from camera to picture"
        return text if self.face_found else f"{text}; no face in sight: the portrait waits"


class LocalLoop:
    """Reads the camera's newest frame, moves the portrait, and sends the picture to the outputs, until stopped."""

    def __init__(self, portraits: Sequence[Portrait], options: DriveOptions, camera: Camera) -> None:
        self._portraits, self._camera = portraits, camera
        self._follower = Follower(portraits[0], options, camera.rate)
        self._frames, self._latency = 0, 0.0

    @property
    def keys(self) -> dict[str, Callable[[], None]]:
        """What a window's keys do: r, reset while looking straight ahead; 1 to 9, switch portraits."""
        chosen = {
            str(number): partial(self._follower.switch, portrait)
            for number, portrait in enumerate(self._portraits[:9], 1)
        }
        return {"r": self._follower.reset, **chosen}

    def run(
        self, outputs: Sequence[Output], keep_going: Callable[[], bool], report: Callable[[Stats], None]
    ) -> Stats:
        """Run until `keep_going` is false or a video file ends; `report` is called regularly.

        Raises `UserError` if the camera is lost.
        """
        reported_at = 0.0
        pending: deque[tuple[Future[Image], float]] = deque()  # with the time of its frame
        try:
            while keep_going():
                if not pending or (self._camera.has_newer and len(pending) < self._follower.at_once):
                    if (seen := self._camera.newest()) is None:
                        break
                    pending.append((self._follower.begin(seen.picture), seen.time))
                if not wait((pending[0][0],), POLL_S).done:
                    continue
                made, taken = pending.popleft()
                picture = made.result()
                for output in outputs:
                    output(picture)
                self._frames += 1
                now = time.monotonic()
                self._latency += (now - taken - self._latency) / min(self._frames, 20)
                if now - reported_at > REPORT_INTERVAL_S:
                    reported_at = now
                    report(self._stats())
        finally:
            self._follower.close()
        return self._stats()

    def _stats(self) -> Stats:
        return Stats(self._frames, self._follower.rate, self._latency, self._follower.face_found)


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """An event set by the first SIGINT or SIGTERM, so that a recording can be finished; a second signal interrupts."""
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
