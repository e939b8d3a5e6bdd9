"""A rendered face at any resolution: the source's own pixels warped along the flow, plus what the network paints.

W's flow does not depend on the picture's size. Sampled directly from the frame, the source keeps all its detail and is
interpolated once; what does not move is not interpolated at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.networks.geometry import pixel_grid
from liveportrait.networks.interface import HALF_SIDE, Layers
from liveportrait.types import Array, Image

# Almost still counts as still, and almost kept as kept: below the first value it is set to zero, above the second it is
# left as it is.
STILL = (0.04, 0.15)  # displacement, px of 256
KEPT = (0.03, 0.08)  # the share of the painting
TILE = (64, 256)  # rows and columns composed at once: they fit in a processor's cache
REACH = 2  # how many cells a moving cell can spread to when the layers are enlarged

Matrix = NDArray[np.float64]  # (2,3)
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FaceLayers:
    """`Layers` of one face in one frame, with negligible motion and paint set to zero."""

    shift: Array  # (h,w,2) float32 where each place comes from minus where it is, half sides of the crop, x then y
    keep: Array  # (S,S) float32 weight of the source's own pixels; (1,1) zero where all is painted
    paint: Array  # (S,S,3) float32 what is added, RGB, in grey levels

    @classmethod
    def of(cls, layers: Layers) -> list[Self]:
        """One for each row of a batch."""
        flow, keep, paint = (part.cpu() for part in layers)
        shift = flow - pixel_grid(flow.shape[1], flow.shape[2], flow.device)
        return [
            cls._settled(*(part.numpy() for part in parts)) for parts in zip(shift, keep, paint, strict=True)
        ]

    @classmethod
    def _settled(cls, shift: Array, keep: Array, paint: Array) -> Self:
        """From one row of a batch: shift (h,w,2), keep (1,S,S), paint (3,S,S)."""
        # Plane by plane: NumPy is ten times slower along an axis of length 2
        x, y = shift[..., 0], shift[..., 1]
        moves = _rising(np.sqrt(x * x + y * y) * HALF_SIDE, *STILL)
        rest = 1 - keep[0]
        follows = _rising(rest, *KEPT)
        colours = [plane * follows for plane in paint * np.float32(255)]
        both, painted = (
            np.asarray(cv2.merge(parts), np.float32) for parts in ([x * moves, y * moves], colours)
        )
        return cls(both, 1 - rest * follows, painted)

    @property
    def is_painted(self) -> bool:
        """Whether nothing of the source is kept: the picture has the networks' own resolution."""
        return self.keep.size == 1

    @cached_property
    def busy(self) -> Mask:
        """(S,S) cells that differ from the source, and those that enlarging makes them spread to."""
        size = self.keep.shape[0]
        moves = cv2.resize(np.maximum(*map(np.abs, cv2.split(self.shift))), (size, size)) > 0
        changes = (moves | (self.keep < 1)).astype(np.uint8)
        return cv2.dilate(changes, np.ones((3, 3), np.uint8), iterations=REACH).astype(np.bool_)

    def painted(self) -> Image:
        """The paint (S,S,3), truncated as the published program does."""
        return self.paint.clip(0, 255).astype(np.uint8)

    def coloured(self, correction: Array) -> FaceLayers:
        """The layers with a colour correction (S,S,3), grey levels, applied in proportion to what is painted."""
        return FaceLayers(self.shift, self.keep, self.paint + (1 - self.keep[..., None]) * correction)


def compose_into(
    target: Image, source: Image, layers: FaceLayers, to_target: Matrix, origin: Sequence[int]
) -> None:
    """Compose a face into `target` (h,w,3), the part of the frame `source` (H,W,3) that begins at `origin` (x, y).

    `to_target` maps places in the crop, ±1 at its edges, to px of the target. What neither moves nor is painted is left
    alone: the target already holds the source's pixels there. Outside the source its border pixels repeat.
    """
    height, width = target.shape[:2]
    shift = np.asarray(cv2.transform(layers.shift, to_target[:, :2]), np.float32)  # rotated, in px
    mixture = np.dstack([layers.paint, layers.keep])  # stacked, to be warped in one call
    to_crop = np.asarray(cv2.invertAffineTransform(to_target), np.float64)
    for top in range(0, height, TILE[0]):
        for left in range(0, width, TILE[1]):
            tile = target[top : top + TILE[0], left : left + TILE[1]]
            if not _is_touched(layers.busy, to_crop, left, top, tile.shape):
                continue
            x, y = cv2.split(_enlarged(shift, to_target, left, top, tile.shape))
            x += np.arange(tile.shape[1], dtype=np.float32) + (origin[0] + left)
            y += np.arange(tile.shape[0], dtype=np.float32)[:, None] + (origin[1] + top)
            seen = cv2.remap(source, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            mixed = _enlarged(mixture, to_target, left, top, tile.shape)
            keep = cv2.extractChannel(mixed, 3)
            kept = cv2.multiply(seen, cv2.merge([keep, keep, keep]), dtype=cv2.CV_32F)
            tile[:] = cv2.add(kept, cv2.cvtColor(mixed, cv2.COLOR_RGBA2RGB), dtype=cv2.CV_8U)


def composed(crop: Image, layers: FaceLayers) -> Image:
    """A crop (C,C,3) of the source, of any size, with its face composed; (S,S,3) where everything is painted."""
    if layers.is_painted:
        return layers.painted()
    result = crop.copy()
    compose_into(result, crop, layers, centred(crop.shape[0]), (0, 0))
    return result


def centred(size: int) -> Matrix:
    """The matrix from places in a crop, ±1 at its edges, to px of the crop at `size` px."""
    return np.array([[size / 2, 0, (size - 1) / 2], [0, size / 2, (size - 1) / 2]])


def _enlarged(field: Array, to_target: Matrix, left: int, top: int, shape: Sequence[int]) -> Array:
    """The part of a field (h,w,c) over the crop that falls on a tile of the target."""
    height, width = field.shape[:2]
    matrix = to_target.copy()  # from px of the field: place = (2 px + 1) / side - 1
    matrix[:, 2] += to_target[:, :2] @ (1 / width - 1, 1 / height - 1) - (left, top)
    matrix[:, :2] *= (2 / width, 2 / height)
    size = (shape[1], shape[0])
    return np.asarray(cv2.warpAffine(field, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _is_touched(busy: Mask, to_crop: Matrix, left: int, top: int, shape: Sequence[int]) -> bool:
    """Whether a tile of the target shows a busy cell of the crop."""
    ends = [(x, y, 1) for x in (left, left + shape[1]) for y in (top, top + shape[0])]
    places = (np.array(ends) @ to_crop.T + 1) / 2 * busy.shape[0]
    low, high = places.min(axis=0), places.max(axis=0) + 1
    (x, y), (right, bottom) = low.clip(0).astype(int), high.clip(0).astype(int)
    return bool(busy[y:bottom, x:right].any())


def _rising(value: Array, low: float, high: float) -> Array:
    """Smoothstep: from 0 at `low` to 1 at `high`."""
    t = ((value - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
