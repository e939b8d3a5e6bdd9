"""A portrait that follows a camera, and may be exchanged for another while it does."""

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

LONGEST_GAP = 1.0  # s between frames; a longer one was a pause, and says nothing of the rate


class Follower:
    """Frames of a camera in, frames of a portrait out. It belongs to one thread.

    Another portrait, or other options, go on from the look that motion started from: nobody has to look straight
    ahead again. A camera that changes its size (a phone that is turned) starts anew.
    """

    def __init__(self, portrait: Portrait, options: DriveOptions | None = None, rate: float = 25.0) -> None:
        """`rate`: frames/s that will be asked for; it is measured as they come. Raises `UserError`."""
        self._rate, self._last_call = rate, 0.0
        self._start: Image | None = None  # the camera's frame that motion starts from
        self._shape: tuple[int, ...] | None = None
        self._portrait, self._options = portrait, options or DriveOptions()
        self._session, self._live = self._begun(portrait, self._options)
        self._before = self._spent()
        self.stages: dict[str, StageTime] = {}
        """what each stage took since the frame before the last one; of frames side by side, of all of them"""

    @property
    def face_found(self) -> bool:
        """Whether the last frame showed a face."""
        return self._live.face_found

    @property
    def has_started(self) -> bool:
        """Whether a face was seen since the start: motion goes by how it looked."""
        return self._start is not None

    @property
    def portrait(self) -> Portrait:
        """Whose frames come out."""
        return self._portrait

    @property
    def rate(self) -> float:
        """Frames/s, a mean over the last ones."""
        return self._rate

    def __call__(self, frame: Image) -> Image:
        """The portrait's next frame for one of the camera, (H,W,3) uint8 RGB each. Raises `UserError`."""
        self._see(frame)
        picture = self._live(frame)
        self._note(frame)
        self.measure()
        return picture

    @property
    def at_once(self) -> int:
        """How many frames are made side by side."""
        return self._live.at_once

    def begin(self, frame: Image) -> Future[Image]:
        """The same, made by another thread. `measure` when it is done."""
        self._see(frame)
        picture = self._live.begin(frame)
        self._note(frame)
        return picture

    def measure(self) -> None:
        """Take down what was spent on the last frame."""
        spent = self._spent()
        self.stages = {name: _less(each, self._before[name]) for name, each in spent.items()}
        self._before = spent

    def _see(self, frame: Image) -> None:
        self._measure_rate()
        if self._shape not in (None, frame.shape):
            self.reset()
        self._shape = frame.shape

    def _note(self, frame: Image) -> None:
        if self._start is None and self._live.face_found:
            self._start = frame

    def reset(self) -> None:
        """Start anew from the next frame that shows a face."""
        self._start = None
        self._exchange(self._portrait, self._options)

    def switch(self, portrait: Portrait) -> None:
        """Go on with another portrait. Raises `UserError` where the options do not suit it, and keeps the old one."""
        self._exchange(portrait, self._options)

    def change(self, options: DriveOptions) -> None:
        """Go on with other options. Raises `UserError` where they do not suit the portrait, and keeps the old ones."""
        self._exchange(self._portrait, options)

    def close(self) -> None:
        """Take no frames any more."""
        self._live.close()

    def _exchange(self, portrait: Portrait, options: DriveOptions) -> None:
        session, live = self._begun(portrait, options)
        if self._start is not None:
            live(self._start)
        self._live.close()
        self._portrait, self._options = portrait, options
        self._session, self._live = session, live
        self._before = self._spent()

    def _begun(self, portrait: Portrait, options: DriveOptions) -> tuple[Session, Live]:
        if options.alpha:
            raise UserError("live pictures have no transparency: leave out alpha")
        session = portrait.session()
        return session, portrait.live_with(session, options, self._rate)

    def _spent(self) -> dict[str, StageTime]:
        return dict(self._session.clock.profile(0).stages)

    def _measure_rate(self) -> None:
        """Smoothing goes by the rate, which is the machine's own where that is slower than the camera."""
        now = time.monotonic()
        gap, self._last_call = now - self._last_call, now
        if 0 < gap < LONGEST_GAP:
            self._rate += 0.1 * (min(1 / gap, 120.0) - self._rate)


def _less(spent: StageTime, before: StageTime) -> StageTime:
    return StageTime(spent.busy - before.busy, spent.cpu - before.cpu)
