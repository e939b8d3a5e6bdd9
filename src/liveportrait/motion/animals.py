"""The motion of an animal's face: its nine landmarks converted to the keypoints of a person.

A person drives the animal, so the driver's expression must move its keypoints: lids at the animal's lids, lips at its
lips. Landmarks give most of their positions; brows, jaw and forehead follow from the proportions of the mean human
face. Movements are scaled to the animal's own eyes and mouth: closed lids must meet in a cat's large eyes too, and a
small mouth must not open as wide as a person's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.face.animals import (
    CHIN,
    CORNERS,
    LEFT_LIDS,
    MOUTH,
    NOSE,
    RIGHT_LIDS,
    FaceAxes,
    face_axes,
)
from liveportrait.motion.lifting import canonical_points
from liveportrait.networks import keypoints
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion
from liveportrait.types import Array

_LIDS = (keypoints.RIGHT_LIDS, keypoints.LEFT_LIDS)
_LOWER_FACE = (*keypoints.MOUTH, keypoints.CHIN, *keypoints.JAW)

# Of a person, in units of the canonical face: means over photographs of people.
EYE_DISTANCE, EYE_OPENING, MOUTH_WIDTH = 1.03, 0.19, 0.80
MIN_OPENING, MIN_MOUTH = 0.1, 0.5  # of a driver: smaller measurements are raised to these
CLOSING = 1.1  # beyond the eyes' proportion, so that lids meet
EAR_GAIN = 0.3  # of the outer brows' movement, as these keypoints move the ears
NOSE_DEPTH = 0.7  # how far an animal's nose is in front of its eyes, in distances between the eyes
MAX_YAW = 35.0  # degrees, limit on the yaw estimated from the nose
GAINS = (0.4, 3.0)  # range of an animal's movements relative to a person's


@dataclass(frozen=True, eq=False)
class AnimalMotion:
    """An animal at rest, and its proportions in units of the canonical face."""

    motion: Motion  # batch 1
    openings: tuple[float, float]  # of the eyes on the picture's left and right
    mouth: float  # distance of its corners

    def gains(self, driver: Motion) -> Tensor:
        """Factors (1,21,3) from the movements of the driver's keypoints (batch 1) to the animal's.

        Lids scale with the ratio of the eyes, lips and jaw with that of the mouths, irises with the root of the eyes'.
        """
        person = torch.nan_to_num(driver.canonical[0])
        gains = torch.ones(1, NUM_KEYPOINTS, 3)
        for lids, iris, opening in zip(_LIDS, keypoints.IRISES, self.openings, strict=True):
            own = max(float(person[lids[1], 1] - person[lids[0], 1]) or EYE_OPENING, MIN_OPENING)
            gains[:, list(lids), 1] = float(np.clip(CLOSING * opening / own, *GAINS))
            gains[:, iris] = float(np.clip(np.sqrt(opening / own), *GAINS))
        right, left = keypoints.MOUTH_CORNERS
        own = float(person[left, 0] - person[right, 0]) or MOUTH_WIDTH
        gains[:, list(_LOWER_FACE)] = float(np.clip(self.mouth / max(own, MIN_MOUTH), *GAINS))
        gains[:, list(keypoints.OUTER_BROWS)] = EAR_GAIN
        return gains


def animal_motion(landmarks: Array, size: int) -> AnimalMotion:
    """The animal motion from landmarks (9,2), px of a crop with a side of `size` px.

    What cannot be seen is assumed: a person's depth, and a level head (pitch 0).
    """
    points = (landmarks.astype(np.float64) + 0.5) * (2 / size) - 1
    axes = face_axes(points)
    aside = float((points[NOSE] - axes.middle) @ axes.right)
    yaw = -np.degrees(np.arctan2(aside, NOSE_DEPTH * axes.unit))
    angles = (0.0, np.clip(yaw, -MAX_YAW, MAX_YAW), np.degrees(axes.roll))
    rotation = rotation_matrix(*(torch.tensor([float(angle)]) for angle in angles))
    scale = axes.unit / EYE_DISTANCE
    person, _ = canonical_points()
    depth = person[:, 2].astype(np.float64)
    turn = rotation[0].double().numpy()
    shift = axes.middle - scale * (person[list(keypoints.IRISES)].mean(0) @ turn)[:2]
    planar = (_keypoints(points, axes) - shift) / scale - depth[:, None] * turn[2, :2]
    canonical = np.concatenate([planar @ np.linalg.inv(turn[:2, :2]), depth[:, None]], axis=1)
    motion = Motion(
        rotation=rotation,
        translation=torch.tensor([[*shift, 0.0]], dtype=torch.float32),
        scale=torch.tensor([[scale]], dtype=torch.float32),
        canonical=torch.from_numpy(canonical.astype(np.float32))[None],
        expression=torch.zeros(1, NUM_KEYPOINTS, 3),
    )
    left, right, mouth = (
        float(np.linalg.norm(points[b] - points[a])) / scale for a, b in (LEFT_LIDS, RIGHT_LIDS, CORNERS)
    )
    return AnimalMotion(motion, (left, right), mouth)


def _keypoints(points: NDArray[np.float64], axes: FaceAxes) -> NDArray[np.float64]:
    """The 21 keypoints (21,2), in the order of `networks.keypoints`, in the coordinates of the landmarks."""
    nose, mouth, chin = points[NOSE], points[MOUTH], points[CHIN]
    face = float((chin - axes.middle) @ axes.down)

    def at(origin: NDArray[np.float64], right: float, down: float) -> NDArray[np.float64]:
        return origin + axes.unit * (right * axes.right + down * axes.down)

    left_lid, right_lid = points[LEFT_LIDS[0]], points[RIGHT_LIDS[0]]
    jaw = axes.middle + 0.7 * face * axes.down
    return np.stack(
        [
            *points[[*LEFT_LIDS, *RIGHT_LIDS]],
            *axes.eyes,
            at(left_lid, 0.25, -0.2), at(right_lid, -0.25, -0.2),
            at(axes.eyes[0], -0.4, -0.85), at(axes.eyes[1], 0.4, -0.85),
            *points[list(CORNERS)],
            at(mouth, 0, -0.01), at(mouth, 0, 0.01),
            mouth + 0.4 * (chin - mouth), mouth + 0.35 * (nose - mouth),
            nose, chin,
            at(jaw, -0.85, 0), at(jaw, 0.85, 0),
            at(axes.middle, 0, -0.8),
        ]
    )  # fmt: skip
