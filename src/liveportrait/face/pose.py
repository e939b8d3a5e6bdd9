"""Head pose from landmarks: the rigid motion that takes the canonical face onto them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from liveportrait.face.canonical import canonical_face
from liveportrait.face.runtime import Array


class HeadPose(NamedTuple):
    """landmarks ≈ scale · canonical @ rotation + translation, in the row-vector convention of `networks`."""

    rotation: Array  # (3,3) orthonormal, determinant 1
    scale: float  # px of the picture per centimetre
    translation: Array  # (3,) px: where the middle of the head lies


def head_pose(landmarks: Array) -> HeadPose:
    """Weighted Procrustes fit of the canonical face to landmarks (468 or more, 3), x right, y down, z away.

    An orthographic camera: the perspective of a face far off the picture's centre counts as rotation.
    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    vertices, weights = canonical_face()
    points = landmarks[: len(vertices)].astype(np.float64)
    share = (weights / weights.sum())[:, None]
    source_mean, target_mean = (share * vertices).sum(axis=0), (share * points).sum(axis=0)
    source, target = vertices - source_mean, points - target_mean
    u, singular, vt = np.linalg.svd(source.T @ (share * target))
    proper = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])  # a rotation, never a reflection
    rotation = (u * proper) @ vt
    scale = float((singular * proper).sum() / (share * source**2).sum())
    translation = target_mean - scale * source_mean @ rotation
    return HeadPose(rotation.astype(np.float32), scale, translation.astype(np.float32))
