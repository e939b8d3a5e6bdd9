"""The labels of a clip, in the form in which shards store them."""

from __future__ import annotations

import numpy as np

from liveportrait.data.preparation.camera_pose import camera_pose
from liveportrait.data.preparation.records import Array, Labels, Window
from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.motion.lifting import MESH_ROWS


def make_labels(landmarks: Array, window: Window, analyzer: FaceAnalyzer) -> Labels:
    """Labels of T faces with landmarks (T,478,3) px of the input, as seen through `window`.

    `rot` (T,3,3) and `trans` (T,3) float16 as `camera_pose` says; `bs` (T,52) blendshapes · 255; `lmk` (T,111,2)
    px of the crop · 64, cut off at 0; `meas` (T,) all True: every frame is measured.
    """
    seen = window.to_crop(landmarks, PICTURE_SIDE)
    poses = [camera_pose(points, PICTURE_SIDE) for points in seen]
    shapes = np.stack([analyzer.blendshapes(Face(points, 1.0)) for points in seen])
    return {
        "rot": np.stack([pose.rotation for pose in poses]).astype(np.float16),
        "trans": np.stack([pose.translation for pose in poses]).astype(np.float16),
        "bs": np.round(shapes.clip(0, 1) * 255).astype(np.uint8),
        "lmk": np.round(seen[:, list(MESH_ROWS), :2] * 64).clip(0, 65535).astype(np.uint16),
        "meas": np.ones(len(seen), bool),
    }


def stored_landmarks(labels: Labels) -> Array:
    """The landmarks (T,111,2) px of labels."""
    return np.asarray(labels["lmk"], np.float32) / np.float32(64)


def single(labels: Labels) -> Labels:
    """The labels of a picture: those of a clip of one frame without their first axis, and without `meas`."""
    return {name: value[0] for name, value in labels.items() if name != "meas"}
