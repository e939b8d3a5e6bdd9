"""Convolutions of maps that were enlarged by repeating pixels, without enlarging them.

A 3-wide convolution of a map whose every pixel stands f times is a transposed convolution of the map itself, with
stride f and a kernel f + 2 wide: output pixels of one phase see the same sums of weights. Of the f² copies of each
product only the sums remain: at f = 2, 4 products for an output instead of 9. Zero padding beyond the border of the
enlarged map is zero padding beyond the border of the small one, so that borders are exact too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _spread(factor: int, like: Tensor) -> Tensor:
    """(factor + 2, 3): which of the three weights of an axis meet at each place of the transposed kernel."""
    place = torch.arange(factor + 2, device=like.device)[:, None]
    offset = place + torch.arange(3, device=like.device) - 2  # within the repeated pixel, if 0 to factor - 1
    return ((offset >= 0) & (offset < factor)).to(like.dtype)


@torch.no_grad()
def after_enlarging(convolution: nn.Module, factor: int) -> nn.Module:
    """`t` such that t(x) = convolution(interpolate(x, scale_factor=factor, mode="nearest")).

    The convolution is 3 wide, pads with one zero and keeps the size. In 3-D (B,C,D,H,W) depth is not enlarged.
    """
    if not isinstance(convolution, nn.Conv2d | nn.Conv3d):
        raise TypeError(f"{type(convolution).__name__} is no convolution over 2 or 3 dimensions")
    dims = convolution.weight.ndim - 2
    if convolution.kernel_size != (3,) * dims or convolution.padding != (1,) * dims:
        raise ValueError(
            f"the kernel {convolution.kernel_size} with padding {convolution.padding} is not 3 with 1"
        )
    factors = (1,) * (dims - 2) + (factor, factor)
    weight = convolution.weight.double()
    for axis_factor in factors:  # each takes the first axis of the kernel and puts its own last
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
def joined(convolutions: list[nn.Conv2d]) -> nn.Conv2d:
    """One convolution that gives the channels of several, which see the same map, one after the other."""
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
