"""Renders the frames of a live portrait: the source's frames in a loop, with its faces driven frame by frame."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction

from liveportrait.animation.compositor import Compositor, watermark_for
from liveportrait.animation.driver.base import DrivingBatch
from liveportrait.animation.options import DriveOptions
from liveportrait.animation.pipeline import Cue, render_faces
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.marking.payload import Work
from liveportrait.types import Image

# Side (px) at which crops are composed unless the options ask for more, to keep up with a camera
LIVE_SIDE = 512
AT_ONCE = 2  # frames rendered in parallel: more would not raise the rate, only the latency


class LiveStage:
    """Renders the frames of a source one after another. Use it from one thread only.

    Frames requested `ahead` are rendered in parallel, each with a share of the CPU cores: two finish sooner than one
    after the other with all cores, while a single one takes slightly longer.
    """

    def __init__(
        self, session: Session, source: Source, options: DriveOptions, fps: Fraction, work: Work = "live"
    ) -> None:
        self._session, self._source, self._options, self._fps = session, source, options, fps
        variant = session.engine.variant
        watermark = watermark_for(source, variant, options, work)
        self._compositor = Compositor(source, options, variant, LIVE_SIDE, watermark)
        self._composing = threading.Lock()
        self._pictures = self._played()
        self._pool: ThreadPoolExecutor | None = None
        self._ends = ExitStack()

    @property
    def at_once(self) -> int:
        """How many frames are rendered in parallel."""
        return self._started()[1]

    def show(self, transfers: Sequence[MotionTransfer], driving: DrivingBatch | None) -> Image:
        """The next frame (H,W,3) with each face moved by its transfer for one driving frame, or unmoved for None.

        With `alpha` (H,W,4).
        """
        return self._made(*next(self._pictures), transfers, driving)

    def ahead(self, transfers: Sequence[MotionTransfer], driving: DrivingBatch | None) -> Future[Image]:
        """The same, rendered in another thread."""
        pool, _ = self._started()
        return pool.submit(self._made, *next(self._pictures), transfers, driving)

    def skip(self) -> None:
        """Skip one frame."""
        next(self._pictures)

    def close(self) -> None:
        """Stop reading a video source; frames that are not begun are dropped."""
        self._ends.close()
        self._pictures.close()

    def _made(
        self, row: int, picture: Image, transfers: Sequence[MotionTransfer], driving: DrivingBatch | None
    ) -> Image:
        rendered = []
        if driving is not None:
            cue = Cue([row / float(self._fps)], driving, [row])
            for number, (own, poser) in enumerate(zip(self._source.faces, transfers, strict=True)):
                if own.shown(range(row, row + 1)):
                    view = own.view(self._session, [row], [picture])
                    follows = self._options.mask == "face"
                    rendered += render_faces(self._session, number, poser, view, cue, follows)
        with self._composing, self._session.clock.step("paste"):
            return self._compositor.compose(picture, rendered, row)

    def _started(self) -> tuple[ThreadPoolExecutor, int]:
        """The threads that render ahead, and their number."""
        if self._pool is None:
            workers = self._ends.enter_context(self._session.engine.workers(AT_ONCE))
            self._pool = ThreadPoolExecutor(workers.count, "live", initializer=workers.enter)
            self._count = workers.count
            self._ends.callback(self._pool.shutdown, cancel_futures=True)
        return self._pool, self._count

    def _played(self) -> Generator[tuple[int, Image], None, None]:
        """The source's frames with their numbers, in a loop."""
        while True:
            with self._source.frames(self._session) as frames:
                yield from enumerate(frames)
