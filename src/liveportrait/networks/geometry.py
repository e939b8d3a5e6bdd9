"""Geometry: rotations and the motion formula of keypoints, grids of pixel centres, and trilinear lookups in a volume.

Keypoints are in the row-vector convention. Lookups have two forms: one native operation, or two-dimensional lookups
only, since some runtimes have no 5-D grid sampling (OpenVINO, Apple's GPUs) or are slow at it. The decomposed form
stacks the slices of the volume into one tall picture, with a copy shifted by one slice as additional channels, so that
a single bilinear lookup fetches both neighbours in depth. Both forms agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
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
    """The posed keypoints of a motion, not pinned."""
    pin = torch.zeros_like(motion.scale)
    return Pose(transform_keypoints(motion), motion.rotation, motion.translation, motion.scale, pin)


Form = Literal["native", "decomposed"]
Padding = Literal["zeros", "border"]

_form: ContextVar[Form | None] = ContextVar("sampling_form", default=None)


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Coordinates (H,W,2) of pixel centres in [-1, 1], x then y; matches grid_sample with align_corners=False."""
    return _kept_grid(height, width) if _is_kept(device) else _grid(height, width, device)


def pixel_centres(count: int, device: torch.device) -> Tensor:
    """Coordinates (count,) of pixel centres in [-1, 1] along one axis."""
    return _kept_centres(count) if _is_kept(device) else _centres(count, device)


def _grid(height: int, width: int, device: torch.device) -> Tensor:
    x, y = _centres(width, device), _centres(height, device)
    return torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)], dim=-1)


def _centres(count: int, device: torch.device) -> Tensor:
    return (torch.arange(count, device=device, dtype=torch.float32) + 0.5) / count * 2 - 1


# A frame takes 25 of these, nearly a millisecond on a CPU. Nobody may write to them. Recorded graphs have their own.
def _is_kept(device: torch.device) -> bool:
    return device.type == "cpu" and not torch.compiler.is_compiling()


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _kept_grid(height: int, width: int) -> Tensor:
    return _grid(height, width, torch.device("cpu"))


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _kept_centres(count: int) -> Tensor:
    return _centres(count, torch.device("cpu"))


def turned_grid(x: Tensor, y: Tensor, axes: Tensor, offset: Tensor) -> Tensor:
    """The points (x, y) @ axes + offset, (B,H,W,2), of a grid with columns x (W,) and rows y (H,).

    axes (B,2,2), offset (B,2). One sum per point; a product of two-column matrices takes ten times as long.
    """
    across = x[:, None] * axes[:, None, 0]  # (B,W,2)
    down = y[:, None] * axes[:, None, 1] + offset[:, None]  # (B,H,2)
    return across[:, None] + down[:, :, None]


def plane(x: Tensor, y: Tensor, axis: Tensor, centre: Tensor) -> Tensor:
    """Distances (B,H,W) of the points of a grid, columns x (W,) and rows y (H,), from a centre along an axis.

    axis and centre (B,2).
    """
    down = y * axis[:, 1:] - (centre * axis).sum(1, keepdim=True)  # (B,H)
    return (x * axis[:, :1])[:, None] + down[:, :, None]


@contextmanager
def sampling_form(form: Form) -> Iterator[None]:
    """A block in which `sample_volume` uses this form in this thread; by default it uses what suits the device."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def sample_volume(volume: Tensor, grid: Tensor, padding: Padding) -> Tensor:
    """The volume (B,C,D,H,W) at grid (B,d,h,w,3), (x, y, z) in [-1, 1] with ±1 half a cell outside: (B,C,d,h,w).

    Outside the volume are zeros, or its replicated border. Both tensors are float32.
    """
    form = _form.get() or _suitable_form(volume)
    if form == "native":
        return F.grid_sample(volume, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return _decomposed(volume, grid, padding)


def _suitable_form(volume: Tensor) -> Form:
    """The decomposed form if there is no other, and on a CPU, where it takes 1.3 ms instead of 2.3 for COMPACT."""
    device = volume.device.type
    return "decomposed" if device == "mps" or (device == "cpu" and not torch.is_grad_enabled()) else "native"


def _decomposed(volume: Tensor, grid: Tensor, padding: Padding) -> Tensor:
    size = grid.new_tensor(volume.shape[:1:-1])  # (W, H, D)
    cell = ((grid + 1) * size - 1) / 2  # in cells, 0 is the centre of the first
    if padding == "zeros":  # the same as a border of zeros that continues
        volume = F.pad(volume, (1, 1, 1, 1, 1, 1))
        cell, size = cell + 1, size + 2
    depth, height, width = volume.shape[2:]
    x, y, z = cell.flatten(1, 2).unbind(-1)  # (B, d·h, w)
    y, z = y.clamp(0, height - 1), z.clamp(0, depth - 1)
    slice_below = z.floor()
    share = (z - slice_below)[:, None]  # (B, 1, d·h, w) of the slice above

    tall = volume.flatten(2, 3)  # (B, C, D·H, W)
    shifted = torch.cat([tall[:, :, height:], tall[:, :, -height:]], dim=2)
    where = torch.stack(
        [(2 * x + 1) / width - 1, (2 * (slice_below * height + y) + 1) / (depth * height) - 1], -1
    )
    both = F.grid_sample(
        torch.cat([tall, shifted], dim=1), where, mode="bilinear", padding_mode="border", align_corners=False
    )
    below, above = both.chunk(2, dim=1)
    return torch.lerp(below, above, share).unflatten(2, grid.shape[1:3])
