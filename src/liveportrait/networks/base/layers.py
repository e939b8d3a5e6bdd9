"""Layers shared by the published networks, and the 3-D hourglass (U-Net) of the dense motion network."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """2-D or 3-D convolution with kernel size 3, batch normalisation, (leaky) ReLU; keeps the size."""

    def __init__(self, inputs: int, outputs: int, dims: int = 2, slope: float = 0.0) -> None:
        super().__init__()
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv = convolution(inputs, outputs, kernel_size=3, padding=1)
        self.norm = norm(outputs)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), self.slope)


class Residual3d(nn.Module):
    """Pre-activation residual block on a volume (B,C,D,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))


class Encoder(nn.Module):
    """From widths[0] channels to widths[-1], halving height and width at each step; depth keeps its size."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(ConvNorm(*step, dims=3) for step in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every level's map, the input first and the deepest last."""
        levels = [x]
        for block in self.down_blocks:
            made = block(levels[-1])
            # Channels and depth as one axis: the CPU has no 3-D pooling in bfloat16.
            levels.append(F.avg_pool2d(made.flatten(1, 2), 2).unflatten(1, made.shape[1:3]))
        return levels


class Decoder(nn.Module):
    """Back to the input's size, concatenating the encoder's map at each level."""

    def __init__(self, widths: list[int], outputs: int) -> None:
        super().__init__()
        blocks = []
        inputs = widths[-1]
        for level in range(len(widths) - 2, -1, -1):
            made = widths[level] if level else outputs
            blocks.append(ConvNorm(inputs, made, dims=3))
            inputs = made + widths[level]  # the encoder's map of this level joins
        self.up_blocks = nn.ModuleList(blocks)
        self.conv = nn.Conv3d(inputs, inputs, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm3d(inputs)
        self.output_channels = inputs

    def forward(self, levels: list[Tensor]) -> Tensor:
        out = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            out = block(F.interpolate(out, scale_factor=(1, 2, 2), mode="nearest"))
            out = torch.cat([out, skip], dim=1)
        return F.relu(self.norm(self.conv(out)))


class Hourglass(nn.Module):
    """(B,C,D,H,W) -> (B,width+C,D,H,W); H and W are multiples of 2 to the power of `blocks`."""

    def __init__(self, inputs: int, width: int, max_width: int, blocks: int) -> None:
        super().__init__()
        widths = [inputs, *(min(max_width, width * 2**level) for level in range(1, blocks + 1))]
        self.encoder = Encoder(widths)
        self.decoder = Decoder(widths, outputs=width)
        self.output_channels = self.decoder.output_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))
