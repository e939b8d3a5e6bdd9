"""W and G of BASE on a CPU, one frame after the other, on channels-last maps.

The convolutions of W's 3-D hourglass are matrix products. In G, the scales and shifts of a normalisation are 4 to 8
times as large as the maps they are computed from. They are never stored completely but used stripe by stripe, while in
the caches, and maps with repeated pixels are read at their original size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.rewrites.base import blocks_of, modulation
from liveportrait.engine.rewrites.convolutions import stacked
from liveportrait.engine.winograd import elementwise
from liveportrait.engine.winograd.convolutions import (
    UpsampledConv2d,
    UpsampledConv3d,
    Winograd2d,
    Winograd3d,
    WinogradDepth3d,
)
from liveportrait.engine.winograd.elementwise import NormedMap, scratch
from liveportrait.engine.winograd.fourier import FourierConv3d
from liveportrait.engine.winograd.kernels import OUT
from liveportrait.networks.base.generator import SLOPE, SpadeBlock, SpadeGenerator
from liveportrait.networks.base.layers import Hourglass
from liveportrait.networks.base.warping import DenseMotionNetwork, WarpingModule, coordinate_grid
from liveportrait.networks.geometry import sample_volume
from liveportrait.networks.interface import Features, Pose, Warped

MIN_TILED_SIDE = 8  # of a map that is worth dividing into tiles
ALIGNED = 16  # matrix products whose row length is not a multiple of this are a fifth slower


class WinogradHourglass(nn.Module):
    """The 3-D U-net on one volume (D,H,W,C) with height and width `side`. Its batch norms have been folded.

    Inputs and outputs have `missing` additional channels, which hold zeros and come last.
    """

    def __init__(self, hourglass: Hourglass, side: int) -> None:
        super().__init__()
        down, up = (
            convolutions_of(hourglass.encoder.down_blocks),
            convolutions_of(hourglass.decoder.up_blocks),
        )
        self.missing = -down[0].in_channels % ALIGNED
        self.inputs = down[0].in_channels + self.missing
        down[0] = padded(down[0], self.missing, 0)
        self.down = nn.ModuleList(
            Winograd3d(convolution) if side >> level >= MIN_TILED_SIDE else WinogradDepth3d(convolution)
            for level, convolution in enumerate(down)
        )
        self.up = nn.ModuleList(UpsampledConv3d(convolution, 2) for convolution in up)
        self.last = Winograd3d(padded(hourglass.decoder.conv, self.missing, self.missing))

    def forward(self, volume: Tensor) -> Tensor:
        """(D,H,W,C) to (D,H,W,width+C)."""
        levels = [volume]
        for convolution in self.down:
            made = convolution(levels[-1], slope=0)
            pooled = F.avg_pool2d(made.permute(0, 3, 1, 2), 2)
            levels.append(pooled.permute(0, 2, 3, 1).contiguous())
        out = levels.pop()
        for upsampled in self.up:
            skip = levels.pop()
            out = upsampled(out, slope=0, more=skip.shape[3])
            out[..., -skip.shape[3] :] = skip
        return self.last(out, slope=0)


class WinogradDenseMotion(nn.Module):
    """The flow and the occlusion map of `DenseMotionNetwork`, for one frame."""

    @torch.no_grad()
    def __init__(self, network: DenseMotionNetwork, side: int) -> None:
        super().__init__()
        self.hourglass = WinogradHourglass(network.hourglass, side)
        missing = self.hourglass.missing
        self.mask = FourierConv3d(padded(network.mask, missing, 0), side, side)
        # The occlusion map's taps become separate outputs, see `rewrites.PixelTaps`.
        _, inputs, height, width = network.occlusion.weight.shape
        channels = network.hourglass.output_channels
        taps = network.occlusion.weight.view(channels, inputs // channels, height * width)  # (C, D, 49)
        taps = F.pad(taps, (0, 0, 0, 0, 0, missing)).transpose(0, 1)  # (D, C, 49)
        self.taps = nn.Parameter(taps.contiguous())
        self.shifts = nn.Parameter(torch.eye(height * width).view(1, -1, height, width))
        self.bias, self.padding = network.occlusion.bias, network.occlusion.padding

    def forward(self, compressed: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (1,D,H,W,3) and occlusion map (1,1,H,W) in [0, 1]; compressed (1,4,D,H,W), keypoints (1,21,3)."""
        shifts = F.pad(source - driving, (0, 0, 1, 0))  # the background's is zero
        features = scratch("features", (*compressed.shape[2:], self.hourglass.inputs))
        elementwise.motion_features(compressed, source, driving, features)
        out = self.hourglass(features)  # (D, H, W, 144)
        depth, height, width = out.shape[:3]
        mixed = self.mask(out).softmax(dim=3) @ shifts[0]  # (D, H, W, 3)
        flow = coordinate_grid(depth, height, width, out.device) + mixed
        pixels = out.flatten(1, 2)  # (D, H·W, 144)
        taps = pixels[0] @ self.taps[0]
        for plane in range(1, depth):
            taps.addmm_(pixels[plane], self.taps[plane])
        taps = taps.view(1, height, width, -1).permute(0, 3, 1, 2)
        return flow[None], F.conv2d(taps, self.shifts, self.bias, padding=self.padding).sigmoid()


