"""F, the appearance feature extractor: turns a picture into a feature volume. Runs once per source."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.base.layers import ConvNorm, Residual3d
from liveportrait.networks.interface import Features


@dataclass(frozen=True)
class AppearanceSizes:
    """Widths of F. Each entry of `channels` after the first follows a halving of the picture."""

    channels: tuple[int, ...] = (64, 128, 256)
    volume_channels: int = 32
    volume_depth: int = 16
    residual_blocks: int = 6


class AppearanceFeatureExtractor(nn.Module):
    """2-D encoder, a reshape that turns channels into depth, 3-D residual blocks."""

    def __init__(self, sizes: AppearanceSizes) -> None:
        super().__init__()
        self.volume_shape = (sizes.volume_channels, sizes.volume_depth)
        self.first = ConvNorm(3, sizes.channels[0])
        self.down_blocks = nn.ModuleList(ConvNorm(*widths) for widths in pairwise(sizes.channels))
        self.second = nn.Conv2d(sizes.channels[-1], sizes.volume_channels * sizes.volume_depth, kernel_size=1)
        self.resblocks_3d = nn.Sequential()
        for index in range(sizes.residual_blocks):
            self.resblocks_3d.add_module(f"3dr{index}", Residual3d(sizes.volume_channels))

    def forward(self, image: Tensor) -> Features:
        """The volume (B,32,16,64,64) of pictures (B,3,256,256), RGB in [0, 1]."""
        out = self.first(image)  # (B, 64, 256, 256)
        for block in self.down_blocks:
            out = F.avg_pool2d(block(out), 2)  # (B, 256, 64, 64) in the end
        volume = self.second(out).unflatten(1, self.volume_shape)  # (B, 32, 16, 64, 64)
        return {"volume": self.resblocks_3d(volume)}
