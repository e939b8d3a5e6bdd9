"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3), arXiv 1509.09308.

A tile of 4x4 outputs sees 6x6 inputs. Both, and the kernels beforehand, are turned into values at six places of an
axis, where convolving is multiplying: 36 products for each pair of channels, instead of 16 times 9. They are 36
products of matrices, which keep a processor at its peak; the turning is sums, which are cheap where channels are many.

With the places of `places` the result differs by some 1e-6 of its size in float32, in bfloat16 by 1.4e-2.

Maps are channels-last, (H,W,C) here, volumes (D,H,W,C). They pass in stripes of rows that stay within the
processor's caches.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.winograd.passes import passes
from liveportrait.engine.winograd.places import IN, OUT, valued, valued_in_depth
from liveportrait.engine.winograd.scratch import scratch

STRIPE = 20_000_000  # bytes of a stripe in its larger form: in float32 a 64x64 map of 512 channels is one


class Winograd2d(nn.Module):
    """A `Conv2d` 3 wide that keeps the size. Called as one it answers alike; `stripes` serves what follows it."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        """`dtype`: in which products are made. Maps and sums are float32 in any case."""
        super().__init__()
        require_plain(convolution)
        self.out_channels = convolution.out_channels
        self.weight = nn.Parameter(valued(convolution.weight).to(dtype), requires_grad=False)  # (36, C, O)
        self.bias = bias_of(convolution)

    def forward(self, x: Tensor) -> Tensor:
        """(B,O,H,W), channels-last, of (B,C,H,W)."""
        return torch.stack([self.whole(image) for image in x.permute(0, 2, 3, 1)]).permute(0, 3, 1, 2)

    def whole(self, image: Tensor, slope: float = 1, out: Tensor | None = None) -> Tensor:
        """(H,W,O) of one map (H,W,C), activated by max(v, slope·v)."""
        if out is None:
            out = image.new_empty(*image.shape[:2], self.out_channels)
        for top, products in self.stripes(image.contiguous()):
            passes().from_tiles(products, self.bias, slope, top, out[None])
        return out

    def stripes(
        self, image: Tensor, places: Tensor | None = None, channel: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """Rows of the result in the form of products (36,1,h,w,O), and which is their first; from the top down.

        The map is (H,W,..), of which C channels are read from number `channel` on. `places`: see `Passes.to_tiles`;
        the map that has them is never made as a whole.
        """
        return _stripes(image[None], self.weight, places, channel)


class Winograd3d(nn.Module):
    """A `Conv3d` 3 wide that keeps the size, on one volume: the same in depth, where slabs of 4 slices are tiles."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        require_plain(convolution)
        taps = [valued(tap) for tap in valued_in_depth(convolution.weight)]
        self.weight = nn.Parameter(torch.stack(taps, 1).flatten(0, 1), requires_grad=False)  # (36·6, C, O)
        self.bias = bias_of(convolution)
        self.nothing = nn.Parameter(torch.zeros_like(self.bias), requires_grad=False)

    def whole(self, volume: Tensor, slope: float = 1) -> Tensor:
        """(D,H,W,O) of one volume (D,H,W,C), activated by max(v, slope·v); valid until the next volume is made."""
        slabs = in_slabs(volume)  # (6, d, H, W, C)
        made = scratch("outputs", (*slabs.shape[:4], len(self.bias)))
        for top, products in _stripes(slabs.flatten(0, 1), self.weight, None):
            passes().from_tiles(products, self.nothing, 1, top, made.flatten(0, 1))
        out = scratch("volume", (*volume.shape[:3], len(self.bias)))
        passes().from_slabs(made, self.bias, slope, out)
        return out


class Slabs3d(nn.Module):
    """The same for volumes whose slices are too small for tiles: 2-D convolutions at the six places of a slab."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        require_plain(convolution)
        self.weight = nn.Parameter(
            valued_in_depth(convolution.weight), requires_grad=False
        )  # (6, O, C, 3, 3)
        self.bias = bias_of(convolution)

    def whole(self, volume: Tensor, slope: float = 1) -> Tensor:
        """(D,H,W,O) of one volume (D,H,W,C), activated by max(v, slope·v); valid until the next volume is made."""
        slabs = in_slabs(volume).permute(0, 1, 4, 2, 3).contiguous()
        made = torch.stack([F.conv2d(*each, padding=1) for each in zip(slabs, self.weight, strict=True)])
        out = scratch("volume", (*volume.shape[:3], len(self.bias)))
        passes().from_slabs(made.permute(0, 1, 3, 4, 2).contiguous(), self.bias, slope, out)
        return out


def in_slabs(volume: Tensor) -> Tensor:
    """The volume (D,H,W,C) at six places of every slab of 4 slices: (6,d,H,W,C); valid until the next call."""
    slabs = scratch("inputs", (IN, -(-len(volume) // OUT), *volume.shape[1:]))
    passes().to_slabs(volume, slabs)
    return slabs


def _stripes(
    maps: Tensor, weight: Tensor, places: Tensor | None, channel: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Products (P,n,h,w,O) of maps (N,H,W,..) and weights (P,C,O), stripe by stripe, and the first row of each."""
    count, height, width = maps.shape[:3]
    _, channels, outputs = weight.shape
    if places is not None:
        height = width = len(places)
    down, across = -(-height // OUT), -(-width // OUT)
    row = IN * IN * count * across * max(channels, outputs) * weight.dtype.itemsize  # of tiles, in bytes
    at_once = max(1, STRIPE // row)
    at_once = -(-down // -(-down // at_once))  # as many stripes, of one size: small ones read as many weights
    for first in range(0, down, at_once):
        size = (len(weight), count * IN * IN // len(weight), min(at_once, down - first), across)
        tiles = scratch("tiles", (*size, channels), weight.dtype)
        products = scratch("products", (*size, outputs), weight.dtype)
        passes().to_tiles(maps, channel, places, first * OUT, tiles)
        torch.bmm(tiles.flatten(1, 3), weight, out=products.flatten(1, 3))
        yield first * OUT, products


def require_plain(convolution: nn.Conv2d | nn.Conv3d) -> None:
    """Raises ValueError unless the kernel is 3 wide and the convolution keeps the size."""
    wanted = {"kernel_size": 3, "padding": 1, "stride": 1, "dilation": 1}
    if convolution.groups != 1 or any(set(getattr(convolution, name)) != {n} for name, n in wanted.items()):
        raise ValueError(f"{convolution} is not 3 wide, or does not keep the size")


def bias_of(convolution: nn.Conv2d | nn.Conv3d) -> nn.Parameter:
    """(O,): what the convolution adds, zeros where it has none."""
    bias = convolution.bias
    given = convolution.weight.new_zeros(convolution.out_channels) if bias is None else bias.detach()
    return nn.Parameter(given, requires_grad=False)
