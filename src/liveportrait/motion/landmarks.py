"""Keypoints from a face tracker: M's motion adjusted to measured landmarks.

If a variant's keypoints are named landmarks (`KeypointGroups.keypoints_are_landmarks`), tracking the face has already
measured them, more accurately than M does on its small crop. M still provides what the tracker cannot: identity, scale,
position and depth. For a video it is needed only once: identity is constant, and changes of size and position are
measured (`motion_from_heads`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.engine import Engine
from liveportrait.face.crop import CropWindow
from liveportrait.face.measures import head_pose
from liveportrait.motion.groups import groups_for
from liveportrait.motion.lifting import rigid_centre
from liveportrait.networks import keypoints
from liveportrait.networks.interface import Motion
from liveportrait.types import Array


@dataclass(frozen=True, eq=False)
class SeenKeypoints:
    """A tracker's measurements in N frames: a few numbers each, so that those of an entire video can be kept."""

    points: Array  # (N,21,2) px of the frame
    rotation: Array  # (N,3,3) head pose, row vectors

    @classmethod
    def of(cls, landmarks: Sequence[Array]) -> SeenKeypoints:
        """From the landmarks (478,3) of N faces, px of their frames."""
        points = np.stack([face[list(keypoints.MESH), :2] for face in landmarks])
        return cls(points.astype(np.float32), np.stack([head_pose(face).rotation for face in landmarks]))

    @classmethod
    def joined(cls, parts: Sequence[SeenKeypoints]) -> SeenKeypoints:
        """The keypoints of several frames joined."""
        points = np.concatenate([part.points for part in parts])
        return cls(points, np.concatenate([part.rotation for part in parts]))

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> SeenKeypoints:
        return SeenKeypoints(self.points[rows], self.rotation[rows])

    def through(self, windows: CropWindow | Sequence[CropWindow]) -> SeenKeypoints:
        """The same faces in crops of their frames: points in px of the crop, heads unrolled.

        One window for all frames, or one for each.
        """
        linear, shift = _linear_and_shift(windows)
        turn = np.zeros((len(linear), 3, 3), np.float32)
        turn[:, :2, :2] = linear / np.sqrt(np.linalg.det(linear))[:, None, None]
        turn[:, 2, 2] = 1
        return SeenKeypoints(self.points @ linear + shift[:, None], self.rotation @ turn)


@dataclass(frozen=True, eq=False)
class SeenHeads:
    """A tracker's measurements of one face in N frames: its keypoints, and size and position of its head."""

    keypoints: SeenKeypoints
    scale: Array  # (N,) px of the frame per centimetre
    centre: Array  # (N,2) px of the frame: the middle of the head's rigid points, visible or not

    @classmethod
    def of(cls, landmarks: Sequence[Array]) -> SeenHeads:
        """From the landmarks (478,3) of N faces, px of their frames."""
        poses = [head_pose(face) for face in landmarks]
        points = np.stack([face[list(keypoints.MESH), :2] for face in landmarks]).astype(np.float32)
        middle = rigid_centre()
        return cls(
            SeenKeypoints(points, np.stack([pose.rotation for pose in poses])),
            np.array([pose.scale for pose in poses], np.float32),
            np.stack([(pose.translation + pose.scale * middle @ pose.rotation)[:2] for pose in poses]).astype(
                np.float32
            ),
        )

    @classmethod
    def joined(cls, parts: Sequence[SeenHeads]) -> SeenHeads:
        """The heads of several frames joined."""
        return cls(
            SeenKeypoints.joined([part.keypoints for part in parts]),
            np.concatenate([part.scale for part in parts]),
            np.concatenate([part.centre for part in parts]),
        )

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> SeenHeads:
        return SeenHeads(self.keypoints[rows], self.scale[rows], self.centre[rows])

    def through(self, windows: CropWindow | Sequence[CropWindow]) -> SeenHeads:
        """The same heads in crops of their frames; one window for all frames, or one for each."""
        linear, shift = _linear_and_shift(windows)
        zoom = np.sqrt(np.linalg.det(linear))
        centre = (self.centre[:, None] @ linear)[:, 0] + shift
        return SeenHeads(self.keypoints.through(windows), self.scale * zoom, centre)


def _linear_and_shift(windows: CropWindow | Sequence[CropWindow]) -> tuple[Array, Array]:
    """Windows as affine maps of row vectors: (N,2,2) and (N,2), with N = 1 for one window."""
    matrices = np.stack(
        [window.matrix for window in ([windows] if isinstance(windows, CropWindow) else windows)]
    )
    return matrices[:, :, :2].transpose(0, 2, 1), matrices[:, :, 2]


def motion_from_heads(start: Motion, first: SeenHeads, seen: SeenHeads, size: int) -> Motion:
    """The motion (batch N) of a face that had the motion `start` (batch 1) at `first` (N = 1), in crops of `size` px.

    Identity stays; scale and position change with the head's, rotation is the tracker's; the expression's x and y move
    the keypoints to where they were measured, its depth turns with the head.
    """
    device, count = start.scale.device, len(seen.scale)
    growth = torch.from_numpy(seen.scale / first.scale).to(device)[:, None]
    moved = torch.from_numpy((seen.centre - first.centre) * np.float32(2 / size)).to(device)
    rotation = torch.from_numpy(seen.keypoints.rotation).to(device)
    own = start.expression @ start.rotation.transpose(1, 2)  # in the head's frame
    motion = Motion(
        rotation=rotation,
        translation=start.translation + torch.nn.functional.pad(moved, (0, 1)),
        scale=start.scale * growth,
        canonical=start.canonical.expand(count, -1, -1),
        expression=own @ rotation,
    )
    return snap_to_landmarks(motion, seen.keypoints, size)


def snap_to_landmarks(motion: Motion, seen: SeenKeypoints, size: int) -> Motion:
    """The motion (batch N) with keypoints where they were measured, in crops with sides of `size` px.

    Rotation is the tracker's; the expression's x and y account for the rest: δ = (x − t)/s − x_c R.
    """
    device = motion.scale.device
    rotation = torch.from_numpy(seen.rotation).to(device)
    points = torch.from_numpy(np.asarray(seen.points * np.float32(2 / size) - 1, np.float32)).to(device)
    planar = (points - motion.translation[:, None, :2]) / motion.scale[:, :, None]
    planar = planar - (motion.canonical @ rotation)[..., :2]
    # Depth is not measured: it comes from the turned identity, and M's expression.
    return motion._replace(
        rotation=rotation, expression=torch.cat([planar, motion.expression[..., 2:]], dim=-1)
    )


def extract_motion(
    engine: Engine,
    crops: NDArray[np.uint8],
    seen: SeenKeypoints | None,
    windows: Sequence[CropWindow],
    rows: Sequence[int] | None = None,
) -> Motion:
    """Motions of crops (B,S,S,3) from the engine, with keypoints as measured by the tracker.

    `seen`: the keypoints of the b frames in which the face was found, None if nothing was tracked; `windows`: those of
    their crops, all of one size; `rows` (b): which of the B they are, None for all. If the weights' keypoints are not
    landmarks, the engine's are kept.
    """
    motion = engine.extract_motion(crops)
    if seen is None or not windows or not groups_for(engine.variant).keypoints_are_landmarks:
        return motion
    points = seen.through(windows)
    if rows is None:
        return snap_to_landmarks(motion, points, windows[0].size)
    chosen = torch.tensor(list(rows), device=engine.device)
    snapped = snap_to_landmarks(motion.rows(chosen), points, windows[0].size)
    return Motion(*(whole.index_copy(0, chosen, part) for whole, part in zip(motion, snapped, strict=True)))
