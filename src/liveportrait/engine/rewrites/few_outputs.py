"""Convolutions with few outputs, whose taps become outputs of their own.

Processors compute 16 channels or more at once, so that 1 output costs as much as 16 and 22 as much as 32. A
convolution is also the sum of its taps, each a convolution with a smaller kernel, shifted: with the taps' outputs
side by side no lane is idle, and the shifts and sums cost next to nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PixelTaps(nn.Module):
    """A 2-D convolution with one output, of odd width and of the same size: a 1x1 convolution, then shifts.

    The shifts and their sum are a convolution too, with one 1 for each tap.
    """

    shifts: Tensor

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        _, inputs, height, width = convolution.weight.shape
        taps = height * width
        self.weight = nn.Parameter(convolution.weight.permute(2, 3, 0, 1).reshape(taps, inputs, 1, 1))
        self.bias = convolution.bias
        shifts = torch.eye(taps, dtype=self.weight.dtype, device=self.weight.device)
        self.register_buffer("shifts", shifts.view(1, taps, height, width), persistent=False)
        self.padding = (height // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B,1,H,W) of (B,C,H,W)."""
        return F.conv2d(F.conv2d(x, self.weight), self.shifts, self.bias, padding=self.padding)


class SliceTaps(nn.Module):
    """A 3-D convolution of odd depth and of the same size: a 2-D one of every slice, then shifts in depth."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.outputs, self.depth = convolution.out_channels, convolution.kernel_size[0]
        self.weight = nn.Parameter(convolution.weight.transpose(1, 2).transpose(0, 1).flatten(0, 1))
        self.bias = convolution.bias
        self.padding = (convolution.kernel_size[1] // 2, convolution.kernel_size[2] // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B,O,D,H,W), float32, of (B,C,D,H,W)."""
        slices = x.transpose(1, 2)  # (B, D, C, H, W)
        taps = F.conv2d(slices.flatten(0, 1), self.weight, padding=self.padding)  # (B·D, 7·O, H, W)
        taps = taps.unflatten(1, (self.depth, self.outputs)).unflatten(0, slices.shape[:2])
        reach = self.depth // 2
        taps = F.pad(taps, (0, 0) * 4 + (reach, reach))  # (B, D + 6, 7, O, H, W)
        total = taps[:, : slices.shape[1], 0].float()  # seven sums in bfloat16 would round seven times
        for tap in range(1, self.depth):
            total = total + taps[:, tap : tap + slices.shape[1], tap]
        if self.bias is not None:
            total = total + self.bias[:, None, None]
        return total.transpose(1, 2)
