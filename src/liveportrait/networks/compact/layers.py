"""Layers that the compact networks share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LAST = torch.channels_last


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size (divided by the stride)."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


class ConvNorm(nn.Sequential):
    """Dense convolution, batch norm, ReLU: the norm can be folded, and bf16 matrix units are used."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class JoiningConvNorm(ConvNorm):
    """The same on two concatenated maps: one of half the size, upsampled, and one of this size."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__(coarse + fine, outputs)
        self.coarse_channels = coarse

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([double(coarse), fine], 1))


class JoiningConv(nn.Conv2d):
    """A 3x3 convolution on two concatenated maps: one of half the size, upsampled, and one of this size."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__(coarse + fine, outputs, kernel_size=3, padding=1)
        self.coarse_channels = coarse

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([double(coarse), fine], 1))


class NormResidual(nn.Module):
    """Residual block with batch norm; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


class Residual(nn.Module):
    """Pre-activation residual block without norm; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def sample(features: Tensor, grid: Tensor) -> Tensor:
    """Bilinear lookup of features (B,C,H,W) at grid (B,h,w,2) in [-1, 1]; the border is replicated outside."""
    return F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)


def rows_of(x: Tensor) -> Tensor:
    """The cells of a map (B,C,H,W) as rows (B,HW,C), with the channels of each cell contiguous.

    On a CPU PyTorch transposes matrices in blocks but maps cell by cell: 64 channels at 64x64 take 0.15 ms as a matrix
    and 0.73 ms as a map.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or x.is_contiguous(memory_format=_LAST):
        return x.flatten(2).transpose(1, 2)
    return _stacked([row.flatten(1).t().contiguous() for row in x])


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    return rows[0][None] if len(rows) == 1 else torch.stack(tuple(rows))  # stacking copies even one


def map_of(rows: Tensor, size: Sequence[int]) -> Tensor:
    """The map (B,C,H,W) of cells (B,HW,C), channels-last if these are contiguous."""
    return rows.unflatten(1, tuple(size)).permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    """The map (B,C,H,W) in the memory format that suits convolutions best."""
    return map_of(rows_of(x), x.shape[-2:]).contiguous(memory_format=_LAST)


def planes(x: Tensor) -> Tensor:
    """The map (B,C,H,W) in the plain memory format, one plane per channel: the inverse of `rows_of`."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or x.is_contiguous():
        return x.contiguous()
    cells = x.permute(0, 2, 3, 1).flatten(1, 2)
    return _stacked([row.t().contiguous() for row in cells]).unflatten(2, tuple(x.shape[-2:]))


def unshuffled(x: Tensor) -> Tensor:
    """`F.pixel_unshuffle(x, 2)` of maps (B,C,2H,2W); on a CPU in a third of the time."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.pixel_unshuffle(x, 2)
    batch, channels, height, width = x.shape
    fours = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return fours.reshape(batch, 4 * channels, height // 2, width // 2)


def shuffled(x: Tensor) -> Tensor:
    """`F.pixel_shuffle(x, 2)` of maps (B,4C,H,W) as planes (B,C,2H,2W); PyTorch's own copies number by number."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.pixel_shuffle(x, 2)
    fours = planes(x).unflatten(1, (-1, 2, 2))  # (B,C,2,2,H,W)
    rows = torch.stack([fours[:, :, :, 0], fours[:, :, :, 1]], -1).flatten(-2)  # (B,C,2,H,2W)
    return rows.transpose(2, 3).flatten(2, 3)
