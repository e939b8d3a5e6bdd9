"""A rendered face at any resolution: the source's own pixels looked up along the flow, and what is painted added.

W's flow does not care how large a picture is. Looked up in the frame itself, straight from pixels to pixels, the source
keeps all the detail that it has, and is interpolated once; what rests is not interpolated at all.
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

# What is almost still and almost kept is still and kept: from the first figure down, and as it is from the second on.
STILL = (0.04, 0.15)  # displacement, px of 256
KEPT = (0.03, 0.08)  # the painting's share
TILE = (64, 256)  # rows and columns that are composed at once, which stay in a processor's cache
REACH = 2  # cells beyond a moving one that enlarging lets it touch

Matrix = NDArray[np.float64]  # (2,3)
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FaceLayers:
    """`Layers` of one face in one frame, settled: where next to nothing happens, nothing does."""

    shift: Array  # (h,w,2) float32 where each place comes from less where it is, half sides of the crop, x then y
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
        """Of one row: shift (h,w,2), keep (1,S,S), paint (3,S,S)."""
        x, y = shift[..., 0], shift[..., 1]  # plane by plane: NumPy is ten times slower along an axis of two
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
        """(S,S) the cells that are not the source as it is, and those that enlarging them touches."""
        size = self.keep.shape[0]
        moves = cv2.resize(np.maximum(*map(np.abs, cv2.split(self.shift))), (size, size)) > 0
        changes = (moves | (self.keep < 1)).astype(np.uint8)
        return cv2.dilate(changes, np.ones((3, 3), np.uint8), iterations=REACH).astype(np.bool_)

    def painted(self) -> Image:
        """What is painted, (S,S,3), truncated as the published program does."""
        return self.paint.clip(0, 255).astype(np.uint8)

    def coloured(self, correction: Array) -> FaceLayers:
        """The layers with a correction (S,S,3) of colours, grey levels, as far as they are painted."""
        return FaceLayers(self.shift, self.keep, self.paint + (1 - self.keep[..., None]) * correction)


def compose_into(
    target: Image, source: Image, layers: FaceLayers, to_target: Matrix, origin: Sequence[int]
) -> None:
    """Compose a face into `target` (h,w,3), the part of the frame `source` (H,W,3) that begins at `origin` (x, y).

    `to_target` takes places in the crop, ±1 at its edges, to px of the target. What neither moves nor is painted is
    left alone: the target holds the source's pixels there already. The source's border continues outside.
    """
    height, width = target.shape[:2]
    shift = np.asarray(cv2.transform(layers.shift, to_target[:, :2]), np.float32)  # turned, and in px
    mixture = np.dstack([layers.paint, layers.keep])  # side by side for one look-up
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
    """The picture (C,C,3) of a crop (C,C,3) of the source, at any size; (S,S,3) where all is painted."""
    if layers.is_painted:
        return layers.painted()
    result = crop.copy()
    compose_into(result, crop, layers, centred(crop.shape[0]), (0, 0))
    return result


def centred(size: int) -> Matrix:
    """The matrix from places in a crop, ±1 at its edges, to px of the crop at `size` px."""
    return np.array([[size / 2, 0, (size - 1) / 2], [0, size / 2, (size - 1) / 2]])


def _enlarged(field: Array, to_target: Matrix, left: int, top: int, shape: Sequence[int]) -> Array:
    """The part of a field (h,w,c) over the crop that lies at a tile of the target."""
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
    """From 0 at `low` to 1 at `high`, smoothly."""
    t = ((value - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)
