"""3-D hourglass (U-Net) of the dense motion network; depth keeps its size, height and width halve."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.base.layers import ConvNorm


class Encoder(nn.Module):
    """From widths[0] channels to widths[-1], halving height and width at each step."""

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
    """Back up to the input's size, joined at each level by the encoder's map of that level."""

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