class WinogradWarping(nn.Module):
    """Equivalent to `WarpingModule`, in float32, for features from `FastAppearance`; frame by frame."""

    def __init__(self, warping: WarpingModule, side: int) -> None:
        """`side` is the height and width of the volumes."""
        super().__init__()
        self.dense_motion = WinogradDenseMotion(warping.dense_motion_network, side)
        assert isinstance(warping.third.conv, nn.Conv2d)
        self.third, self.slope = Winograd2d(warping.third.conv), warping.third.slope
        self.fourth = warping.fourth

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        """The warped map (B,256,64,64) of the source's features. Uses only the poses' keypoints."""
        rows = zip(
            features["volume"].split(1),
            features["compressed"].split(1),
            source.keypoints.split(1),
            driving.keypoints.split(1),
            strict=True,
        )
        return {"feature": torch.cat([self._warped(*row) for row in rows])}

    def _warped(self, volume: Tensor, compressed: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        flow, occlusion = self.dense_motion(compressed, source, driving)
        warped = sample_volume(volume, flow, "zeros")[0].flatten(0, 1)  # (512, 64, 64)
        third = self.third(warped.permute(1, 2, 0)).permute(2, 0, 1)[None]
        return self.fourth(F.leaky_relu(third, self.slope)) * occlusion


def convolutions_of(module: nn.Module) -> list[nn.Conv3d]:
    """The 3-D convolutions of a module, in order."""
    return [part for part in module.modules() if isinstance(part, nn.Conv3d)]


@torch.no_grad()
def padded(convolution: nn.Conv3d, inputs: int, outputs: int) -> nn.Conv3d:
    """The convolution with additional inputs, which it ignores, and additional outputs, which are zero."""
    with torch.device("meta"):
        result = nn.Conv3d(
            convolution.in_channels + inputs,
            convolution.out_channels + outputs,
            convolution.kernel_size,  # type: ignore[arg-type]
            padding=convolution.padding,  # type: ignore[arg-type]
        )
    weight, bias = convolution.parameters()
    result.weight = nn.Parameter(F.pad(weight, (0, 0) * 3 + (0, inputs, 0, outputs)))
    result.bias = nn.Parameter(F.pad(bias, (0, outputs)))
    return result.requires_grad_(False)


class WinogradSpadeBlock(nn.Module):
    """A SPADE block for one map (H,W,C), see `FastSpadeBlock`; with `doubles`, for a map of half its size."""

    def __init__(self, block: SpadeBlock, factor: int, doubles: bool, dtype: torch.dtype) -> None:
        """`factor`, a power of 2, is how many times larger the block's maps are than the conditioning map.

        `dtype` is that of the products that give scales and shifts. The convolutions of x itself are in float32: in
        bfloat16, Winograd's errors would add up from block to block.
        """
        super().__init__()
        self.factor, self.doubles = factor, doubles
        self.learned_shortcut = block.learned_shortcut
        spades = [block.norm_0, block.norm_1, *([block.norm_s] if block.learned_shortcut else [])]
        shared = stacked([spade.mlp_shared[0] for spade in spades])  # type: ignore[misc]
        self.shared = (
            UpsampledConv2d(shared, min(3, factor), dtype) if factor > 1 else Winograd2d(shared, dtype)
        )
        self.modulation_0 = Winograd2d(modulation(block.norm_0), dtype)
        self.modulation_1 = Winograd2d(modulation(block.norm_1), dtype)
        self.conv_0, self.conv_1 = Winograd2d(block.conv_0), Winograd2d(block.conv_1)
        if block.learned_shortcut:
            self.modulation_s = Winograd2d(modulation(block.norm_s, through=block.conv_s), dtype)
            self.conv_s = nn.Parameter(block.conv_s.weight[:, :, 0, 0].t().contiguous())  # (C, O)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(S,S,O) from x (S,S,C), or (S/2,S/2,C), and the condition (s,s,c); written over x if possible."""
        hidden = self.shared(condition, slope=0)
        size = condition.shape[0] * self.factor
        # Of f repeated pixels all but the first and the last are equal: three are computed.
        index = None
        if self.factor > 2:
            each = torch.arange(size, device=x.device)
            inner = (each % self.factor).clamp(max=1) + (each % self.factor == self.factor - 1)
            index = each // self.factor * 3 + inner

        normed_x = elementwise.instance_norm(x, self.doubles)
        active = scratch("inputs", (size, size, x.shape[2]))
        self._modulated(self.modulation_0, 0, hidden, index, normed_x, active)
        between = scratch("between", (size, size, self.conv_0.out_channels))
        self.conv_0(active, out=between)
        active = scratch("inputs", between.shape)
        normed = elementwise.instance_norm(between, doubled=False)
        self._modulated(self.modulation_1, 1, hidden, index, normed, active)
        out = x
        if self.doubles or self.learned_shortcut:
            out = x.new_empty(size, size, self.conv_1.out_channels)
        for top, products in self.conv_1.stripes(active):
            if self.learned_shortcut:
                elementwise.transform_output(products, self.conv_1.bias, 1, top, out[None])
            else:
                elementwise.transform_output_add(products, self.conv_1.bias, normed_x, top, out)
        if self.learned_shortcut:
            by, channels = self.modulation_s, x.shape[2]
            for top, products in by.stripes(hidden, index, 2 * by.weight.shape[1]):
                rows = slice(top, min(size, top + OUT * products.shape[2]))
                scaled = scratch("outputs", (rows.stop - top, size, channels))
                elementwise.transform_output_scale_shift(products, by.bias, normed_x, top, scaled, out)
                out[rows].flatten(0, 1).addmm_(scaled.flatten(0, 1), self.conv_s)
        return out

    def _modulated(
        self,
        by: Winograd2d,
        number: int,
        hidden: Tensor,
        index: Tensor | None,
        normed: NormedMap,
        out: Tensor,
    ) -> None:
        """Leaky ReLU of the normalised map, scaled and shifted as given by its part of the hidden layer."""
        for top, products in by.stripes(hidden, index, number * by.weight.shape[1]):
            elementwise.transform_output_modulate(products, by.bias, normed, SLOPE, top, out)


class WinogradGenerator(nn.Module):
    """Equivalent to `SpadeGenerator`, one frame after the other. Its spectral norm has been folded."""

    def __init__(self, generator: SpadeGenerator, dtype: torch.dtype = torch.float32) -> None:
        """`dtype` is that of the products that give scales and shifts; everything else is float32."""
        super().__init__()
        self.fc, self.conv_img = Winograd2d(generator.fc), generator.conv_img
        self.blocks = nn.ModuleList(WinogradSpadeBlock(*each, dtype=dtype) for each in blocks_of(generator))

    def forward(self, warped: Warped) -> Tensor:
        """Pictures (B,3,512,512), RGB in [0, 1], of the warped feature map (B,256,64,64)."""
        conditions = warped["feature"].permute(0, 2, 3, 1).contiguous()
        return torch.cat([self._picture(condition) for condition in conditions])

    def _picture(self, condition: Tensor) -> Tensor:
        out = self.fc(condition)  # (64, 64, 512)
        for block in self.blocks:
            out = block(out, condition)  # (256, 256, 64) in the end
        return self.conv_img(F.leaky_relu_(out, SLOPE).permute(2, 0, 1)[None]).sigmoid()
