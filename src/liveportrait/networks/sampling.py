"""Grids of pixel centres, and trilinear lookups in a volume.

Lookups have two forms: one native operation, or two-dimensional lookups alone. Some runtimes have no 5-D grid sampling
(OpenVINO, Apple's GPUs) or are slow at it. The decomposed form stacks the slices of the volume on top of each other
into one tall picture, and every channel beside itself one slice further, so that a single bilinear lookup brings both
neighbours in depth. Both forms agree up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Form = Literal["native", "decomposed"]
Padding = Literal["zeros", "border"]

_form: ContextVar[Form | None] = ContextVar("sampling_form", default=None)


def pixel_grid(height: int, width: int, device: torch.device) -> Tensor:
    """Coordinates (H,W,2) of pixel centres in [-1, 1], x then y; matches grid_sample with align_corners=False."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width * 2 - 1
    return torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)], dim=-1)


@contextmanager
def sampling_form(form: Form) -> Iterator[None]:
    """Within it, this thread's `sample_volume` takes that form; without it, what suits the device."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def sample_volume(volume: Tensor, grid: Tensor, padding: Padding) -> Tensor:
    """The volume (B,C,D,H,W) at grid (B,d,h,w,3), (x, y, z) in [-1, 1] with ±1 half a cell outside: (B,C,d,h,w).

    Beyond the volume lie zeros, or its border continues. Both tensors are float32.
    """
    form = _form.get() or ("decomposed" if volume.device.type == "mps" else "native")
    if form == "native":
        return F.grid_sample(volume, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return _decomposed(volume, grid, padding)


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
