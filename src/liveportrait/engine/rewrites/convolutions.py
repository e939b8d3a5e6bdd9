"""Convolutions rewritten exactly: the same numbers up to rounding, from fewer operations.

- `folded`: normalisations that are constant once trained become part of the convolution before them.
- `after_upsampling`: a 3-wide convolution of a map in which every pixel is repeated f times is a transposed convolution
  of the map itself, with stride f and a kernel f + 2 wide: output pixels of one phase see the same sums of weights. Of
  the f² copies of each product only the sums remain: at f = 2, 4 products per output instead of 9. Zero padding of the
  enlarged map is zero padding of the small one, so borders are exact too.
- `stacked`: several convolutions of one map are a single one with more outputs.
- `PixelTaps`, `SliceTaps`: processors compute 16 or more channels at once, so 1 output costs as much as 16 and 22 as
  much as 32. A convolution is also the sum of its taps, each a shifted convolution with a smaller kernel: with the taps
  as separate outputs no lane is idle, and the shifts and sums cost almost nothing.
- `FastJoin`: COMPACT's convolutions of a doubled map concatenated with a fine one, without making the doubled map.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import remove_spectral_norm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from liveportrait.networks import base, compact
from liveportrait.networks.compact.layers import JoiningConv, JoiningConvNorm

# By type of module: the convolution, and the batch norm that directly follows it.
CONVOLUTION_AND_NORM: dict[type[nn.Module], tuple[str, str]] = {
    base.layers.ConvNorm: ("conv", "norm"),
    base.layers.Residual3d: ("conv1", "norm2"),  # norm1 comes after a sum and stays
    base.layers.Decoder: ("conv", "norm"),
    base.warping.DenseMotionNetwork: ("compress", "norm"),
    compact.layers.ConvNorm: ("0", "1"),
    compact.layers.NormResidual: ("second", "norm"),
}


def own_copy(module: nn.Module) -> nn.Module:
    """A copy whose parts can be replaced without changing the original, in evaluation mode, without gradients.

    Tensors are shared with the original, not copied.
    """
    shared: dict[int, object] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        plain = [value for value in vars(part).values() if isinstance(value, Tensor)]  # of spectral norm
        for tensor in (*part.buffers(recurse=False), *plain):
            shared[id(tensor)] = tensor.detach()
    return copy.deepcopy(module, shared).eval()


@torch.no_grad()
def folded(module: nn.Module) -> nn.Module:
    """A copy in which every spectral norm, and every batch norm after a convolution, is folded into the weights."""
    result = own_copy(module)
    for part in list(result.modules()):
        if hasattr(part, "weight_orig"):
            remove_spectral_norm(part)
        for kind, (convolution, norm) in CONVOLUTION_AND_NORM.items():
            if isinstance(part, kind) and not isinstance(getattr(part, norm), nn.Identity):
                fused = fuse_conv_bn_eval(getattr(part, convolution), getattr(part, norm))
                setattr(part, convolution, fused)
                setattr(part, norm, nn.Identity())
    return result.requires_grad_(False)


def _spread(factor: int, like: Tensor) -> Tensor:
    """(factor + 2, 3): which of an axis's three weights are summed at each place of the transposed kernel."""
    place = torch.arange(factor + 2, device=like.device)[:, None]
    offset = place + torch.arange(3, device=like.device) - 2  # within the repeated pixel, if 0 to factor - 1
    return ((offset >= 0) & (offset < factor)).to(like.dtype)


