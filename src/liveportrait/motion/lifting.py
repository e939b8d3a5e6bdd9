"""From 2-D landmarks to the paper's motion: lifts the landmarks that are keypoints to 3-D.

Labels have 111 landmarks in the picture plane, a head rotation and blendshape scores. The canonical face mesh
supplies depth; scale and translation follow by least squares on rigid points; what remains of each keypoint
in the head's own frame is identity (constant in a clip) plus expression (linear in blendshapes).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.face.canonical import LEFT_EYE_LIDS, RIGHT_EYE_LIDS, canonical_face
from liveportrait.networks import keypoints
from liveportrait.networks.interface import HALF_SIDE, Motion
from liveportrait.types import Array

# The 111 landmarks of the labels as rows of the 478-point mesh.
JAW_MESH = (127, 234, 93, 132, 58, 172, 136, 150, 152, 379, 365, 397, 288, 361, 323, 454, 356)
BROWS_MESH = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
NOSE_MESH = (168, 197, 5, 4, 75, 97, 2, 326, 305)
RIGHT_EYE_MESH = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE_MESH = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
OUTER_LIPS_MESH = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS_MESH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_IRIS_MESH, LEFT_IRIS_MESH = 468, 473
MESH_ROWS = (
    *JAW_MESH, *BROWS_MESH, *NOSE_MESH, *RIGHT_EYE_MESH, *LEFT_EYE_MESH, *OUTER_LIPS_MESH, *INNER_LIPS_MESH,
    RIGHT_IRIS_MESH, LEFT_IRIS_MESH, 10,
)  # fmt: skip  # at the end irises and forehead

KEYPOINTS = tuple(MESH_ROWS.index(row) for row in keypoints.MESH)  # rows of the labels that are keypoints
RIGID_MESH = (168, 197, 5, 33, 133, 362, 263, 127, 356, 234, 454, 93, 323, 10, 97, 326)
RIGID = tuple(MESH_ROWS.index(row) for row in RIGID_MESH)
# From the labels' frame (x right, y up, z near) to the picture's (x right, y down, z away).
AXES = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
# |det| of the rotated picture plane above which planar positions are reliable, and below which they are not.
FRONTAL, TURNED = 0.6, 0.3
RIDGE = 3.0


def canonical_points() -> tuple[Array, Array]:
    """Keypoints (21,3) and rigid points (16,3) of the mean face; rigid points centred, with unit RMS radius."""
    mesh = canonical_face().vertices
    # The mesh ends at the lids; an iris lies between them.
    irises = {
        keypoints.RIGHT_IRIS: mesh[list(RIGHT_EYE_LIDS)].mean(0),
        keypoints.LEFT_IRIS: mesh[list(LEFT_EYE_LIDS)].mean(0),
    }
    points = np.stack([irises[k] if k in irises else mesh[row] for k, row in enumerate(keypoints.MESH)])
    rigid, centre, radius = mesh[list(RIGID_MESH)], rigid_centre(), rigid_radius()
    return ((points - centre) / radius).astype(np.float32), ((rigid - centre) / radius).astype(np.float32)


def rigid_centre() -> Array:
    """Mean (3,) of the canonical face mesh's rigid points, cm: the origin, whose position is the translation t."""
    return canonical_face().vertices[list(RIGID_MESH)].mean(0)


@cache
def rigid_radius() -> float:
    """RMS radius of the canonical face mesh's rigid points, cm: the unit of keypoints, which the scale s multiplies."""
    rigid = canonical_face().vertices[list(RIGID_MESH)] - rigid_centre()
    return float(np.sqrt((rigid**2).sum(1).mean()))


def lift(
    landmarks: Array,
    rotation: Array,
    blendshapes: Array,
    clip: NDArray[np.int64],
    effect: Array | None = None,
) -> Motion:
    """Motion of N labelled frames: landmarks (N,111,2) px of 256, rotation (N,3,3) camera y up, clip (N,) numbers.

    `effect` (52,63): how keypoints depend on blendshapes, if `measure_effect` measured it on other clips; by default
    it is measured on these.
    """
    turn, scale, shift, local = _in_head_frame(landmarks, rotation)
    canonical, trust = _turn_back(local, turn)
    if effect is None:
        effect = expression_effect(canonical, blendshapes, clip, trust)
    neutral = canonical - (blendshapes @ effect).reshape(canonical.shape)
    identity = np.empty_like(neutral)
    for number in np.unique(clip):
        rows = clip == number
        weight = trust[rows, None, None] ** 4 + 1e-3
        identity[rows] = (neutral[rows] * weight).sum(0) / weight.sum()
    translation = np.concatenate([shift, np.zeros_like(scale)], 1)
    expression = canonical @ turn - identity @ turn
    expression[..., :2] = local - (identity @ turn)[..., :2]  # the picture plane is measured, not modelled
    parts = (turn, translation, scale, identity, expression.astype(np.float32))
    return Motion(*(torch.from_numpy(part) for part in parts))


