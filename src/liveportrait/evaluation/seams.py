"""How visible the border of a pasted crop is."""

from __future__ import annotations

import cv2
import numpy as np

from liveportrait.evaluation.pictures import Array, Picture, luma
from liveportrait.face.crop import CropWindow
from liveportrait.face.paste import paste_mask


class Seam:
    """The soft border along which a crop was pasted into a picture. Made once for a picture and a window."""

    def __init__(self, original: Picture, window: CropWindow) -> None:
        """`original` (H,W,3): the picture before anything was pasted into it."""
        height, width = original.shape[:2]
        mask = cv2.warpAffine(
            paste_mask(window.size), window.inverse().astype(np.float64), (width, height)
        ).astype(np.float32)
        across, down = _gradient(mask)
        steepness = np.hypot(across, down)
        self._band = steepness > 1e-3
        self._across = across[self._band] / steepness[self._band]
        self._down = down[self._band] / steepness[self._band]
        self._before = self._slope(original)

    def energy(self, pasted: Picture) -> float:
        """Mean |slope of luma across the seam| of a pasted picture (H,W,3), less that of the original.

        Grey levels (of 255) a pixel of the picture, over the band in which the paste mask falls from 1 to 0, along
        that fall. 0 for an invisible seam, negative where it is smoother than the picture was; NaN where the window's
        border lies outside the picture.
        """
        return self._slope(pasted) - self._before

    def _slope(self, picture: Picture) -> float:
        across, down = _gradient(luma(picture))
        slope = across[self._band] * self._across + down[self._band] * self._down
        return float(np.abs(slope).mean()) if slope.size else float("nan")


def _gradient(grey: Array) -> tuple[Array, Array]:
    """Central differences to the right and downward, a pixel."""
    down, across = np.gradient(grey)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)
