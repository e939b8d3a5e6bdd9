"""Keypoint geometry in the row-vector convention: rotations, pose bins, the motion formula."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.networks.interface import Motion, Pose

POSE_BINS = 66


def decode_pose_bins(logits: Tensor) -> Tensor:
    """Expected angle in degrees (B,) of pose-bin logits (B,66): 3·Σ i·softmax(logits)_i − 97.5."""
    index = torch.arange(POSE_BINS, dtype=logits.dtype, device=logits.device)
    return 3.0 * (logits.softmax(dim=1) * index).sum(dim=1) - 97.5


def rotation_matrix(pitch: Tensor, yaw: Tensor, roll: Tensor) -> Tensor:
    """Rotations (B,3,3) for row vectors, R = (Rz(roll)·Ry(yaw)·Rx(pitch))ᵀ, from degrees (B,)."""
    p, y, r = (angle.deg2rad() for angle in (pitch, yaw, roll))
    cp, sp, cy, sy, cr, sr = p.cos(), p.sin(), y.cos(), y.sin(), r.cos(), r.sin()
    rows = [
        torch.stack([cr * cy, sr * cy, -sy], dim=-1),
        torch.stack([cr * sy * sp - sr * cp, sr * sy * sp + cr * cp, cy * sp], dim=-1),
        torch.stack([cr * sy * cp + sr * sp, sr * sy * cp - cr * sp, cy * cp], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def euler_degrees(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pitch, yaw, roll in degrees (B,) of rotations (B,3,3): the inverse of `rotation_matrix` for |yaw| < 90."""
    yaw = torch.asin((-rotation[..., 0, 2]).clamp(-1, 1))
    pitch = torch.atan2(rotation[..., 1, 2], rotation[..., 2, 2])
    roll = torch.atan2(rotation[..., 0, 1], rotation[..., 0, 0])
    return pitch.rad2deg(), yaw.rad2deg(), roll.rad2deg()


def transform_keypoints(motion: Motion) -> Tensor:
    """Keypoints x (B,21,3) = s·(x_c R + δ) + t (paper eq. 2); t has no z: depth is not translated."""
    turned = motion.canonical @ motion.rotation + motion.expression
    return motion.scale[:, :, None] * turned + without_depth(motion.translation)[:, None]


def without_depth(translation: Tensor) -> Tensor:
    """Translations (B,3) with z = 0."""
    return torch.cat([translation[:, :2], torch.zeros_like(translation[:, 2:])], dim=1)


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations (...,3,3) nearest to matrices (...,3,3) in the Frobenius norm (Kabsch, by SVD)."""
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.ones_like(matrices[..., 0])
    sign[..., 2] = torch.linalg.det(u @ vt)
    return (u * sign[..., None, :]) @ vt


def pose_of(motion: Motion) -> Pose:
    """The posed keypoints of a motion; nothing is held."""
    pin = torch.zeros_like(motion.scale)
    return Pose(transform_keypoints(motion), motion.rotation, motion.translation, motion.scale, pin)
