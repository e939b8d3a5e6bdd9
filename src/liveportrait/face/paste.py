"""Puts a generated crop back into the frame it was cut from, with the published soft-edged mask or another."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.crop import CropWindow
from liveportrait.face.runtime import Image

EDGE = 32  # the soft edge is this part of the crop's side: 16 px of 512


def paste_mask(size: int = 512) -> Image:
    """Mask (size,size) uint8 of a crop: floor(255 · clip(1 − d/e, 0, 1)), edge width e = size/32 px.

    d is the distance from the pixel (whole-number coordinates) to the square [e, size − e]².
    """
    edge = size / EDGE
    along = np.arange(size, dtype=np.float64)
    outside = np.maximum(np.maximum(edge - along, along - (size - edge)), 0)
    distance = np.hypot(outside[:, None], outside[None, :])
    return np.floor(255 * (1 - distance / edge).clip(0, 1)).astype(np.uint8)


class Paster:
    """Pastes into frames of one size through one window. Mask and place are worked out once.

    Only the pixels of the window's bounding box are computed; all others come from the frame as they are.
    Nothing changes after construction: one object may serve several threads.
    """

    def __init__(self, window: CropWindow, frame_shape: tuple[int, ...], mask: Image | None = None) -> None:
        """`frame_shape` begins with the height and width of the frames, px.

        `mask` (M,M) uint8 covers the crop, of any size; the published one by default.
        """
        self._shape = frame_shape[:2]
        self._size = window.size
        to_frame = window.inverse().astype(np.float64)
        ends = [-1, window.size]
        corners = to_frame @ np.array([[x, y, 1] for x in ends for y in ends], np.float64).T
        bounds = np.array(self._shape[::-1])
        low = np.floor(corners.min(axis=1)).clip(0, bounds).astype(int)
        high = (np.ceil(corners.max(axis=1)) + 1).clip(0, bounds).astype(int)
        self._place = slice(low[1], high[1]), slice(low[0], high[0])
        self._extent = tuple(int(side) for side in high - low)  # width, height
        self._to_box = to_frame - np.array([[0, 0, low[0]], [0, 0, low[1]]])
        if self._visible:
            cover = paste_mask(window.size) if mask is None else mask
            mask = np.asarray(
                cv2.warpAffine(cover, self._scaled_to_box(cover.shape[0]), self._extent), np.uint8
            )
            # Seven eighths of a window have a full mask: copied, which is much faster than blended.
            self._full = (mask == 255).astype(np.uint8)
            self._edge = np.nonzero((mask > 0) & (mask < 255))
            self._weight = mask[self._edge][:, None].astype(np.float32) / 255

    @property
    def _visible(self) -> bool:
        return min(self._extent) > 0

    def paste(self, generated: Image, frame: Image) -> Image:
        """A copy of `frame` (H,W,3) with `generated` (S,S,3) in its window, both RGB uint8.

        Bilinear; mask · generated + (1 − mask) · frame, truncated.

        S need not be the window's size: the picture's pixel p then covers the window's px from p·k to (p+1)·k
        with k = size/S, so its centre lies at (p + ½)·k − ½.
        """
        result = frame.copy()
        self.paste_onto(result, generated)
        return result

    def paste_onto(self, frame: Image, generated: Image) -> None:
        """`paste` into the frame itself. Where that is (H,W,4) RGBA, the face is laid over it as a layer."""
        if frame.shape[:2] != self._shape:
            raise ValueError(f"This paster was made for frames of {self._shape}, not {frame.shape[:2]}.")
        if not self._visible:
            return
        to_box = self._scaled_to_box(generated.shape[0])
        placed = np.asarray(cv2.warpAffine(generated, to_box, self._extent), np.uint8)
        box = frame[self._place]
        if frame.shape[2] == 4:
            self._lay_over(box, placed)
            return
        cv2.copyTo(placed, self._full, box)
        blended = self._weight * placed[self._edge] + (1 - self._weight) * box[self._edge]
        box[self._edge] = blended.clip(0, 255).astype(np.uint8)

    def _lay_over(self, box: Image, placed: Image) -> None:
        """The same on RGBA, alpha not premultiplied ("over" of Porter and Duff, 1984)."""
        opaque = np.concatenate([placed, np.full_like(placed[..., :1], 255)], axis=2)
        cv2.copyTo(opaque, self._full, box)
        below = box[self._edge].astype(np.float32)
        share = below[:, 3:] / 255 * (1 - self._weight)
        alpha = self._weight + share
        colour = (self._weight * placed[self._edge] + share * below[:, :3]) / alpha
        box[self._edge] = np.rint(np.concatenate([colour, alpha * 255], axis=1)).astype(np.uint8)

    def _scaled_to_box(self, size: int) -> NDArray[np.float64]:
        """Matrix from px of a picture of the crop with `size` px to px of the box."""
        ratio = self._size / size
        to_box = self._to_box.copy()
        to_box[:, 2] += to_box[:, :2].sum(axis=1) * (ratio - 1) / 2
        to_box[:, :2] *= ratio
        return to_box


def paste_back(generated: Image, window: CropWindow, original: Image) -> Image:
    """`Paster.paste` for a single picture."""
    return Paster(window, original.shape).paste(generated, original)
