"""Displacement of what should stay still (shoulders, background), and visibility of a pasted crop's border."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.crop import CropWindow
from liveportrait.face.paste import paste_mask
from liveportrait.metrics.faces import MESH_POINTS
from liveportrait.metrics.images import luma
from liveportrait.types import Array, Image

BORDER = 8  # the regions are the outer eighths of the crop
# Share of the crop's side by which the face's hull is dilated before it is excluded from the regions
FACE_GROWTH = 0.06


def displacement(source: Image, picture: Image, region: NDArray[np.bool_]) -> float:
    """Mean length of the optical flow from `source` to `picture` (S,S,3) in a region (S,S), in percent of S.

    Flow by dense inverse search (Kroeger et al. 2016). Pixels are weighted by the source's gradient: where a wall has
    no texture, nobody can say how far it moved. NaN for a region without any texture.
    """
    before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (source, picture))
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    dense = cv2.DISOpticalFlow.create(preset)
    flow = dense.calc(before, after, None)  # type: ignore[call-overload]
    weight = _texture(source) * region
    total = float(weight.sum())
    if total <= 0:
        return float("nan")
    return float((np.linalg.norm(flow, axis=-1) * weight).sum() / total / len(source) * 100)


def shoulder_region(side: int, faces: list[Array]) -> NDArray[np.bool_]:
    """Mask of neck and shoulders: the lowest eighth of a crop, without the faces (landmarks (478,3) px)."""
    region = np.zeros((side, side), bool)
    region[-(side // BORDER) :] = True
    return region & ~_face_mask(side, faces)


def background_region(side: int, faces: list[Array]) -> NDArray[np.bool_]:
    """Mask of the background: the left, right and top eighths of a crop above its lower third, without the faces."""
    width = side // BORDER
    region = np.zeros((side, side), bool)
    region[:width] = region[:, :width] = region[:, -width:] = True
    region[side * 2 // 3 :] = False
    return region & ~_face_mask(side, faces)


def _face_mask(side: int, faces: list[Array]) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), np.uint8)
    for landmarks in faces:
        hull = cv2.convexHull(np.round(landmarks[:MESH_POINTS, :2]).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, (1,))
    reach = max(round(side * FACE_GROWTH), 1)
    return cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0


def _texture(picture: Image) -> Array:
    grey = cv2.GaussianBlur(luma(picture), (0, 0), 1.0)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.hypot(across, down)


class Seam:
    """The soft border along which a crop is pasted into a picture; create it once per picture and window."""

    def __init__(self, original: Image, window: CropWindow) -> None:
        """`original` (H,W,3) is the picture before anything was pasted into it."""
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

    def energy(self, pasted: Image) -> float:
        """Mean |slope of luma across the seam| of a pasted picture (H,W,3), minus that of the original.

        In grey levels (of 255) per pixel of the picture, over the band in which the paste mask falls from 1 to 0, in
        the direction of that fall. 0 for an invisible seam, negative if it is smoother than the original; NaN if the
        window's border lies outside the picture.
        """
        return self._slope(pasted) - self._before

    def _slope(self, picture: Image) -> float:
        across, down = _gradient(luma(picture))
        slope = across[self._band] * self._across + down[self._band] * self._down
        return float(np.abs(slope).mean()) if slope.size else float("nan")


def _gradient(grey: Array) -> tuple[Array, Array]:
    """Central differences to the right and downward, per pixel."""
    down, across = np.gradient(grey)
    return np.asarray(across, np.float32), np.asarray(down, np.float32)
