"""Aligned patches of the mouth and the eyes, and what is measured in them.

Whole pictures hardly know them: a mouth is a sixteenth of a crop. A patch lies where landmarks say, upright with the
head and of the head's size, so that a result and its target, cut by the target's landmarks, lie on each other.
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

FEWEST_PX = 12  # of the inside of a mouth, below which its colour is that of the lips


class PatchSize(NamedTuple):
    """Of a patch, and of what it shows."""

    width: int  # px
    height: int
    half_width: float  # cm of the canonical face
    reach: int  # px by which the inside's outline is widened to the region that is measured


MOUTH = PatchSize(80, 64, 5.0, reach=4)  # twice as wide as a mouth
EYE = PatchSize(64, 48, 2.6, reach=3)


@dataclass(frozen=True, eq=False)
class Patch:
    """The place of a patch in one picture."""

    matrix: Array  # (2,3): px of the picture -> px of the patch
    size: PatchSize
    region: NDArray[np.bool_]  # (height,width): between the lips or lids, and a little around

    def cut(self, picture: Image) -> Image:
        """The patch (height,width,3) of a picture (H,W,3); edges are continued."""
        shape = (self.size.width, self.size.height)
        return np.asarray(cv2.warpAffine(picture, self.matrix, shape, borderMode=cv2.BORDER_REPLICATE))


def mouth_patch(landmarks: Array) -> Patch:
    """Around the mouth of a face with landmarks (478,3) px."""
    return _patch(landmarks, (*mesh.MOUTH_CORNERS, 0, 17), INNER_LIPS_MESH, MOUTH)


def eye_patches(landmarks: Array) -> tuple[Patch, Patch]:
    """Around the subject's right eye, and the left."""
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
    """Mean squared Laplacian of luma over a region (H,W) of a picture (H,W,3); NaN where the region is empty."""
    energy = cv2.Laplacian(luma(picture), cv2.CV_32F, borderType=cv2.BORDER_REPLICATE) ** 2
    return float(energy[region].mean()) if region.any() else float("nan")


def change(before: Image, after: Image, region: NDArray[np.bool_]) -> float:
    """Mean absolute difference of two pictures (H,W,3) over a region (H,W), grey levels; NaN where it is empty."""
    gap = np.abs(after.astype(np.float32) - before)
    return float(gap[region].mean()) if region.any() else float("nan")


def mouth_saturation(picture: Image, landmarks: Array) -> float:
    """Mean of max − min over the channels, levels of 255, between the lips. NaN where they are closed."""
    return _saturation(picture, landmarks[list(INNER_LIPS_MESH), :2])


def face_saturation(picture: Image, landmarks: Array) -> float:
    """The same over the whole face, landmarks (478,3) px."""
    return _saturation(picture, cv2.convexHull(landmarks[:MESH_POINTS, :2].astype(np.float32))[:, 0])


def _saturation(picture: Image, outline: NDArray[np.number]) -> float:
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], (1,))
    inside = picture[mask > 0]
    return float(np.ptp(inside, axis=1).mean()) if len(inside) >= FEWEST_PX else float("nan")
