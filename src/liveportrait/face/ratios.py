"""How far eyes and lips are open, as the published retargeting networks are told: height over width.

The published program measures on 203 landmarks; these are the mesh points at the same places (middle of the
lids and of the inner lips, corners of the eyes, outer corners of the mouth). Ratios do not change with the
size, place or roll of the face.
"""

from __future__ import annotations

import numpy as np

from liveportrait.face import canonical as mesh
from liveportrait.face.runtime import Array

EPSILON = 1e-6


def eye_ratios(landmarks: Array) -> Array:
    """Opening of the two eyes (2,) from landmarks (478, 2 or more) px: first the eye on the picture's left.

    About 0.35 for an open eye, below 0.1 for a closed one.
    """
    return np.array(
        [
            _ratio(landmarks, mesh.RIGHT_EYE_LIDS, mesh.RIGHT_EYE_CORNERS),
            _ratio(landmarks, mesh.LEFT_EYE_LIDS, mesh.LEFT_EYE_CORNERS),
        ],
        np.float32,
    )


def lip_ratio(landmarks: Array) -> Array:
    """Opening of the mouth (1,) from landmarks (478, 2 or more) px: 0 closed, 0.3 and more when speaking."""
    return np.array([_ratio(landmarks, mesh.INNER_LIPS, mesh.MOUTH_CORNERS)], np.float32)


def opening_ratios(landmarks: Array) -> Array:
    """Openings (3,) of the eye on the picture's left, the other eye and the mouth, from landmarks (478, 2 or more)."""
    return np.concatenate([eye_ratios(landmarks), lip_ratio(landmarks)])


def _ratio(landmarks: Array, height: tuple[int, int], width: tuple[int, int]) -> float:
    up, down, left, right = landmarks[[*height, *width], :2].astype(np.float64)
    return float(np.linalg.norm(up - down) / (np.linalg.norm(left - right) + EPSILON))
