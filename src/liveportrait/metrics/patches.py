"""Aligned patches of the mouth and the eyes, and metrics on them.

Metrics of entire pictures hardly notice them: a mouth is a sixteenth of a crop. A patch is placed by landmarks and
turns and scales with the head, so that a result and its target, both cut by the target's landmarks, coincide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face import canonical as mesh
from liveportrait.face.measures import upright_patch
from liveportrait.metrics.faces import MESH_POINTS
from liveportrait.metrics.images import luma
from liveportrait.motion.lifting import INNER_LIPS_MESH, LEFT_EYE_MESH, RIGHT_EYE_MESH
from liveportrait.types import Array, Image

MIN_PX = 12  # pixels inside a mouth; with fewer, its colour is that of the lips


class PatchSize(NamedTuple):
    """The size of a patch, and of what it shows."""

    width: int  # px
    height: int
    half_width: float  # cm of the canonical face
    reach: int  # px by which the outline of the opening is dilated to the region to measure


MOUTH = PatchSize(80, 64, 5.0, reach=4)  # twice as wide as a mouth
EYE = PatchSize(64, 48, 2.6, reach=3)


@dataclass(frozen=True, eq=False)
class Patch:
    """The position of a patch in one picture."""

    matrix: Array  # (2,3): px of the picture -> px of the patch
    size: PatchSize
    region: NDArray[np.bool_]  # (height,width): between the lips or lids, plus a margin

    def cut(self, picture: Image) -> Image:
        """The patch (height,width,3) cut from a picture (H,W,3); beyond the picture its edges repeat."""
        shape = (self.size.width, self.size.height)
        return np.asarray(cv2.warpAffine(picture, self.matrix, shape, borderMode=cv2.BORDER_REPLICATE))


def mouth_patch(landmarks: Array) -> Patch:
    """The patch around the mouth of a face with landmarks (478,3) px."""
    return _patch(landmarks, (*mesh.MOUTH_CORNERS, 0, 17), INNER_LIPS_MESH, MOUTH)


def eye_patches(landmarks: Array) -> tuple[Patch, Patch]:
    """The patches around the subject's right eye and left eye."""
    return (
        _patch(landmarks, mesh.RIGHT_EYE_CORNERS, RIGHT_EYE_MESH, EYE),
        _patch(landmarks, mesh.LEFT_EYE_CORNERS, LEFT_EYE_MESH, EYE),
    )


def _patch(landmarks: Array, middle: tuple[int, ...], inside: tuple[int, ...], size: PatchSize) -> Patch:
    around = landmarks[list(middle), :2].mean(0)
    matrix = upright_patch(landmarks, around, size.half_width, size.width, size.height)
    outline = landmarks[list(inside), :2] @ matrix[:, :2].T + matrix[:, 2]
    region = np.zeros((size.height, size.width), np.uint8)
    cv2.fillPoly(region, [np.round(outline).astype(np.int32)], (1,))
    kernel = np.ones((2 * size.reach + 1,) * 2, np.uint8)
    return Patch(matrix, size, cv2.dilate(region, kernel) > 0)


def detail_energy(picture: Image, region: NDArray[np.bool_]) -> float:
    """Mean squared Laplacian of luma over a region (H,W) of a picture (H,W,3); NaN if the region is empty."""
    energy = cv2.Laplacian(luma(picture), cv2.CV_32F, borderType=cv2.BORDER_REPLICATE) ** 2
    return float(energy[region].mean()) if region.any() else float("nan")


def change(before: Image, after: Image, region: NDArray[np.bool_]) -> float:
    """Mean absolute difference of two pictures (H,W,3) over a region (H,W), grey levels; NaN if it is empty."""
    gap = np.abs(after.astype(np.float32) - before)
    return float(gap[region].mean()) if region.any() else float("nan")


def mouth_saturation(picture: Image, landmarks: Array) -> float:
    """Mean of max − min over the channels, in levels of 255, between the lips; NaN if they are closed."""
    return _saturation(picture, landmarks[list(INNER_LIPS_MESH), :2])


def face_saturation(picture: Image, landmarks: Array) -> float:
    """`mouth_saturation`, but over the entire face, landmarks (478,3) px."""
    return _saturation(picture, cv2.convexHull(landmarks[:MESH_POINTS, :2].astype(np.float32))[:, 0])


def _saturation(picture: Image, outline: NDArray[np.number]) -> float:
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], (1,))
    inside = picture[mask > 0]
    return float(np.ptp(inside, axis=1).mean()) if len(inside) >= MIN_PX else float("nan")
