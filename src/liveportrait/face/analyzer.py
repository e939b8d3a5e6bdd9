"""The face analysis interface (detection, 478 landmarks, tracking, identity) and its OpenVINO implementation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from liveportrait.errors import UserError
from liveportrait.face.animals import AnimalDetector
from liveportrait.face.detector import Detector
from liveportrait.face.identity import FaceIdentity
from liveportrait.face.mesh import Mesh, MeshRegion
from liveportrait.face.runtime import Network
from liveportrait.types import Array, Image

MIN_PRESENCE = 0.5  # score of the landmark network from which a detection counts as a face
SMALLEST = 1 / 48  # of the picture's longer side: 40 px in a picture 1920 px wide
SMALLEST_PX = 20.0

# The landmarks that the blendshape network takes, in its order (from its published graph).
BLENDSHAPE_LANDMARKS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70,
    78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149,
    150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195,
    197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300,
    308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375,
    377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454,
    466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one picture."""

    landmarks: Array  # (478,3) px of the picture: x right, y down, z away from the camera in the same scale
    score: float  # 0..1: the landmark network's confidence that this is a face

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the landmarks, px; it may extend beyond the picture."""
        low, high = self.landmarks[:, :2].min(axis=0), self.landmarks[:, :2].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class FaceAnalyzer(Protocol):
    """Finds and measures faces. Pictures are (H,W,3) uint8 RGB. No state is kept between calls."""

    def detect(self, image: Image, smallest: float | None = None) -> list[Face]:
        """All faces of a picture, largest first; `smallest` is the height in px of the smallest one to look for."""
        ...

    def smallest(self, image: Image) -> float:
        """The height in px of the smallest face that `detect` looks for by default."""
        ...

    def within(self, image: Image, box: tuple[float, float, float, float]) -> Face | None:
        """The face in a box x0, y0, x1, y1 px, without a search; None if the box shows no face."""
        ...

    def track(self, image: Image, previous: Face) -> Face | None:
        """The face in the next frame of a video, searched only where `previous` was; None if lost."""
        ...

    def blendshapes(self, face: Face) -> Array:
        """MediaPipe's 52 blendshape scores (52,) in 0..1; 0 is `_neutral`, 1 `browDownLeft`, and so on."""
        ...

    def identity(self, image: Image, landmarks: Array) -> Array:
        """Embedding (128,) of the face with landmarks (478,3) px: closer than 0.6 (Euclidean) is the same person."""
        ...

    @property
    def animals(self) -> AnimalDetector:
        """The detector for the faces of cats and dogs."""
        ...


def default_analyzer(threads: int = 1) -> FaceAnalyzer:
    """The analyzer used unless another is given; `threads` as for `OpenVinoFaceAnalyzer`."""
    return OpenVinoFaceAnalyzer(threads)


class OpenVinoFaceAnalyzer:
    """Detection, landmarks, tracking and blendshapes through OpenVINO on the CPU; identity and animals by PyTorch.

    The networks are compiled on first use (about a second in all). One object may serve several threads: calls to the
    same network run one after another, and no state is kept between calls.
    """

    def __init__(self, threads: int = 1) -> None:
        """`threads` is the number of CPU threads for each network; 0 leaves the choice to OpenVINO."""
        if threads < 0:
            raise UserError(f"Face analysis cannot use {threads} threads: give 0 (automatic) or more.")
        self._detector = Detector(threads)
        self._mesh = Mesh(threads)
        self._blendshapes = Network("face_blendshapes", threads)

    def detect(self, image: Image, smallest: float | None = None) -> list[Face]:
        """All faces in an RGB picture (H,W,3) uint8, largest first; an empty list if there is none.

        `smallest` is the height in px of the smallest face to look for: by default 1/48 of the longer side, but at
        least 20. It determines the cost. The full frame is always searched, tiles only if `smallest` needs them: by
        default about 150 in a wide picture, a millisecond each; none if it is a fifth of the longer side or more. A
        detection counts if the landmark network sees a face there too.
        """
        _check(image)
        if smallest is None:
            smallest = self.smallest(image)
        if smallest <= 0:
            raise UserError(f"The smallest face cannot be {smallest} px high: give a positive size.")
        faces: list[Face] = []
        for found in sorted(self._detector(image, smallest), key=lambda detection: -detection.score):
            if any(_covers(face, found.box) for face in faces):
                continue
            face = self._measured(image, MeshRegion.around(found.box, *found.eyes))
            # Measured again on the square of its landmarks, as tracking does: a box from a tile is rough, the next
            # frame of a video must not jump, and a chance pattern seldom passes twice.
            face = face and self.track(image, face)
            if face:
                faces.append(face)
        largest_first = sorted(faces, key=_area, reverse=True)
        return [
            face
            for rank, face in enumerate(largest_first)
            if not any(centre_within(face, larger) for larger in largest_first[:rank])
        ]

    def within(self, image: Image, box: tuple[float, float, float, float]) -> Face | None:
        """The face in a box x0, y0, x1, y1 px of a picture (H,W,3), without a search; None if the box shows no face."""
        _check(image)
        corners = np.array(box, np.float32)
        level = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
        face = self._measured(image, MeshRegion.around(corners, *level))
        return face and self.track(image, face)

    @staticmethod
    def smallest(image: Image) -> float:
        """The height in px of the smallest face that `detect` looks for by default in a picture (H,W,3)."""
        return max(max(image.shape[:2]) * SMALLEST, SMALLEST_PX)

    def track(self, image: Image, previous: Face) -> Face | None:
        """The face in the next frame (H,W,3) of a video, searched only where `previous` was; None if lost.

        One landmark call, about 8 ms on one core. Call `detect` to find a lost face again.
        """
        _check(image)
        return self._measured(image, MeshRegion.of_landmarks(previous.landmarks))

    def blendshapes(self, face: Face) -> Array:
        """MediaPipe's 52 blendshape scores (52,) in 0..1; 0 is `_neutral`, 1 `browDownLeft`, and so on."""
        points = face.landmarks[list(BLENDSHAPE_LANDMARKS), :2]
        return self._blendshapes(points[None])[0].reshape(-1)

    def identity(self, image: Image, landmarks: Array) -> Array:
        """Embedding (128,) of the face with landmarks (478,3) px in a picture (H,W,3), see `identity.FaceIdentity`."""
        return self._identity.embedding(image, landmarks)

    @cached_property
    def animals(self) -> AnimalDetector:
        """The bundled detector, loaded on first use."""
        return AnimalDetector()

    @cached_property
    def _identity(self) -> FaceIdentity:
        return FaceIdentity()

    def _measured(self, image: Image, region: MeshRegion) -> Face | None:
        if not region.side >= 1:
            return None
        landmarks, presence = self._mesh(image, region)
        return Face(landmarks, presence) if presence >= MIN_PRESENCE else None


def centre(face: Face) -> tuple[float, float]:
    """The centre of the face's box, px."""
    x0, y0, x1, y1 = face.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def centre_within(face: Face, other: Face) -> bool:
    """Whether the face's centre lies in the other's box, so that both count as the same face."""
    return _covers(other, face.box)


def _check(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"A picture must be (height, width, 3) uint8, not {image.shape} {image.dtype}.")


def _area(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return (x1 - x0) * (y1 - y0)


def _covers(face: Face, box: Array | tuple[float, float, float, float]) -> bool:
    """Whether the face's box contains the centre of a box x0, y0, x1, y1."""
    x0, y0, x1, y1 = face.box
    return bool(x0 < (box[0] + box[2]) / 2 < x1 and y0 < (box[1] + box[3]) / 2 < y1)
