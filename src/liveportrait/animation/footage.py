"""The frames of a source video, at the size they are worked on, as often as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.profile import Stopwatch
from liveportrait.animation.streams import read_ahead
from liveportrait.media import VideoReader

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Footage:
    """A video that is read several times; every pass gives the same frames."""

    reader: VideoReader
    clock: Stopwatch
    limit: int | None  # longest side, px

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.reader.path)

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
    def open(self) -> Iterator[Iterator[Image]]:
        """The frames (H,W,3) RGB from the first on, decoded ahead."""
        with self.reader, read_ahead(self.clock.each("decode", self._frames())) as frames:
            yield frames

    def _frames(self) -> Iterator[Image]:
        height, width = self.shape
        for frame in self.reader:
            if frame.shape[:2] != (height, width):
                frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
            yield frame
