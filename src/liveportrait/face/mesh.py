"""478 face landmarks from a rotated square of the picture, as MediaPipe's Face Mesh (arXiv 1907.06724)."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.runtime import Network
from liveportrait.types import Array, Image

SIDE = 256  # input of the network, px
ROOM = 1.5  # side of the square, relative to the longer side of the box it is built around
EYE_CORNERS = (33, 263)  # outer corners: the subject's right, then left


class MeshRegion(NamedTuple):
    """The part of a picture that the network sees: a square turned so that the eyes lie level."""

    x: float  # centre, px
    y: float
    side: float  # px
    roll: float  # radians, positive clockwise on the screen

    @classmethod
    def around(cls, box: Array, right_eye: Array, left_eye: Array) -> MeshRegion:
        """The square for a face box (4,) x0, y0, x1, y1 with the eyes (2,) of the subject."""
        across, down = left_eye - right_eye
        side = ROOM * max(box[2] - box[0], box[3] - box[1])
        return cls((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, side, math.atan2(down, across))

    @classmethod
    def of_landmarks(cls, landmarks: Array) -> MeshRegion:
        """The square in which to look again for a face with known landmarks (478,2 or more)."""
        xy = landmarks[:, :2]
        right_eye, left_eye = xy[list(EYE_CORNERS)]
        return cls.around(np.concatenate([xy.min(axis=0), xy.max(axis=0)]), right_eye, left_eye)

    def to_picture(self) -> NDArray[np.float64]:
        """Matrix (2,3): px of the network's input -> px of the picture."""
        scale = self.side / SIDE
        cos, sin = scale * math.cos(self.roll), scale * math.sin(self.roll)
        half = SIDE / 2
        return np.array([[cos, -sin, self.x - half * (cos - sin)], [sin, cos, self.y - half * (sin + cos)]])


class Mesh:
    """The landmark network."""

    def __init__(self, threads: int) -> None:
        self._network = Network("face_landmarks_detector", threads)

    def __call__(self, image: Image, region: MeshRegion) -> tuple[Array, float]:
        """Landmarks (478,3) in px of an RGB picture (H,W,3), and the probability (0..1) that this is a face.

        z has the same scale, grows away from the camera and is 0 near the middle of the head.
        """
        matrix = region.to_picture()
        raw, presence, _ = self._network(_sampled(image, matrix)[None].astype(np.float32) / np.float32(255))
        points = raw.reshape(-1, 3).astype(np.float64)
        xy = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        z = points[:, 2:] * (region.side / SIDE)
        return np.concatenate([xy, z], axis=1).astype(np.float32), float(1 / (1 + np.exp(-presence.item())))


def _sampled(image: Image, to_picture: NDArray[np.float64]) -> Image:
    """The square as 256×256 px; outside the picture its edge pixels repeat."""
    # Shrink the surroundings of a square that is much larger than 256 px first: bilinear samples would alias.
    shrink = int(math.hypot(to_picture[0, 0], to_picture[1, 0]))
    if shrink >= 2:
        corners = to_picture @ np.array([[0, SIDE, 0, SIDE], [0, 0, SIDE, SIDE], [1, 1, 1, 1]])
        bounds = np.array(image.shape[1::-1])
        x0, y0 = (np.floor(corners.min(axis=1)).astype(int) - shrink).clip(0, bounds - 1)
        x1, y1 = (np.ceil(corners.max(axis=1)).astype(int) + shrink).clip(1, bounds)
        part = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        width, height = (max(1, part.shape[1] // shrink), max(1, part.shape[0] // shrink))
        image = np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA))
        ratio = np.array([width / part.shape[1], height / part.shape[0]])
        offset = (to_picture[:, 2] - [x0, y0] + 0.5) * ratio - 0.5
        to_picture = np.concatenate([to_picture[:, :2] * ratio[:, None], offset[:, None]], axis=1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(image, to_picture, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(pixels)
