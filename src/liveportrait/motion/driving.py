"""Driving poses after the transfer: driving option and multiplier, and where other points of the face go with them.

Poses are kept consistent with their keypoints, because a warping module may use both.
"""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
from torch import Tensor

from liveportrait.motion.kalman import nearest_rotation
from liveportrait.networks.interface import Pose

REACH = 0.15  # of a keypoint's expression, in units of the crop (half its side is 1)
_BASE = 0.1  # weight of staying with the head: far from all keypoints nothing but the head moves


def hull_volume(points: Tensor) -> float:
    """Volume of the convex hull of points (K,3); 0 for points in one plane.

    Every triple of points spans a plane; those with all points on one side carry a face of the hull.
    The volume is that of the pyramids from an inner point to the faces. Meant for the 21 keypoints:
    the work grows with K⁴.
    """
    cloud = points.detach().double().cpu().numpy()
    inner = cloud.mean(axis=0)
    extent = float(np.abs(cloud - inner).max())
    if extent == 0.0:
        return 0.0
    cloud = (cloud - inner) / extent
    tolerance = 1e-9
    faces: dict[frozenset[int], float] = {}
    for triple in combinations(range(len(cloud)), 3):
        corner, second, third = cloud[list(triple)]
        normal = np.cross(second - corner, third - corner)
        length = float(np.linalg.norm(normal))
        if length < tolerance:
            continue
        normal /= length
        height = (cloud - corner) @ normal
        if height.max() > tolerance and height.min() < -tolerance:
            continue
        on_plane = frozenset(np.flatnonzero(np.abs(height) <= tolerance).tolist())
        if on_plane not in faces:
            area = _planar_hull_area(cloud[sorted(on_plane)], normal, (second - corner))
            faces[on_plane] = area * abs(float(corner @ normal)) / 3.0
    return sum(faces.values()) * extent**3


def _planar_hull_area(points: np.ndarray, normal: np.ndarray, along: np.ndarray) -> float:
    first = along / np.linalg.norm(along)
    flat = np.stack([points @ first, points @ np.cross(normal, first)], axis=1).astype(np.float32)
    return float(cv2.contourArea(cv2.convexHull(flat)))


def size_ratio(source: Pose, first: Pose) -> float:
    """m = √V(x_s) / √V(x_d,0) of two poses (batch 1), V the volume of the keypoints' convex hull.

    1 where the driver's keypoints span no volume.
    """
    volume = hull_volume(first.keypoints[0])
    return (hull_volume(source.keypoints[0]) / volume) ** 0.5 if volume > 0 else 1.0


def expression_friendly(source: Pose, driving: Pose, first: Pose, ratio: float) -> Pose:
    """x_s + m·(x_d − x_d,0): absolute driving keypoints replayed from where the source is.

    `ratio` is m, the `size_ratio` of source and first, which brings the amplitude of the driver's face to
    the size of the source's. `source` and `first` have batch 1. With relative motion x_d,0 is x_s and m
    is 1, so this would change nothing there.
    """
    return Pose(
        keypoints=source.keypoints + ratio * (driving.keypoints - first.keypoints),
        rotation=driving.rotation @ first.rotation.transpose(1, 2) @ source.rotation,
        translation=source.translation + ratio * (driving.translation - first.translation),
        scale=source.scale * driving.scale / first.scale,
        pin=driving.pin,
    )


def amplify(source: Pose, driving: Pose, multiplier: float) -> Pose:
    """x_s + (x_d − x_s)·multiplier, the rigid motion along with it: 0 is the source, 1 the driver.

    Position and scale follow the same line; the rotation is the nearest one to that line's point.
    """
    if multiplier == 1.0:
        return driving

    def blend(start: Tensor, end: Tensor) -> Tensor:
        return start + (end - start) * multiplier

    return Pose(
        keypoints=blend(source.keypoints, driving.keypoints),
        rotation=nearest_rotation(blend(source.rotation, driving.rotation)),
        translation=blend(source.translation, driving.translation),
        scale=blend(source.scale, driving.scale).clamp(min=0.1 * float(source.scale.min())),
        pin=driving.pin,
    )


def move_points(points: Tensor, source: Pose, driving: Pose) -> Tensor:
    """Points (P,3) of the source's face, in the coordinates of its crop, as they lie in driving poses: (B,P,3).

    They turn and move with the head, and near a keypoint along with what it does beyond that. `source` has batch B
    or 1.
    """
    rigid = _move_rigidly(points[None], source, driving)
    beyond = driving.keypoints - _move_rigidly(source.keypoints, source, driving)
    distance = (points[None, :, None, :2] - source.keypoints[:, None, :, :2]).square().sum(-1)
    weight = (-distance / (2 * REACH**2)).exp()  # (B or 1, P, 21)
    return rigid + (weight @ beyond) / (weight.sum(-1, keepdim=True) + _BASE)


def _move_rigidly(points: Tensor, source: Pose, driving: Pose) -> Tensor:
    """Points moved rigidly from the source's pose to the driving ones."""
    own = (points - source.translation[:, None]) / source.scale[:, :, None] @ source.rotation.transpose(1, 2)
    return driving.scale[:, :, None] * (own @ driving.rotation) + driving.translation[:, None]
