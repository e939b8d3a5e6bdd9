"""Head pose from landmarks: the rigid motion that takes the canonical face onto them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """
    vertices, weights = canonical_face()
    rotation, scale, translation = fit_similarity(
        vertices, landmarks[: len(vertices)].astype(np.float64), weights
    )
    return HeadPose(rotation.astype(np.float32), scale, translation.astype(np.float32))


def fit_similarity(
    source: NDArray[np.floating], target: NDArray[np.float64], weights: Array
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Rotation R (3,3), scale s and shift t (3,) for which s · source @ R + t is closest to target (N,3).

    Weighted least squares by weights (N,). Umeyama, "Least-squares estimation of transformation parameters between
    two point patterns", 1991.
    """
    share = (weights / weights.sum())[:, None]
    source_mean, target_mean = (share * source).sum(axis=0), (share * target).sum(axis=0)
    centred, aimed = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(centred.T @ (share * aimed))
    proper = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])  # a rotation, never a reflection
    rotation = (u * proper) @ vt
    scale = float((singular * proper).sum() / (share * centred**2).sum())
    return rotation, scale, target_mean - scale * source_mean @ rotation
