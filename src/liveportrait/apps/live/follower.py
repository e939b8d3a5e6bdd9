"""A portrait that follows a camera, and can be switched for another while it does."""

from __future__ import annotations

import time
from concurrent.futures import Future

from liveportrait.animation.live import Live
from liveportrait.animation.options import DriveOptions
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.report import StageTime
from liveportrait.animation.session import Session
from liveportrait.errors import UserError
from liveportrait.types import Image

MAX_GAP_S = 1.0  # between frames; a longer gap was a pause, and does not count towards the rate


class Follower:
    """A camera's frames in, a portrait's frames out. Use it from one thread.

    Another portrait, or other options, continue from the same start frame: nobody has to look straight ahead again.
    A camera that changes its size (a phone that is turned) restarts motion.
    """

    def __init__(self, portrait: Portrait, options: DriveOptions | None = None, rate: float = 25.0) -> None:
        """`rate`: expected frames/s, until it has been measured. Raises `UserError`."""
        self._rate, self._last_call = rate, 0.0
        self._start: Image | None = None  # the camera's frame that motion starts from
        self._shape: tuple[int, ...] | None = None
        self._portrait, self._options = portrait, options or DriveOptions()
        self._session, self._live = self._begin_live(portrait, self._options)
        self._before = self._spent()
        self.stages: dict[str, StageTime] = {}
        """time per stage since the frame before the last one, summed over frames rendered in parallel"""

    @property
    def face_found(self) -> bool:
        """Whether the last frame showed a face."""
        return self._live.face_found

    @property
    def has_started(self) -> bool:
        """Whether a face has been seen since the last reset; motion is relative to that frame."""
        return self._start is not None

    @property
    def portrait(self) -> Portrait:
        """The portrait whose frames come out."""
        return self._portrait

    @property
    def rate(self) -> float:
        """Frames/s, a moving average."""
        return self._rate

    def __call__(self, frame: Image) -> Image:
        """The portrait's frame for a frame of the camera, both (H,W,3) uint8 RGB. Raises `UserError`."""
        self._before_frame(frame)
        picture = self._live(frame)
        self._after_frame(frame)
        self.measure()
        return picture

    @property
    def at_once(self) -> int:
        """How many frames are rendered in parallel."""
        return self._live.at_once

    def begin(self, frame: Image) -> Future[Image]:
        """The same, rendered in another thread. Call `measure` when it is done."""
        self._before_frame(frame)
        picture = self._live.begin(frame)
        self._after_frame(frame)
        return picture

    def measure(self) -> None:
        """Update `stages` after a frame."""
        spent = self._spent()
        self.stages = {name: _difference(each, self._before[name]) for name, each in spent.items()}
        self._before = spent

    def _before_frame(self, frame: Image) -> None:
        self._measure_rate()
        if self._shape not in (None, frame.shape):
            self.reset()
        self._shape = frame.shape

    def _after_frame(self, frame: Image) -> None:
        if self._start is None and self._live.face_found:
            self._start = frame

    def reset(self) -> None:
        """Restart motion from the next frame that shows a face."""
        self._start = None
        self._restart(self._portrait, self._options)

    def switch(self, portrait: Portrait) -> None:
        """Switch to another portrait. Raises `UserError` if the options do not suit it, and keeps the old one."""
        self._restart(portrait, self._options)

    def change(self, options: DriveOptions) -> None:
        """Switch to other options. Raises `UserError` if they do not suit the portrait, and keeps the old ones."""
        self._restart(self._portrait, options)

    def close(self) -> None:
        """Stop accepting frames."""
        self._live.close()

    def _restart(self, portrait: Portrait, options: DriveOptions) -> None:
        session, live = self._begin_live(portrait, options)
        if self._start is not None:
            live(self._start)
        self._live.close()
        self._portrait, self._options = portrait, options
        self._session, self._live = session, live
        self._before = self._spent()

    def _begin_live(self, portrait: Portrait, options: DriveOptions) -> tuple[Session, Live]:
        if options.alpha:
            raise UserError("live pictures have no transparency: leave out alpha")
        session = portrait.session()
        return session, portrait.live_with(session, options, self._rate)

    def _spent(self) -> dict[str, StageTime]:
        return dict(self._session.clock.profile(0).stages)

    def _measure_rate(self) -> None:
        """Smoothing depends on the rate; it is this machine's, if slower than the camera's."""
        now = time.monotonic()
        gap, self._last_call = now - self._last_call, now
        if 0 < gap < MAX_GAP_S:
            self._rate += 0.1 * (min(1 / gap, 120.0) - self._rate)


def _difference(spent: StageTime, before: StageTime) -> StageTime:
    return StageTime(spent.busy - before.busy, spent.cpu - before.cpu)
