"""Head pose as MediaPipe's face geometry states it, for labels that agree with those made by MediaPipe.

`face.pose.head_pose` assumes an orthographic camera, which differs by 2.5 degrees on average from MediaPipe's
perspective one; this module, by 0.9 (149 clips of a corpus labelled by MediaPipe).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.face.canonical import canonical_face
from liveportrait.motion.lifting import AXES

Array = NDArray[np.float64]
FIELD_OF_VIEW = math.radians(63)  # of the assumed camera, over the height of the picture


class CameraPose(NamedTuple):
    """Canonical face to camera, column vectors: x right, y up, the camera looks along -z; centimetres."""

    rotation: Array  # (3,3)
    translation: Array  # (3,)


def camera_pose(landmarks: NDArray[np.float32], side: int) -> CameraPose:
    """Pose of a face with landmarks (478,3) px, z away from the camera, in a square crop of `side` px.

    The screen's points are brought to the depth at which the canonical face has its true size (two fits give the
    scale, the second on points that perspective has corrected), and a weighted Procrustes fit gives the pose.
    Method: the face geometry module of MediaPipe.
    """
    vertices, weights = canonical_face()
    canonical = (vertices @ AXES).astype(np.float64)
    height = 2 * math.tan(FIELD_OF_VIEW / 2)  # of the picture at unit distance
    unit = landmarks[: len(vertices)].astype(np.float64) / side
    screen = np.stack([(unit[:, 0] - 0.5) * height, (0.5 - unit[:, 1]) * height, unit[:, 2] * height], axis=1)
    depth = 1 + screen[:, 2] - screen[:, 2].mean()

    def in_space(scale: float) -> Array:
        away = depth / scale
        return np.stack([screen[:, 0] * away, screen[:, 1] * away, -away], axis=1)

    rough = _fit(canonical, screen * [1, 1, -1], weights)[1]
    scale = rough * _fit(canonical, in_space(rough), weights)[1]
    rotation, _, translation = _fit(canonical, in_space(scale), weights)
    return CameraPose(rotation.T, translation)


def _fit(source: Array, target: Array, weights: NDArray[np.float32]) -> tuple[Array, float, Array]:
    """Rotation R, scale s and shift t for which s · source @ R + t is closest to target (N,3). Umeyama, 1991."""
    share = (weights / weights.sum()).astype(np.float64)[:, None]
    source_mean, target_mean = (share * source).sum(axis=0), (share * target).sum(axis=0)
    centred, aimed = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(centred.T @ (share * aimed))
    proper = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * proper) @ vt
    scale = float((singular * proper).sum() / (share * centred**2).sum())
    return rotation, scale, target_mean - scale * source_mean @ rotation
