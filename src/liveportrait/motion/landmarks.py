"""Keypoints where a face tracker saw them: M's motion brought into agreement with measured landmarks.

Where a variant's keypoints are named landmarks (`KeypointGroups.measured`), following the face has measured
them already, more exactly than M does on its small crop. M still says what the tracker cannot: identity,
scale, position and depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.face.crop import CropWindow
from liveportrait.face.pose import head_pose
from liveportrait.motion.lifting import KEYPOINT_MESH
from liveportrait.networks.interface import Motion

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SeenKeypoints:
    """What a tracker knows of N frames: a few numbers each, so that a whole video's can be kept."""

    points: Array  # (N,21,2) px of the frame
    rotation: Array  # (N,3,3) head pose, row vectors

    @classmethod
    def of(cls, landmarks: Sequence[Array]) -> SeenKeypoints:
        """Of N faces' landmarks (478,3), px of their frames."""
        points = np.stack([face[list(KEYPOINT_MESH), :2] for face in landmarks])
        return cls(points.astype(np.float32), np.stack([head_pose(face).rotation for face in landmarks]))

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> SeenKeypoints:
        return SeenKeypoints(self.points[rows], self.rotation[rows])

    def through(self, window: CropWindow) -> SeenKeypoints:
        """The same faces as a crop of their frames shows them: points in px of the crop, the head unrolled."""
        linear = window.matrix[:, :2]
        turn = np.eye(3, dtype=np.float32)
        turn[:2, :2] = linear.T / np.sqrt(np.linalg.det(linear))
        return SeenKeypoints(self.points @ linear.T + window.matrix[:, 2], self.rotation @ turn)


def agree(motion: Motion, seen: SeenKeypoints, size: int) -> Motion:
    """The motion (batch N) whose keypoints lie where they were seen, on crops with sides of `size` px.

    Rotation is the tracker's; the expression's x and y take up the rest: δ = (x − t)/s − x_c R.
    """
    device = motion.scale.device
    rotation = torch.from_numpy(seen.rotation).to(device)
    points = torch.from_numpy(np.asarray(seen.points * np.float32(2 / size) - 1, np.float32)).to(device)
    planar = (points - motion.translation[:, None, :2]) / motion.scale[:, :, None]
    planar = planar - (motion.canonical @ rotation)[..., :2]
    # Depth is not seen: turning the identity moves it, what M found in its expression stays.
    return motion._replace(
        rotation=rotation, expression=torch.cat([planar, motion.expression[..., 2:]], dim=-1)
    )
