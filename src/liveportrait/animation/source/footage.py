"""The frames of a source video, at the size they are worked on, as often as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from liveportrait.animation.session import Session
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.types import Image


@dataclass(frozen=True, eq=False)
class SourceVideo:
    """A video that is read several times; every pass gives the same frames."""

    reader: VideoReader | FrameArrays
    limit: int | None  # longest side, px

    @property
    def name(self) -> str:
        """For messages."""
        return self.reader.name

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frames, px: the video's own unless it is larger than the limit."""
        info = self.reader.info
        longer = max(info.height, info.width)
        if not self.limit or longer <= self.limit:
            return info.height, info.width
        height, width = (
            max(2, round(side * self.limit / longer / 2) * 2) for side in (info.height, info.width)
        )
        return height, width

    @contextmanager
    def frames(self, session: Session) -> Iterator[Iterator[Image]]:
        """The frames (H,W,3) RGB from the first on, decoded ahead."""
        with (
            closing(iter(self.reader)) as decoded,
            session.read_ahead(session.clock.each("decode", self._sized(decoded))) as frames,
        ):
            yield frames

    def _sized(self, frames: Iterator[Image]) -> Iterator[Image]:
        height, width = self.shape
        for frame in frames:
            if frame.shape[:2] != (height, width):
                frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
            yield frame
