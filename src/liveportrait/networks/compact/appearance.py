"""F of the compact model: a picture becomes a small feature volume, a context map and a fine skip map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.layers import Residual, conv
from liveportrait.networks.interface import Features


@dataclass(frozen=True)
class AppearanceSizes:
    """Widths of F."""

    fine_channels: int = 32
    coarse_channels: int = 80
    residual_blocks: int = 2
    volume_channels: int = 16
    volume_depth: int = 4
    context_channels: int = 16
    skip_channels: int = 16


class AppearanceFeatureExtractor(nn.Module):
    """Runs once per source, at a quarter of the picture's side except for the skip map (half)."""

    def __init__(self, sizes: AppearanceSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.stem = conv(12, sizes.fine_channels)
        self.down = conv(sizes.fine_channels, sizes.coarse_channels, stride=2)
        self.blocks = nn.Sequential(*(Residual(sizes.coarse_channels) for _ in range(sizes.residual_blocks)))
        self.volume = conv(sizes.coarse_channels, sizes.volume_channels * sizes.volume_depth, kernel=1)
        self.context = conv(sizes.coarse_channels, sizes.context_channels, kernel=1)
        self.skip = conv(sizes.fine_channels, sizes.skip_channels, kernel=1)

    def forward(self, image: Tensor) -> Features:
        """Features of pictures (B,3,S,S), RGB in [0, 1], S a multiple of 32.

        volume (B,C,D,S/4,S/4), context (B,c,S/4,S/4), skip (B,k,S/2,S/2), the image (B,3,3S,3S) itself, which the
        warping module warps too so that sharpness comes from the source, and the picture's colourfulness (B,1).
        """
        unshuffled = F.pixel_unshuffle(image * 2 - 1, 2).contiguous(memory_format=torch.channels_last)
        fine = F.silu(self.stem(unshuffled))  # (B,f,S/2,S/2)
        coarse = F.silu(self.blocks(self.down(fine)))  # (B,c,S/4,S/4)
        volume = self.volume(coarse).unflatten(1, (self.sizes.volume_channels, self.sizes.volume_depth))
        return {
            "volume": volume.float(),
            "context": self.context(coarse).float(),
            "skip": self.skip(fine).float(),
            "image": enlarged(image.float()),
            "colour": colourfulness(image.float()),
        }


def colourfulness(image: Tensor) -> Tensor:
    """The colourfulness (B,1) of pictures (B,3,S,S): the mean of largest minus smallest channel, 0 if grey."""
    return (image.amax(1) - image.amin(1)).mean((1, 2))[:, None]


def enlarged(image: Tensor) -> Tensor:
    """The picture at three times its size (bicubic), so that bilinear lookups in it, one per frame, hardly blur.

    An odd factor puts samples on the original pixels, so that still parts are not blurred at all.
    """
    return F.interpolate(image, scale_factor=3, mode="bicubic", align_corners=False).clamp(0, 1)
