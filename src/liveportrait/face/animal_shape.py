"""Nine landmarks of a cat's or dog's face, and what follows from them: its axes, its crop, its outline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.face.crop import Square
from liveportrait.face.runtime import Array

# Rows of the landmarks, as in `networks.animal`; the left eye is the one on the picture's left.
LEFT_LIDS, RIGHT_LIDS, NOSE, MOUTH, CORNERS, CHIN = (0, 1), (2, 3), 4, 5, (6, 7), 8

SNOUT = 0.75  # of the way from the eyes to the chin: what the distance between frontal eyes is at least
# The square that a crop is framed around, in distances between the eyes: with the framing that suits people, ears
# and chin lie inside, and the eyes are as far apart as a person's.
SQUARE_SIDE, SQUARE_BELOW = 1.9, 0.7
# A crop in which the lids are farther apart than two and a half times a person's is wider: they could not meet.
WIDEST_EYES = 0.25  # distance of the lids, in distances between the eyes
EYE_HALF_WIDTH = 0.18  # in distances between the eyes
RIM_POINTS = 36  # of an outline, as of people's
RIM_ABOVE, RIM_BELOW, RIM_HALF_WIDTH = (
    0.95,
    0.15,
    1.15,
)  # of the outline: over the eyes, under the chin, aside


class FaceAxes(NamedTuple):
    """How a face lies in the picture."""

    eyes: NDArray[np.float64]  # (2,2) middles of the left and right eye
    middle: NDArray[np.float64]  # (2,) between them
    right: NDArray[np.float64]  # (2,) unit vector from the left to the right eye
    down: NDArray[np.float64]  # (2,) unit vector towards the chin of an upright face
    unit: float  # the distance between the eyes, as it would be from the front

    @property
    def roll(self) -> float:
        """Radians, positive clockwise on the screen."""
        return float(np.arctan2(self.right[1], self.right[0]))


def face_axes(landmarks: Array | NDArray[np.float64]) -> FaceAxes:
    """The axes of a face with landmarks (9,2), in their unit."""
    points = landmarks.astype(np.float64)
    eyes = np.stack([points[list(LEFT_LIDS)].mean(0), points[list(RIGHT_LIDS)].mean(0)])
    middle, across = eyes.mean(0), eyes[1] - eyes[0]
    seen = float(np.linalg.norm(across))
    right = across / seen if seen > 1e-6 else np.array([1.0, 0.0])
    down = np.array([-right[1], right[0]])
    return FaceAxes(eyes, middle, right, down, max(seen, SNOUT * float((points[CHIN] - middle) @ down), 1e-6))


def animal_square(landmarks: Array) -> Square:
    """The square that stands for the face's box when a crop is framed; landmarks (9,2) px."""
    axes = face_axes(landmarks)
    opening = max(
        float(np.linalg.norm(landmarks[low] - landmarks[high])) for high, low in (LEFT_LIDS, RIGHT_LIDS)
    )
    size = max(axes.unit, opening / WIDEST_EYES)
    return Square(axes.middle + SQUARE_BELOW * axes.unit * axes.down, SQUARE_SIDE * size, axes.roll)


def published_square(landmarks: Array) -> Square:
    """The same as the published program has it: the box around eyes, nose and lips, turned upright."""
    axes = face_axes(landmarks)
    turn = np.stack([axes.right, axes.down])
    own = (landmarks[:CHIN].astype(np.float64) - axes.middle) @ turn.T
    low, high = own.min(axis=0), own.max(axis=0)
    low[0] = min(low[0], -(0.5 + EYE_HALF_WIDTH) * axes.unit)
    high[0] = max(high[0], (0.5 + EYE_HALF_WIDTH) * axes.unit)
    return Square(axes.middle + (low + high) / 2 @ turn, float((high - low).max()), axes.roll)


def animal_rim(landmarks: Array) -> Array:
    """An ellipse (36,3) px around the face without its ears: from the forehead clockwise; at the depth 0."""
    axes = face_axes(landmarks)
    chin = (landmarks[CHIN].astype(np.float64) - axes.middle) @ axes.down
    top, bottom = -RIM_ABOVE * axes.unit, chin + RIM_BELOW * axes.unit
    angle = np.linspace(0, 2 * np.pi, RIM_POINTS, endpoint=False)[:, None]
    across = np.sin(angle) * RIM_HALF_WIDTH * axes.unit
    along = (top + bottom) / 2 - np.cos(angle) * (bottom - top) / 2
    rim = axes.middle + across * axes.right + along * axes.down
    return np.concatenate([rim, np.zeros_like(angle)], axis=1).astype(np.float32)
