"""The square around a face that the networks see: the published rule, on mesh landmarks.

docs/notes/crop-derivation.md derives it.

The published program takes the rectangle from 106 landmarks (photos) or 203 (videos), which trace brows, eyes, nose,
mouth and the outline of the face up to the eyes. `outline_points` are the mesh points of that area.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.choices import Reduction
from liveportrait.errors import UserError
from liveportrait.face import canonical as mesh
from liveportrait.face.choice import DRIVING_CROP, DrivingCrop
from liveportrait.types import Array, Image

# Annotated outlines lie slightly outside the mesh; measured on the photographs of docs/notes/crop-derivation.md.
OUTLINE_GROWTH = 1.015
SIZE = 512  # side of a crop in which a face is measured, px
SHORTEST_AXIS = 1e-3  # px between eyes and mouth above which the roll is meaningful


@dataclass(frozen=True, eq=False)
class CropWindow:
    """The position of a square crop in the original picture."""

    matrix: Array  # (2,3) float32: px of the original -> px of the crop, pixel centres at integers
    size: int  # side of the crop, px

    @property
    def side(self) -> float:
        """The side of the square in the original picture, px."""
        return self.size / float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2].astype(np.float64)))))

    def resized(self, size: int) -> CropWindow:
        """The same square as a crop of another size."""
        ratio = size / self.size
        matrix = ratio * self.matrix.astype(np.float64)
        matrix[:, 2] += (ratio - 1) / 2  # pixel centres lie at integers
        return CropWindow(matrix.astype(np.float32), size)

    def inverse(self) -> Array:
        """(2,3) float32: px of the crop -> px of the original."""
        return cv2.invertAffineTransform(self.matrix.astype(np.float64)).astype(np.float32)


class Square(NamedTuple):
    """A square in the original picture."""

    centre: NDArray[np.float64]  # (2,) px
    side: float  # px
    roll: float  # radians, positive clockwise on the screen

    def framed(self, scale: float, x: float, y: float) -> Square:
        """The square scaled by `scale`, then moved right and down along its own axes by x and y times its side."""
        side = self.side * scale
        right = np.array([np.cos(self.roll), np.sin(self.roll)])
        down = np.array([-right[1], right[0]])
        return Square(self.centre + side * (x * right + y * down), side, self.roll)

    def window(self, size: int = SIZE) -> CropWindow:
        """The square as a crop of `size` px."""
        zoom = size / self.side
        cos, sin = zoom * np.cos(self.roll), zoom * np.sin(self.roll)
        turn = np.array([[cos, sin], [-sin, cos]])
        matrix = np.concatenate([turn, (size / 2 - turn @ self.centre)[:, None]], axis=1)
        return CropWindow(matrix.astype(np.float32), size)


def source_window(
    landmarks: Array,
    size: int = SIZE,
    scale: float = 2.3,
    x: float = 0.0,
    y: float = -0.125,
    rotate: bool = True,
) -> CropWindow:
    """The window of a source face, turned upright unless `rotate` is off.

    landmarks (468 or more, 2 or more) px of the original; `size` of the crop in px; `scale` is the window's side over
    the face's; `x` and `y` move the window right and down (as seen with the face upright), as fractions of its side.
    (The published program accepts the shift in x but ignores it; here it works.)
    Raises UserError if scale is not positive or the face has no extent.
    """
    square = face_square(landmarks, scale, x, y)
    return (square if rotate else square._replace(roll=0.0)).window(size)


def driving_window(
    landmarks: Iterable[Array], size: int = SIZE, crop: DrivingCrop = DRIVING_CROP
) -> CropWindow:
    """One window for an entire driving video, never rotated: the mean of the frames' boxes.

    `landmarks` yields one array (468 or more, 2 or more) per frame; the rest as in `source_window`.
    Raises UserError if there is no frame.
    """
    return mean_window([driving_square(points, crop) for points in landmarks], size)


def driving_square(landmarks: Array, crop: DrivingCrop = DRIVING_CROP) -> Square:
    """The square of `driving_window` for one frame with landmarks (468 or more, 2 or more)."""
    return face_square(landmarks, *crop)


def whole_window(size: int) -> CropWindow:
    """The window of a picture with sides of `size` px that already is a crop."""
    return CropWindow(np.eye(2, 3, dtype=np.float32), size)


def mean_window(squares: Sequence[Square], size: int = SIZE) -> CropWindow:
    """The window of the mean of the squares, not rotated. Raises UserError if there are none."""
    if not squares:
        raise UserError("The driving video shows no face to crop around: give one with a visible face.")
    centre = np.mean([square.centre for square in squares], axis=0)
    return Square(centre, float(np.mean([square.side for square in squares])), 0.0).window(size)


def crop(image: Image, window: CropWindow, replicate_border: bool = False) -> Image:
    """The window of a picture (H,W,3) as (size,size,3), bilinear.

    Outside the picture it is black, as in the published program; `replicate_border` repeats the edge instead, so that a
    moving head does not pull a black strip into the picture.
    """
    side = (window.size, window.size)
    border = cv2.BORDER_REPLICATE if replicate_border else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(image, window.matrix, side, flags=cv2.INTER_LINEAR, borderMode=border))


def crop_to(image: Image, window: CropWindow, size: int, replicate_border: bool = False) -> Image:
    """The window as (size,size,3), see `crop`; averaged when it shrinks, so that fine detail does not flicker."""
    factor = max(1, int(window.side / size))  # pixels per side that become one
    return to_input(crop(image, window.resized(size * factor), replicate_border), size)


def to_input(image: Image, size: int = 256, reduction: Reduction = "area") -> Image:
    """A picture (H,W,3) resized to (size,size,3) for the networks: averaged if it shrinks, otherwise bilinear.

    A picture that is not square is squashed. With the other `reduction` the resize is always bilinear.
    """
    if image.shape[:2] == (size, size):
        return image
    averages = reduction == "area" and image.shape[0] > size
    interpolation = cv2.INTER_AREA if averages else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation))


@cache
def outline_points() -> NDArray[np.int64]:
    """Indices of the landmarks whose box replaces the published one: all up to the eyes, and the brows."""
    height = mesh.canonical_face().vertices[:, 1]
    below_temples = np.flatnonzero(height >= height[mesh.TEMPLES[0]])
    return np.union1d(below_temples, mesh.BROWS)


def face_square(landmarks: Array, scale: float = 1.0, x: float = 0.0, y: float = 0.0) -> Square:
    """The square of `source_window`, before it becomes a crop."""
    if not scale > 0:
        raise UserError(f"The crop scale must be positive, not {scale}.")
    points = landmarks[:, :2].astype(np.float64)
    eyes = [
        points[[*corners, *lids]].mean(axis=0)
        for corners, lids in (
            (mesh.RIGHT_EYE_CORNERS, mesh.RIGHT_EYE_LIDS),
            (mesh.LEFT_EYE_CORNERS, mesh.LEFT_EYE_LIDS),
        )
    ]
    down = points[list(mesh.MOUTH_CORNERS)].mean(axis=0) - (eyes[0] + eyes[1]) / 2
    length = float(np.linalg.norm(down))
    down = down / length if length > SHORTEST_AXIS else np.array([0.0, 1.0])
    right = np.array([down[1], -down[0]])

    axes = np.stack([right, down])  # rows: the face's own axes
    own = points[outline_points()] @ axes.T
    low, high = own.min(axis=0), own.max(axis=0)
    side = float((high - low).max()) * OUTLINE_GROWTH
    if not 0 < side < np.inf:
        raise UserError("The face's landmarks have no extent, so no crop can be placed around it.")
    roll = float(np.arctan2(right[1], right[0]))
    return Square((low + high) / 2 @ axes, side, roll).framed(scale, x, y)
