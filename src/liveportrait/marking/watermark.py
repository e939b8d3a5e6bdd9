"""Embedding the watermark in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from liveportrait.marking.payload import Payload
from liveportrait.marking.tile import SIDE, square
from liveportrait.types import Array, Image

# Grey levels: the pattern's standard deviation in flat and in busy places
MIN_STRENGTH, MAX_STRENGTH = 1.1, 2.6
BUSY_GAIN = 0.12  # strength added per grey level of the neighbourhood's standard deviation
NEIGHBOURHOOD = 5  # px at half size: side of the neighbourhood
MAX_RMS = 1.85  # grey levels over the region: a PSNR of 42.8 dB


class Watermark:
    """Embeds the pattern of one payload in the generated regions of pictures.

    The pattern is anchored at the frame's upper left corner, so that all faces of a frame share it. One object serves
    one thread at a time.
    """

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self._square = square(payload)
        self._sheet = np.zeros((0, 0), np.float32)

    def embed(self, frame: Image, region: Image | None = None, corner: tuple[int, int] = (0, 0)) -> None:
        """Mark a part (h,w,3 or 4) uint8 of a frame, in place; `corner` is its row and column in the frame.

        `region` (h,w) uint8 is how much of each pixel was generated, 255 for all of it; where it is 0 nothing changes.
        """
        if not frame.size:
            return
        grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(frame[..., :3]), cv2.COLOR_RGB2GRAY), np.uint8)
        added = cv2.multiply(_strength(grey), self._pattern(grey.shape, corner))
        if region is not None:
            added = cv2.multiply(added, region, scale=1 / 255, dtype=cv2.CV_32F)
        planes = [added] * 3 + [np.zeros_like(added)] * (frame.shape[2] - 3)
        # OpenCV rounds and clips to 0..255.
        frame[:] = cv2.add(frame, cv2.merge(planes), dtype=cv2.CV_8U)

    def embed_all(self, frame: Image, regions: Sequence[tuple[tuple[slice, slice], Image]]) -> None:
        """Mark regions of a frame (H,W,3 or 4): rows and columns, and how much of each pixel there is generated.

        Where several overlap, the maximum counts.
        """
        if len(regions) > 1:
            union = np.zeros(frame.shape[:2], np.uint8)
            for place, region in regions:
                np.maximum(union[place], region, out=union[place])
            left, top, width, height = cv2.boundingRect(union)
            place = slice(top, top + height), slice(left, left + width)
            regions = [(place, union[place])]
        for place, region in regions:
            self.embed(frame[place], region, (place[0].start, place[1].start))

    def _pattern(self, shape: tuple[int, ...], corner: tuple[int, int]) -> Array:
        """The tiled pattern (h,w) from a corner of the frame on."""
        (row, column), (height, width) = (each % SIDE for each in corner), shape[:2]
        if row + height > self._sheet.shape[0] or column + width > self._sheet.shape[1]:
            times = [-(-(need + SIDE) // SIDE) for need in (height + row, width + column)]
            self._sheet = np.tile(self._square, times)
        return self._sheet[row : row + height, column : column + width]


def _strength(grey: Image) -> Array:
    """The strength of the pattern (h,w): busy places hide more of it. Computed at half size."""
    height, width = grey.shape
    half = (max(1, width // 2), max(1, height // 2))
    exact = cv2.resize(grey, half, interpolation=cv2.INTER_AREA).astype(np.float32)
    size = (NEIGHBOURHOOD, NEIGHBOURHOOD)
    mean = cv2.blur(exact, size)
    spread = np.sqrt(np.maximum(cv2.blur(exact * exact, size) - mean * mean, 0))
    strength = np.clip(MIN_STRENGTH + BUSY_GAIN * spread, MIN_STRENGTH, MAX_STRENGTH)
    strength *= min(1.0, MAX_RMS / float(np.sqrt(np.square(strength).mean())))
    return np.asarray(cv2.resize(strength, (width, height)), np.float32)
