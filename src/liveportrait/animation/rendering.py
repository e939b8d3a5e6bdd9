"""One result in the making: an iterator of frames that knows how many there are and how fast they follow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import TracebackType

from liveportrait.animation.driver.base import PHOTO_FPS
from liveportrait.animation.driver.timing import TimedDriver
from liveportrait.animation.options import PasteOptions
from liveportrait.animation.output.compositor import Compositor, RenderedFace
from liveportrait.animation.pipeline import DrivenFace, render
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import Source
from liveportrait.errors import UserError
from liveportrait.types import Image


class Rendering:
    """The frames (H,W,3) uint8 RGB of one result in order, made as they are asked for; with `alpha` (H,W,4).

    Memory does not grow with their number. Leaving it early, by `close` or the end of a `with` block, stops its
    threads. It belongs to one thread.
    """

    def __init__(
        self,
        session: Session,
        source: Source,
        faces: Sequence[DrivenFace],
        drivers: Sequence[TimedDriver],
        paste: PasteOptions,
    ) -> None:
        """Without a moving source or driver the result is one frame. Raises `UserError` where nothing can be shown."""
        if len(source.faces) > 1 and not paste.paste_back:
            raise UserError(
                f"{len(source.faces)} faces cannot be written as one crop: leave out --no-paste-back"
            )
        self.session, self.source, self.drivers, self.paste = session, source, drivers, paste
        moving = [each.driver for each in drivers if not each.driver.is_photo]
        self.fps = source.fps or next((each.fps for each in moving), PHOTO_FPS)
        self.lengths = [math.ceil(each.frames * self.fps / each.fps) for each in moving]
        """frames that each moving driver lasts for at the rate of the result"""
        self.total = min([*self.lengths, *([source.count] if source.count else [])], default=1)
        """how many frames there will be, as far as the files tell the truth"""
        self.compositor = Compositor(source, paste, session.engine.variant)
        is_still = not self.lengths and source.count is None
        self._rendered = render(
            session,
            source,
            faces,
            drivers,
            self.fps,
            self.total,
            1 if is_still else None,
            paste.mask == "face",
        )

    def __iter__(self) -> Iterator[Image]:
        return self

    def __next__(self) -> Image:
        frame, faces = next(self._rendered)
        with self.session.clock.step("paste"):
            return self.compositor.compose(frame, faces)

    def uncomposed(self) -> Iterator[tuple[Image, list[RenderedFace]]]:
        """The frames of the source with the faces that are still to be laid into them by `compositor`."""
        return self._rendered

    def close(self) -> None:
        """Stop. What was not asked for is not made."""
        self._rendered.close()

    def __enter__(self) -> Rendering:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
