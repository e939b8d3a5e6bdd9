"""BASE's G on a processor: SPADE in stripes, around Winograd convolutions.

Scale and shift of a normalisation are 4 to 8 times as many numbers as what they are read from. They are never written
out: a stripe of them is used while it is in the caches. Maps that repeat pixels are read where they are small.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.rewrites.base_generator import blocks_of, modulation
from liveportrait.engine.rewrites.upsampling import joined
from liveportrait.engine.winograd.enlarging import Enlarged2d
from liveportrait.engine.winograd.passes import Normal, passes
from liveportrait.engine.winograd.places import OUT
from liveportrait.engine.winograd.scratch import scratch
from liveportrait.engine.winograd.winograd import Winograd2d
from liveportrait.networks.base.generator import SLOPE, SpadeBlock, SpadeGenerator
from liveportrait.networks.interface import Warped


class CpuSpadeBlock(nn.Module):
    """A SPADE block on one map (H,W,C), see `FastSpadeBlock`; with `doubles`, on a map of half its size."""

    def __init__(self, block: SpadeBlock, factor: int, doubles: bool, dtype: torch.dtype) -> None:
        """`factor`: how many times larger than the conditioning map the block's pictures are: a power of 2.

        `dtype`: of the products that make scales and shifts. What x itself goes through is float32: there Winograd's
        errors in bfloat16 would add up from block to block.
        """
        super().__init__()
        self.factor, self.doubles = factor, doubles
        self.learned_shortcut = block.learned_shortcut
        spades = [block.norm_0, block.norm_1, *([block.norm_s] if block.learned_shortcut else [])]
        shared = joined([spade.mlp_shared[0] for spade in spades])  # type: ignore[misc]
        self.shared = Enlarged2d(shared, min(3, factor), dtype) if factor > 1 else Winograd2d(shared, dtype)
        self.modulation_0 = Winograd2d(modulation(block.norm_0), dtype)
        self.modulation_1 = Winograd2d(modulation(block.norm_1), dtype)
        self.conv_0, self.conv_1 = Winograd2d(block.conv_0), Winograd2d(block.conv_1)
        if block.learned_shortcut:
            self.modulation_s = Winograd2d(modulation(block.norm_s, through=block.conv_s), dtype)
            self.conv_s = nn.Parameter(block.conv_s.weight[:, :, 0, 0].t().contiguous())  # (C, O)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(S,S,O) of x (S,S,C), or (S/2,S/2,C), and the condition (s,s,c); in place of x if it can be."""
        hidden = self.shared.whole(condition, slope=0)
        size = condition.shape[0] * self.factor
        # Of pixels that stand f times all but the first and the last are alike: three are made.
        places = None
        if self.factor > 2:
            each = torch.arange(size, device=x.device)
            inner = (each % self.factor).clamp(max=1) + (each % self.factor == self.factor - 1)
            places = each // self.factor * 3 + inner

        seen = passes().normal(x, self.doubles)
        active = scratch("inputs", (size, size, x.shape[2]))
        self._modulated(self.modulation_0, 0, hidden, places, seen, active)
        between = scratch("between", (size, size, self.conv_0.out_channels))
        self.conv_0.whole(active, out=between)
        active = scratch("inputs", between.shape)
        normal = passes().normal(between, doubled=False)
        self._modulated(self.modulation_1, 1, hidden, places, normal, active)
        out = x
        if self.doubles or self.learned_shortcut:
            out = x.new_empty(size, size, self.conv_1.out_channels)
        for top, products in self.conv_1.stripes(active):
            if self.learned_shortcut:
                passes().from_tiles(products, self.conv_1.bias, 1, top, out[None])
            else:
                passes().add_from_tiles(products, self.conv_1.bias, seen, top, out)
        if self.learned_shortcut:
            by, channels = self.modulation_s, x.shape[2]
            for top, products in by.stripes(hidden, places, 2 * by.weight.shape[1]):
                rows = slice(top, min(size, top + OUT * products.shape[2]))
                scaled = scratch("outputs", (rows.stop - top, size, channels))
                passes().scale_and_shift(products, by.bias, seen, top, scaled, out)
                out[rows].flatten(0, 1).addmm_(scaled.flatten(0, 1), self.conv_s)
        return out

    def _modulated(
        self, by: Winograd2d, number: int, hidden: Tensor, places: Tensor | None, normal: Normal, out: Tensor
    ) -> None:
        """The normal map scaled and shifted by what its part of the hidden layer says, and leaky ReLU of it."""
        for top, products in by.stripes(hidden, places, number * by.weight.shape[1]):
            passes().modulate(products, by.bias, normal, SLOPE, top, out)


class CpuGenerator(nn.Module):
    """Takes and gives what `SpadeGenerator` does, one frame after the other. Its spectral norm has been folded."""

    def __init__(self, generator: SpadeGenerator, dtype: torch.dtype = torch.float32) -> None:
        """`dtype`: of the products that make scales and shifts; everything else is float32."""
        super().__init__()
        self.fc, self.conv_img = Winograd2d(generator.fc), generator.conv_img
        self.blocks = nn.ModuleList(CpuSpadeBlock(*each, dtype=dtype) for each in blocks_of(generator))

    def forward(self, warped: Warped) -> Tensor:
        """Pictures (B,3,512,512), RGB in [0, 1], of the warped feature map (B,256,64,64)."""
        with torch.autocast("cpu", enabled=False):
            conditions = warped["feature"].float().permute(0, 2, 3, 1).contiguous()
            return torch.cat([self._picture(condition) for condition in conditions])

    def _picture(self, condition: Tensor) -> Tensor:
        out = self.fc.whole(condition)  # (64, 64, 512)
        for block in self.blocks:
            out = block(out, condition)  # (256, 256, 64) in the end
        return self.conv_img(F.leaky_relu_(out, SLOPE).permute(2, 0, 1)[None]).sigmoid()
