"""Metrics that compare faces. Landmarks are the mesh's (478,3), px of the picture."""

from __future__ import annotations

import numpy as np

from liveportrait.face import canonical as mesh
from liveportrait.face.measures import HeadPose
from liveportrait.types import Array

MESH_POINTS = 468  # without the irises, which jitter more than anything else
EYE_CORNERS = (33, 263)
IRISES = (468, 473)  # centres: the subject's right, left
# The eyeball model: lid corners 30 mm apart, the iris's centre 10 mm in front of the eye's centre of rotation.
CORNER_DISTANCE_MM = 30.0
IRIS_RADIUS_MM = 10.0


def landmark_distance(landmarks: Array, target: Array) -> float:
    """Mean distance of the 468 mesh points in the picture plane, in units of the target's eye-corner distance."""
    gap = np.linalg.norm(landmarks[:MESH_POINTS, :2] - target[:MESH_POINTS, :2], axis=1)
    return float(gap.mean() / eye_distance(target))


def eye_distance(landmarks: Array) -> float:
    """Distance of the outer eye corners in the picture plane, px."""
    right, left = EYE_CORNERS
    return float(np.linalg.norm(landmarks[right, :2] - landmarks[left, :2]))


def rotation_distance(a: Array, b: Array) -> float:
    """Angle between two rotations (3,3), degrees."""
    cosine = (float(np.sum(a * b)) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def expression_distance(shapes: Array, target: Array) -> float:
    """Mean absolute difference of blendshape scores (52,)."""
    return float(np.abs(shapes - target).mean())


def gaze_angles(landmarks: Array, pose: HeadPose) -> Array:
    """Gaze direction relative to the head, (2,) degrees to the right and down, the mean of both eyes.

    In the head's frame, d is the offset of the iris centre from the middle of the lid corners and w the corners'
    distance: sin θ = 30 d / (10 w). The resting angle differs between people by a few degrees vertically; the
    difference of two angles of one person is free of that.
    """
    angles = []
    for corners, iris in zip((mesh.RIGHT_EYE_CORNERS, mesh.LEFT_EYE_CORNERS), IRISES, strict=True):
        points = landmarks[[*corners, iris]] @ pose.rotation.T  # row vectors: this undoes the head's rotation
        offset = points[2, :2] - points[:2, :2].mean(0)
        width = np.linalg.norm(points[1, :2] - points[0, :2])
        sine = offset / max(float(width), 1e-6) * (CORNER_DISTANCE_MM / IRIS_RADIUS_MM)
        angles.append(np.degrees(np.arcsin(np.clip(sine, -1, 1))))
    return np.mean(angles, axis=0).astype(np.float32)


def identity_distance(embedding: Array, target: Array) -> float:
    """Euclidean distance of two identity embeddings (128,); below 0.6 it is the same person (see face/identity.py)."""
    return float(np.linalg.norm(embedding - target))


def centred_cosine(embedding: Array, target: Array, centre: Array) -> float:
    """Cosine of two identity embeddings (128,) after subtracting the mean embedding of many people from both.

    Without that, embeddings of different people have a cosine of about 0.84.
    """
    a, b = embedding - centre, target - centre
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))