def measure_effect(landmarks: Array, rotation: Array, blendshapes: Array, clip: NDArray[np.int64]) -> Array:
    """The effect of blendshapes on keypoints (52,63) in a sample of clips, for `lift` of clips one at a time."""
    turn, _, _, local = _in_head_frame(landmarks, rotation)
    canonical, trust = _turn_back(local, turn)
    return expression_effect(canonical, blendshapes, clip, trust)


def _in_head_frame(landmarks: Array, rotation: Array) -> tuple[Array, Array, Array, Array]:
    """Rotation (N,3,3) for row vectors, scale (N,1), shift (N,2), and keypoints (N,21,2) without scale and shift."""
    points = (landmarks / HALF_SIDE - 1).astype(np.float32)
    turn = label_turns(rotation)
    _, rigid = canonical_points()
    scale, shift = _fit_rigid(points[:, RIGID], (rigid @ turn)[..., :2])
    return turn, scale, shift, (points[:, KEYPOINTS] - shift[:, None]) / scale[:, :, None]


def label_turns(rotation: Array) -> Array:
    """Head poses (N,3,3) of labels, for row vectors in the picture's axes."""
    u, _, v = np.linalg.svd(AXES @ rotation @ AXES)
    return np.ascontiguousarray((u @ v).transpose(0, 2, 1))


@cache
def mean_landmarks() -> Array:
    """The labels' landmarks (111,3) on the mean face; rigid points centred, with unit RMS radius."""
    mesh = canonical_face().vertices
    lids = {RIGHT_IRIS_MESH: RIGHT_EYE_LIDS, LEFT_IRIS_MESH: LEFT_EYE_LIDS}  # the mesh stops at them
    points = np.stack([mesh[list(lids.get(row, (row,)))].mean(0) for row in MESH_ROWS])
    return ((points - rigid_centre()) / rigid_radius()).astype(np.float32)


class FlatFaces(NamedTuple):
    """Landmarks of N faces with head pose, size and position removed."""

    landmarks: Array  # (N,111,2) in the head's own frame, minus the mean face's
    unit: Array  # (N,) the rigid points' RMS radius, in units of `flattened`'s points
    trust: Array  # (N,) |det| of the rotated picture plane: 1 for a frontal face, 0 for a profile


def flattened(points: Array, turn: Array) -> FlatFaces:
    """Landmarks (N,111,2), in any unit, of heads with rotations (N,3,3), rotated back at the mean face's depth."""
    mean = mean_landmarks()
    scale, shift = _fit_rigid(points[:, RIGID], (mean[list(RIGID)] @ turn)[..., :2])
    local = (points - shift[:, None]) / scale[:, :, None]
    planar = turn[:, :2, :2]
    flat = (local - mean[:, 2:] * turn[:, None, 2, :2]) @ np.linalg.inv(planar)
    trust = np.abs(np.linalg.det(planar)).astype(np.float32)
    return FlatFaces((flat - mean[:, :2]).astype(np.float32), scale[:, 0], trust)


def _fit_rigid(seen: Array, model: Array) -> tuple[Array, Array]:
    """Scale (N,1) and shift (N,2) so that scale·model + shift is closest to `seen` (N,P,2)."""
    seen_centre, model_centre = seen.mean(1, keepdims=True), model.mean(1, keepdims=True)
    centred = model - model_centre
    scale = ((seen - seen_centre) * centred).sum((1, 2)) / (centred**2).sum((1, 2))
    shift = seen_centre[:, 0] - scale[:, None] * model_centre[:, 0]
    return scale[:, None].astype(np.float32), shift.astype(np.float32)


def _turn_back(local: Array, turn: Array) -> tuple[Array, Array]:
    """Keypoints (N,21,3) in the head's frame, at the mean face's depth, and how far to trust each frame (N,)."""
    mean_face, _ = canonical_points()
    depth = np.broadcast_to(mean_face[:, 2], local.shape[:2])
    planar = turn[:, :2, :2]
    flat = (local - depth[..., None] * turn[:, None, 2, :2]) @ np.linalg.inv(planar)
    trust = np.abs(np.linalg.det(planar)).astype(np.float32)
    keep = np.clip((trust - TURNED) / (FRONTAL - TURNED), 0, 1)[:, None, None]
    flat = keep * flat + (1 - keep) * mean_face[:, :2]
    return np.concatenate([flat, depth[..., None]], -1).astype(np.float32), trust


def expression_effect(canonical: Array, blendshapes: Array, clip: NDArray[np.int64], trust: Array) -> Array:
    """The effect of blendshapes on keypoints (52,63), by ridge regression within clips (identity cancels)."""
    inputs, outputs = [], []
    for number in np.unique(clip):
        rows = (clip == number) & (trust > FRONTAL)
        if rows.sum() >= 8:
            inputs.append(blendshapes[rows] - blendshapes[rows].mean(0))
            flat = canonical[rows].reshape(rows.sum(), -1)
            outputs.append(flat - flat.mean(0))
    if not inputs:
        return np.zeros((blendshapes.shape[1], canonical[0].size), np.float32)
    x, y = np.concatenate(inputs), np.concatenate(outputs)
    return np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y).astype(np.float32)