@torch.no_grad()
def after_upsampling(convolution: nn.Module, factor: int) -> nn.Module:
    """`t` such that t(x) = convolution(interpolate(x, scale_factor=factor, mode="nearest")).

    The convolution is 3 wide, pads with one zero and keeps the size. In 3-D (B,C,D,H,W) depth is not enlarged.
    """
    if not isinstance(convolution, nn.Conv2d | nn.Conv3d):
        raise TypeError(f"{type(convolution).__name__} is not a convolution over 2 or 3 dimensions")
    dims = convolution.weight.ndim - 2
    if convolution.kernel_size != (3,) * dims or convolution.padding != (1,) * dims:
        raise ValueError(
            f"the kernel {convolution.kernel_size} with padding {convolution.padding} is not 3 with 1"
        )
    factors = (1,) * (dims - 2) + (factor, factor)
    weight = convolution.weight.double()
    for axis_factor in factors:  # each step consumes the kernel's first axis and appends the new one
        weight = torch.tensordot(weight, _spread(axis_factor, weight), dims=([2], [1]))
    kind = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
    with torch.device("meta"):
        result = kind(
            convolution.in_channels,
            convolution.out_channels,
            tuple(weight.shape[2:]),  # type: ignore[arg-type]
            stride=factors,  # type: ignore[arg-type]
            padding=1,
            bias=convolution.bias is not None,
        )
    result.weight = nn.Parameter(weight.transpose(0, 1).to(convolution.weight.dtype).contiguous())
    if convolution.bias is not None:
        result.bias = nn.Parameter(convolution.bias.detach().clone())
    return result.requires_grad_(False)


@torch.no_grad()
def stacked(convolutions: list[nn.Conv2d]) -> nn.Conv2d:
    """One convolution with the concatenated outputs of several that have the same input."""
    first = convolutions[0]
    with torch.device("meta"):
        result = nn.Conv2d(
            first.in_channels,
            sum(convolution.out_channels for convolution in convolutions),
            first.kernel_size,  # type: ignore[arg-type]
            padding=first.padding,  # type: ignore[arg-type]
        )
    result.weight = nn.Parameter(torch.cat([convolution.weight for convolution in convolutions]))
    biases = [c.weight.new_zeros(c.out_channels) if c.bias is None else c.bias for c in convolutions]
    result.bias = nn.Parameter(torch.cat(biases))
    return result.requires_grad_(False)


class PixelTaps(nn.Module):
    """A size-preserving 2-D convolution of odd width with one output, as a 1x1 convolution followed by shifts.

    The shifts and their sum are a convolution too, with a single 1 for each tap.
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
        """(B,C,H,W) to (B,1,H,W)."""
        return F.conv2d(F.conv2d(x, self.weight), self.shifts, self.bias, padding=self.padding)


class SliceTaps(nn.Module):
    """A size-preserving 3-D convolution of odd depth, as a 2-D one of every slice followed by shifts in depth."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.outputs, self.depth = convolution.out_channels, convolution.kernel_size[0]
        self.weight = nn.Parameter(convolution.weight.transpose(1, 2).transpose(0, 1).flatten(0, 1))
        self.bias = convolution.bias
        self.padding = (convolution.kernel_size[1] // 2, convolution.kernel_size[2] // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,D,H,W) to (B,O,D,H,W), float32."""
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


class FastJoin(nn.Module):
    """Equivalent to `JoiningConv`, or with `rectified` to a `JoiningConvNorm` whose norm has been folded."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, coarse_channels: int, rectified: bool) -> None:
        super().__init__()
        weight, outputs = convolution.weight, convolution.out_channels
        coarse = nn.Conv2d(coarse_channels, outputs, 3, padding=1, bias=False, device="meta")
        fine = nn.Conv2d(weight.shape[1] - coarse_channels, outputs, 3, padding=1, bias=False, device="meta")
        coarse.weight = nn.Parameter(weight[:, :coarse_channels])
        fine.weight = nn.Parameter(weight[:, coarse_channels:])
        fine.bias = convolution.bias
        self.coarse, self.fine, self.rectified = after_upsampling(coarse, 2), fine, rectified

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B,O,H,W) from maps (B,C,H/2,W/2) and (B,c,H,W)."""
        out = self.coarse(coarse) + self.fine(fine)
        return F.relu(out) if self.rectified else out


def join_fast(module: nn.Module) -> nn.Module:
    """Replace the joining convolutions of a module, which has been folded, in place."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, JoiningConv):
                setattr(parent, name, FastJoin(part, part.coarse_channels, rectified=False))
            elif isinstance(part, JoiningConvNorm) and isinstance(convolution := part[0], nn.Conv2d):
                setattr(parent, name, FastJoin(convolution, part.coarse_channels, rectified=True))
    return module
