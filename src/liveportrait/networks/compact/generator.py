"""G of the compact model: keeps the warped source where the warp is right, and paints elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.appearance import AppearanceSizes
from liveportrait.networks.compact.layers import channels_last, conv, shuffled, unshuffled
from liveportrait.networks.compact.warping import WarpingSizes
from liveportrait.networks.interface import Warped

GROUPS = 8
MASK = slice(12, 16)  # of the output's channels: four pixels of RGB, then of the mask
KEEP_BIAS = 2.0  # the mask starts at "keep": otherwise an L1 loss settles on a blurry half-and-half


@dataclass(frozen=True)
class GeneratorSizes:
    """Widths of G: trunk at a quarter of the picture's side, tail at half."""

    trunk_channels: int = 64
    blocks: int = 3
    conditioning_channels: int = 48
    tail_channels: int = 32


class SpatialModulation(nn.Module):
    """Group norm, then scale and shift by the conditioning map (SPADE with 1x1 convolutions)."""

    def __init__(self, channels: int, conditioning: int) -> None:
        super().__init__()
        self.modulation = conv(conditioning, 2 * channels, kernel=1)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        gain, shift = self.modulation(conditioning).chunk(2, 1)
        return torch.addcmul(shift, F.group_norm(x, GROUPS), 1 + gain)


class ModulatedResidual(nn.Module):
    """Residual block with two modulated convolutions."""

    def __init__(self, channels: int, conditioning: int) -> None:
        super().__init__()
        self.norm1 = SpatialModulation(channels, conditioning)
        self.norm2 = SpatialModulation(channels, conditioning)
        self.conv1, self.conv2 = conv(channels, channels), conv(channels, channels)
        with torch.no_grad():
            self.conv2.weight *= 0.1  # close to the identity at first

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, conditioning)))
        return x + self.conv2(F.silu(self.norm2(y, conditioning)))


class Generator(nn.Module):
    """G. `forward` gives the picture, `layers` what it is composed of."""

    def __init__(self, sizes: GeneratorSizes, appearance: AppearanceSizes, warping: WarpingSizes) -> None:
        super().__init__()
        volume = appearance.volume_channels * appearance.volume_depth
        trunk, tail = sizes.trunk_channels, sizes.tail_channels
        self.conditioning = conv(volume, sizes.conditioning_channels, kernel=1)
        self.enter = conv(volume + warping.channels[0], trunk)
        self.blocks = nn.ModuleList(
            ModulatedResidual(trunk, sizes.conditioning_channels) for _ in range(sizes.blocks)
        )
        self.widen = conv(trunk, tail * 4, kernel=1)
        self.merge = conv(tail + appearance.skip_channels + 12, tail)
        self.refine1, self.refine2 = conv(tail, tail), conv(tail, tail)
        self.output = conv(tail, 4 * 4)  # RGB and mask, shuffled to full resolution
        with torch.no_grad():
            self.refine2.weight *= 0.1
            self.output.bias[MASK] = KEEP_BIAS  # type: ignore[index]

    def forward(self, warped: Warped) -> Tensor:
        """Pictures (B,3,S,S), RGB in [0, 1]."""
        painting, logits = self.layers(warped)
        return blend(warped["image"], painting, logits)

    @torch.no_grad()
    def keep_more(self, shift: float) -> None:
        """Add `shift` to the mask's logits: sharper where source and painting were mixed, slightly less accurate."""
        self.output.bias[MASK] += shift  # type: ignore[index]

    def layers(self, warped: Warped) -> tuple[Tensor, Tensor]:
        """The painting (B,3,S,S) in [0, 1], and logits (B,1,S,S) of the mask that keeps the warped source."""
        volume = channels_last(warped["volume"]).to(warped["hidden"].dtype)
        conditioning = F.silu(self.conditioning(volume))
        x = self.enter(torch.cat([volume, warped["hidden"]], 1))
        for block in self.blocks:
            x = block(x, conditioning)
        x = F.pixel_shuffle(self.widen(F.silu(x)), 2)
        source = unshuffled(warped["image"] * 2 - 1)
        # Converted one by one to the memory format that x already has: converting all of them twice took 2 ms a frame.
        fine = [channels_last(part).to(x.dtype) for part in (x, warped["skip"], source)]
        x = F.silu(self.merge(torch.cat(fine, 1)))
        x = x + self.refine2(F.silu(self.refine1(x)))
        raw = shuffled(self.output(F.silu(x)).float())
        return raw[:, :3].sigmoid(), raw[:, 3:]


def blend(kept: Tensor, painting: Tensor, logits: Tensor) -> Tensor:
    """mask·kept + (1 − mask)·painting."""
    mask = logits.sigmoid()
    return mask * kept + (1 - mask) * painting
