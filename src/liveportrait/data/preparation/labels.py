"""The labels of a clip, as stored in shards, and head pose as defined by MediaPipe.

`face.measures.head_pose` assumes an orthographic camera and differs by 2.5 degrees on average from MediaPipe's pose,
which uses a perspective one; `camera_pose` differs by 0.9 (149 clips of a corpus labelled by MediaPipe).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.canonical import canonical_face
from liveportrait.face.measures import fit_similarity
from liveportrait.motion.lifting import AXES, MESH_ROWS
from liveportrait.types import Array

FIELD_OF_VIEW = math.radians(63)  # of the assumed camera, vertical

Labels = dict[str, NDArray[Any]]  # arrays as they are stored in KEY.npz


def make_labels(landmarks: Array, analyzer: FaceAnalyzer) -> Labels:
    """Labels for T faces with landmarks (T,478,3) px of the 256 px crop.

    `rot` (T,3,3) and `trans` (T,3) float16 from `camera_pose`; `bs` (T,52) blendshapes · 255; `lmk` (T,111,2) px of the
    crop · 64, clipped at 0; `meas` (T,) all True: every frame is measured.
    """
    poses = [camera_pose(points, PICTURE_SIDE) for points in landmarks]
    shapes = np.stack([analyzer.blendshapes(Face(points, 1.0)) for points in landmarks])
    return {
        "rot": np.stack([pose.rotation for pose in poses]).astype(np.float16),
        "trans": np.stack([pose.translation for pose in poses]).astype(np.float16),
        "bs": np.round(shapes.clip(0, 1) * 255).astype(np.uint8),
        "lmk": np.round(landmarks[:, list(MESH_ROWS), :2] * 64).clip(0, 65535).astype(np.uint16),
        "meas": np.ones(len(landmarks), bool),
    }


def stored_landmarks(labels: Labels) -> Array:
    """The landmarks (T,111,2) px in labels."""
    return np.asarray(labels["lmk"], np.float32) / np.float32(64)


def single(labels: Labels) -> Labels:
    """The labels of a picture, from those of a one-frame clip: without the first axis and without `meas`."""
    return {name: value[0] for name, value in labels.items() if name != "meas"}


class CameraPose(NamedTuple):
    """Canonical face to camera, column vectors: x right, y up, the camera looks along -z; centimetres."""

    rotation: NDArray[np.float64]  # (3,3)
    translation: NDArray[np.float64]  # (3,)


def camera_pose(landmarks: Array, side: int) -> CameraPose:
    """Pose of a face with landmarks (478,3) px, z away from the camera, in a square crop of `side` px.

    The screen points are moved to the depth at which the canonical face has its true size (two fits give the scale, the
    second on perspective-corrected points); then a weighted Procrustes fit gives the pose. This is the method of
    MediaPipe's face geometry module.
    """
    vertices, weights = canonical_face()
    canonical = (vertices @ AXES).astype(np.float64)
    height = 2 * math.tan(FIELD_OF_VIEW / 2)  # of the picture at unit distance
    unit = landmarks[: len(vertices)].astype(np.float64) / side
    screen = np.stack([(unit[:, 0] - 0.5) * height, (0.5 - unit[:, 1]) * height, unit[:, 2] * height], axis=1)
    depth = 1 + screen[:, 2] - screen[:, 2].mean()

    def in_space(scale: float) -> NDArray[np.float64]:
        away = depth / scale
        return np.stack([screen[:, 0] * away, screen[:, 1] * away, -away], axis=1)

    rough = fit_similarity(canonical, screen * [1, 1, -1], weights)[1]
    scale = rough * fit_similarity(canonical, in_space(rough), weights)[1]
    rotation, _, translation = fit_similarity(canonical, in_space(scale), weights)
    return CameraPose(rotation.T, translation)
