"""BASE's W on a processor: its 3-D hourglass on channels-last volumes, convolutions as products of matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.winograd.enlarging import Enlarged3d
from liveportrait.engine.winograd.fourier import FourierConv3d
from liveportrait.engine.winograd.passes import passes
from liveportrait.engine.winograd.scratch import scratch
from liveportrait.engine.winograd.winograd import Slabs3d, Winograd2d, Winograd3d
from liveportrait.networks.base.layers import Hourglass
from liveportrait.networks.base.warping import DenseMotionNetwork, WarpingModule, coordinate_grid
from liveportrait.networks.interface import Features, Pose, Warped
from liveportrait.networks.sampling import sample_volume

TILED = 8  # least side of a map that is worth dividing into tiles
LANES = 16  # products of matrices whose rows are no multiple of it are a fifth slower


class CpuHourglass(nn.Module):
    """The 3-D U-net on one volume (D,H,W,C), `side` its height and width. Its batch norms have been folded.

    It takes and gives a few more channels than it is made for, `missing`, which hold zeros and come last.
    """

    def __init__(self, hourglass: Hourglass, side: int) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        first = hourglass.encoder.down_blocks[0].conv
        assert isinstance(first, nn.Conv3d)
        self.missing = -first.in_channels % LANES
        self.inputs = first.in_channels + self.missing
        for level, block in enumerate(hourglass.encoder.down_blocks):
            convolution = block.conv
            assert isinstance(convolution, nn.Conv3d)
            if level == 0:
                convolution = padded(convolution, self.missing, 0)
            self.down.append(Winograd3d(convolution) if side >> level >= TILED else Slabs3d(convolution))
        self.up = nn.ModuleList(Enlarged3d(block.conv, 2) for block in hourglass.decoder.up_blocks)  # type: ignore[arg-type]
        self.last = Winograd3d(padded(hourglass.decoder.conv, self.missing, self.missing))

    def forward(self, volume: Tensor) -> Tensor:
        """(D,H,W,width+C) of (D,H,W,C)."""
        levels = [volume]
        for convolution in self.down:
            assert isinstance(convolution, Winograd3d | Slabs3d)
            made = convolution.whole(levels[-1], slope=0)
            pooled = F.avg_pool2d(made.permute(0, 3, 1, 2), 2)
            levels.append(pooled.permute(0, 2, 3, 1).contiguous())
        out = levels.pop()
        for enlarging in self.up:
            assert isinstance(enlarging, Enlarged3d)
            skip = levels.pop()
            out = enlarging.whole(out, slope=0, more=skip.shape[3])
            out[..., -skip.shape[3] :] = skip
        return self.last.whole(out, slope=0)


class CpuDenseMotion(nn.Module):
    """The flow and the occlusion map of `DenseMotionNetwork`, of one frame."""

    @torch.no_grad()
    def __init__(self, network: DenseMotionNetwork, side: int) -> None:
        super().__init__()
        self.hourglass = CpuHourglass(network.hourglass, side)
        missing = self.hourglass.missing
        self.mask = FourierConv3d(padded(network.mask, missing, 0), side, side)
        # The occlusion map's taps become outputs of their own, see `optimise.few_outputs`.
        _, inputs, height, width = network.occlusion.weight.shape
        channels = network.hourglass.output_channels
        taps = network.occlusion.weight.view(channels, inputs // channels, height * width)  # (C, D, 49)
        self.taps = nn.Parameter(
            F.pad(taps, (0, 0, 0, 0, 0, missing)).transpose(0, 1).contiguous()
        )  # (D, C, 49)
        self.shifts = nn.Parameter(torch.eye(height * width).view(1, -1, height, width))
        self.bias, self.padding = network.occlusion.bias, network.occlusion.padding

    def forward(self, compressed: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (1,D,H,W,3) and occlusion map (1,1,H,W) in [0, 1]; compressed (1,4,D,H,W), keypoints (1,21,3)."""
        shifts = F.pad(source - driving, (0, 0, 1, 0))  # the background's is zero
        seen = scratch("seen", (*compressed.shape[2:], self.hourglass.inputs))
        passes().see_motions(compressed, source, driving, seen)
        out = self.hourglass(seen)  # (D, H, W, 144)
        depth, height, width = out.shape[:3]
        mixed = self.mask.whole(out).softmax(dim=3) @ shifts[0]  # (D, H, W, 3)
        flow = coordinate_grid(depth, height, width, out.device) + mixed
        pixels = out.flatten(1, 2)  # (D, H·W, 144)
        taps = pixels[0] @ self.taps[0]
        for index in range(1, depth):
            taps.addmm_(pixels[index], self.taps[index])
        taps = taps.view(1, height, width, -1).permute(0, 3, 1, 2)
        return flow[None], F.conv2d(taps, self.shifts, self.bias, padding=self.padding).sigmoid()


class CpuWarping(nn.Module):
    """Gives what `WarpingModule` does, in float32, on features of `FastAppearance`; frame by frame."""

    def __init__(self, warping: WarpingModule, side: int) -> None:
        """`side`: height and width of the volumes."""
        super().__init__()
        self.dense_motion = CpuDenseMotion(warping.dense_motion_network, side)
        assert isinstance(warping.third.conv, nn.Conv2d)
        self.third, self.slope = Winograd2d(warping.third.conv), warping.third.slope
        self.fourth = warping.fourth

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        """The warped map (B,256,64,64) of the source's features. Uses the poses' keypoints alone."""
        rows = zip(
            features["volume"].float().split(1),
            features["compressed"].float().split(1),
            source.keypoints.float().split(1),
            driving.keypoints.float().split(1),
            strict=True,
        )
        with torch.autocast("cpu", enabled=False):
            return {"feature": torch.cat([self._warped(*row) for row in rows])}

    def _warped(self, volume: Tensor, compressed: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        flow, occlusion = self.dense_motion(compressed, source, driving)
        warped = sample_volume(volume, flow, "zeros").flatten(1, 2)  # (1, 512, 64, 64)
        return self.fourth(F.leaky_relu(self.third(warped), self.slope)) * occlusion


@torch.no_grad()
def padded(convolution: nn.Conv3d, inputs: int, outputs: int) -> nn.Conv3d:
    """The same with so many more inputs, which it does not look at, and outputs, which are zero."""
    with torch.device("meta"):
        result = nn.Conv3d(
            convolution.in_channels + inputs,
            convolution.out_channels + outputs,
            convolution.kernel_size,  # type: ignore[arg-type]
            padding=convolution.padding,  # type: ignore[arg-type]
        )
    result.weight = nn.Parameter(F.pad(convolution.weight, (0, 0) * 3 + (0, inputs, 0, outputs)))
    assert convolution.bias is not None
    result.bias = nn.Parameter(F.pad(convolution.bias, (0, outputs)))
    return result.requires_grad_(False)
