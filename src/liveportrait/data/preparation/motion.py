"""How a face moves in a clip: trembling that no head does, and stillness that no living face has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from liveportrait.metrics import accelerations
from liveportrait.motion.lifting import MESH_ROWS, RIGID_MESH

Array = NDArray[np.float32]


def face_size(landmarks: Array) -> float:
    """Mean longer side of the landmark box of (T,P,2 or more), px."""
    return float(np.ptp(landmarks[..., :2], axis=1).max(axis=1).mean())


def jitter(landmarks: Array) -> float:
    """Median acceleration of the middle of the rigid landmarks of (T,478,3), in face sizes a frame squared."""
    if len(landmarks) < 3:
        return 0.0
    middle = landmarks[:, list(RIGID_MESH), :2].mean(axis=1, keepdims=True)
    return float(np.median(accelerations(middle)) / face_size(landmarks))


def shape_motion(landmarks: Array) -> float:
    """RMS deviation of the 111 landmarks of (T,478,3) from their mean shape, in face sizes.

    Position, size and roll of each frame are removed first (similarity Procrustes, three rounds): a camera that
    moves over a photograph leaves nothing.
    """
    points = landmarks[:, list(MESH_ROWS), :2].astype(np.float64)
    centred = points - points.mean(axis=1, keepdims=True)
    shapes = centred[..., 0] + 1j * centred[..., 1]
    aligned, mean = shapes, shapes[0]
    for _ in range(3):
        turn = (shapes.conj() * mean).sum(axis=1) / (np.abs(shapes) ** 2).sum(axis=1)
        aligned = shapes * turn[:, None]
        mean = aligned.mean(axis=0)
    extent = max(np.ptp(mean.real), np.ptp(mean.imag))
    return float(np.sqrt((np.abs(aligned - mean) ** 2).mean()) / extent)
