"""Measurements of a face from its landmarks: head pose, openings of eyes and lips, expression scores.

Openings are height over width, as the published retargeting networks expect them. The published program uses 203
landmarks; here they are the mesh points at the same places (middle of the lids and of the inner lips, corners of the
eyes, outer corners of the mouth). They do not depend on the size, place or roll of the face.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.face import canonical as mesh
from liveportrait.face.analyzer import Face, FaceAnalyzer
from liveportrait.face.canonical import EYE_BLINK, EYE_LOOK, NEUTRAL, canonical_face
from liveportrait.networks.compact.painter import HEIGHT, WIDTH, patch_cues
from liveportrait.networks.keypoints import MESH, MOUTH, MOUTH_CORNERS, OUTER_LIPS
from liveportrait.types import Array, Image

EPSILON = 1e-6
TURN = 30.0  # degrees: a head turned this far counts as much as one blendshape at full
# Weight of a difference from the source's face, relative to the strength of the expression itself
DIFFERENCE = 2.0
MOUTH_HALF_WIDTH = 5.0  # cm, of the patch around a mouth
LIP_WEIGHT = 6.0  # of the lips' opening, relative to a blendshape score


class HeadPose(NamedTuple):
    """landmarks ≈ scale · canonical @ rotation + translation, in the row-vector convention of `networks`."""

    rotation: Array  # (3,3) orthonormal, determinant 1
    scale: float  # px of the picture per centimetre
    translation: Array  # (3,) px: where the middle of the head lies


def head_pose(landmarks: Array) -> HeadPose:
    """Weighted Procrustes fit of the canonical face to landmarks (468 or more, 3), x right, y down, z away.

    Assumes an orthographic camera: the perspective of a face far from the picture's centre comes out as rotation.
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
    """Opening of the mouth (1,) from landmarks (478, 2 or more) px: 0 closed, 0.3 or more when speaking."""
    return np.array([_ratio(landmarks, mesh.INNER_LIPS, mesh.MOUTH_CORNERS)], np.float32)


def opening_ratios(landmarks: Array) -> Array:
    """Openings (3,) of the eye on the picture's left, the other eye and the mouth, from landmarks (478, 2 or more)."""
    return np.concatenate([eye_ratios(landmarks), lip_ratio(landmarks)])


def mouth_cues(picture: Image, landmarks: Array) -> Array:
    """Appearance cues of the mouth (5,), see `patch_cues`, from a picture (H,W,3) and its landmarks (478,3) px."""
    middle = landmarks[[MESH[keypoint] for keypoint in (*MOUTH_CORNERS, *OUTER_LIPS)], :2].mean(0)
    to_patch = upright_patch(landmarks, middle, MOUTH_HALF_WIDTH, WIDTH, HEIGHT)
    points = landmarks[[MESH[keypoint] for keypoint in MOUTH], :2]
    shape = ((points - middle) @ to_patch[:, :2].T * (2 / WIDTH)).astype(np.float32)
    patch = cv2.warpAffine(picture, to_patch, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    pixels = torch.from_numpy(patch).permute(2, 0, 1)[None].float() / 255
    return patch_cues(pixels, torch.from_numpy(shape)[None])[0].numpy()


def upright_patch(landmarks: Array, middle: Array, half_width: float, width: int, height: int) -> Array:
    """Matrix (2,3) from px of a picture to px of a patch (height,width) of a face with landmarks (478,3) px.

    The patch is centred on `middle` (2,) px and turns and scales with the head: half its width is `half_width` cm of
    the canonical face.
    """
    pose = head_pose(landmarks)
    right = pose.rotation[0, :2] / max(float(np.linalg.norm(pose.rotation[0, :2])), EPSILON)
    turn = np.array([right, [-right[1], right[0]]]) * (width / 2 / (half_width * pose.scale))
    shift = np.array([width - 1, height - 1]) / 2 - turn @ middle
    return np.asarray(np.concatenate([turn, shift[:, None]], 1), np.float32)


def _ratio(landmarks: Array, height: tuple[int, int], width: tuple[int, int]) -> float:
    up, down, left, right = landmarks[[*height, *width], :2].astype(np.float64)
    return float(np.linalg.norm(up - down) / (np.linalg.norm(left - right) + EPSILON))


def face_scores(analyzer: FaceAnalyzer, face: Face) -> Array:
    """Scores (53,): 52 blendshapes, with gaze zeroed and blinks doubled, and the opening of the lips times 6.

    Blendshapes say little about the lips: in speech the lips part much more often than the jaw opens.
    """
    scores = analyzer.blendshapes(face).astype(np.float32)
    scores[[NEUTRAL, *EYE_LOOK]] = 0.0
    scores[list(EYE_BLINK)] *= 2.0
    return np.append(scores, LIP_WEIGHT * lip_ratio(face.landmarks)).astype(np.float32)


def neutral_distance(analyzer: FaceAnalyzer, face: Face) -> float:
    """How far a face is from a neutral one that looks into the camera; 0 is exactly neutral.

    The sum of its scores, plus the head's angle divided by 30°.
    """
    turn = torch.from_numpy(head_pose(face.landmarks).rotation)
    return float(face_scores(analyzer, face).sum()) + float(turn_degrees(turn)) / TURN


def similarity_cost(scores: Array, source: Array | None) -> float:
    """Cost of starting from a driver's face with these scores, given the source's; 0 for two neutral faces.

    A low cost means that the motion starts from the same expression on both faces: a driver who starts with an open
    mouth then does not make closed lips close further. Where the faces differ, a calm one is the smaller mistake.
    Without a source, the most neutral face costs least.
    """
    wanted = np.zeros_like(scores) if source is None else source
    return float(DIFFERENCE * np.abs(scores - wanted).sum() + scores.sum())


def turn_degrees(rotation: Tensor) -> Tensor:
    """The angles (...) by which rotations (...,3,3) turn, degrees."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()
