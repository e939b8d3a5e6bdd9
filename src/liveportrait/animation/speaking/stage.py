"""What a live portrait is shown on: the source's frames, again and again, with its faces moved as asked each time."""

from __future__ import annotations

from collections.abc import Generator, Sequence
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

LIVE_SIDE = 512  # px, to which crops are composed unless the options say more: a camera does not wait


class LiveStage:
    """Gives one frame of a source at a time. It belongs to one thread."""

    def __init__(
        self, session: Session, source: Source, options: DriveOptions, fps: Fraction, work: Work = "live"
    ) -> None:
        self._session, self._source, self._options, self._fps = session, source, options, fps
        variant = session.engine.variant
        watermark = watermark_for(source, variant, options, work)
        self._compositor = Compositor(source, options, variant, LIVE_SIDE, watermark)
        self._pictures = self._played()

    def show(self, transfers: Sequence[MotionTransfer], driving: DrivingBatch | None) -> Image:
        """The next frame (H,W,3) with each face moved by its transfer, as one frame of a driver says; with None still.

        With `alpha` (H,W,4).
        """
        row, picture = next(self._pictures)
        rendered = []
        if driving is not None:
            cue = Cue([row / float(self._fps)], driving, [row])
            for number, (own, poser) in enumerate(zip(self._source.faces, transfers, strict=True)):
                if own.shown(range(row, row + 1)):
                    view = own.view(self._session, [row], [picture])
                    follows = self._options.mask == "face"
                    rendered += render_faces(self._session, number, poser, view, cue, follows)
        with self._session.clock.step("paste"):
            return self._compositor.compose(picture, rendered)

    def skip(self) -> None:
        """Let one frame go by."""
        next(self._pictures)

    def close(self) -> None:
        """Stop reading a video source."""
        self._pictures.close()

    def _played(self) -> Generator[tuple[int, Image], None, None]:
        """The source's frames with their numbers, again and again."""
        while True:
            with self._source.frames(self._session) as frames:
                yield from enumerate(frames)
