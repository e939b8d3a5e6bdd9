"""Convolutions with fewer multiplications, as a few large matrix products.

Winograd's F(4x4, 3x3), in the terms of Lavin and Gray (arXiv 1509.09308): a tile of 4x4 outputs sees 6x6 inputs. Both,
and the kernels beforehand, are transformed to their values at six points per axis, where convolution is multiplication:
36 products for each pair of channels, instead of 16 times 9. They form 36 matrix products, which keep a processor at
its peak; the transforms are sums, which are cheap when there are many channels. With the points in `kernels` the
relative error is about 1e-6 in float32, and 1.4e-2 in bfloat16.

A map that was upsampled by repeating pixels takes 9 products per pixel, whatever the factor. Along one axis, the first
copy of a repeated pixel also sees the pixel before, the last copy the pixel after, and the copies in between only
themselves. With W the sum of the kernel's weights, the three results are

    W·x + w[0]·(before − x),    W·x + w[2]·(after − x),    W·x

so three products per pixel, with W, w[0] and w[2], give any number of outputs; on both axes it takes 3 by 3, where a
transposed convolution (`rewrites.convolutions`) takes 16 for a factor of 2 and 25 for three or more.

Maps are channels-last, (H,W,C) here, volumes (D,H,W,C). They are processed in stripes of rows that fit in the
processor's caches. Activations are max(v, slope·v): with slope 1 there is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.winograd import elementwise
from liveportrait.engine.winograd.elementwise import scratch
from liveportrait.engine.winograd.kernels import FAR, FAR2, IN, NEAR, NEAR2, OUT

STRIPE = 20_000_000  # bytes of a stripe in its larger form: enough for a 64x64 map of 512 channels in float32

# The kernel transform: its values at 0, ±NEAR, ±FAR and infinity from the three weights of an axis.
KERNEL = (
    (1, 0, 0),
    *(tuple(point**power / (2 * NEAR2 * (NEAR2 - FAR2)) for power in range(3)) for point in (NEAR, -NEAR)),
    *(tuple(point**power / (2 * FAR2 * (FAR2 - NEAR2)) for power in range(3)) for point in (FAR, -FAR)),
    (0, 0, 1),
)
COMBINED = ((1, 1, 1), (1, 0, 0), (0, 0, 1))  # W, w[0] and w[2] from the three weights of an axis


class Winograd2d(nn.Module):
    """A 3-wide, size-preserving `Conv2d`. `stripes` lets the next operation work on its products."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        """`dtype` is that of the products. Maps and sums are always float32."""
        super().__init__()
        require_plain(convolution)
        self.out_channels = convolution.out_channels
        kernel = transform_kernel(convolution.weight).to(dtype)
        self.weight = nn.Parameter(kernel, requires_grad=False)  # (36, C, O)
        self.bias = bias_of(convolution)

    def forward(self, image: Tensor, slope: float = 1, out: Tensor | None = None) -> Tensor:
        """(H,W,C) to (H,W,O), activated."""
        if out is None:
            out = image.new_empty(*image.shape[:2], self.out_channels)
        for top, products in self.stripes(image.contiguous()):
            elementwise.transform_output(products, self.bias, slope, top, out[None])
        return out

    def stripes(
        self, image: Tensor, index: Tensor | None = None, channel: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """The result's first row and products (36,1,h,w,O), stripe by stripe from the top down.

        The map is (H,W,..), of which C channels starting at `channel` are read. `index` (S,) makes it a map (S,S) that
        repeats pixels and is never stored completely, see `elementwise.transform_input`.
        """
        return _stripes(image[None], self.weight, index, channel)


class Winograd3d(nn.Module):
    """A 3-wide, size-preserving `Conv3d` on one volume: F(4, 3) in depth too, where a tile has 4 slices."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        require_plain(convolution)
        taps = [transform_kernel(tap) for tap in transform_kernel_depth(convolution.weight)]
        self.weight = nn.Parameter(torch.stack(taps, 1).flatten(0, 1), requires_grad=False)  # (36·6, C, O)
        self.bias = bias_of(convolution)
        self.no_bias = nn.Parameter(torch.zeros_like(self.bias), requires_grad=False)

    def forward(self, volume: Tensor, slope: float = 1) -> Tensor:
        """(D,H,W,C) to (D,H,W,O), activated; valid until the next volume is made."""
        tiles = depth_tiles(volume)  # (6, d, H, W, C)
        made = scratch("outputs", (*tiles.shape[:4], len(self.bias)))
        for top, products in _stripes(tiles.flatten(0, 1), self.weight, None):
            elementwise.transform_output(products, self.no_bias, 1, top, made.flatten(0, 1))
        out = scratch("volume", (*volume.shape[:3], len(self.bias)))
        elementwise.transform_output_depth(made, self.bias, slope, out)
        return out


class WinogradDepth3d(nn.Module):
    """`Winograd3d` for volumes with slices too small for tiles: F(4, 3) in depth, 2-D convolutions at its points."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        require_plain(convolution)
        kernel = transform_kernel_depth(convolution.weight)
        self.weight = nn.Parameter(kernel, requires_grad=False)  # (6, O, C, 3, 3)
        self.bias = bias_of(convolution)

    def forward(self, volume: Tensor, slope: float = 1) -> Tensor:
        """(D,H,W,C) to (D,H,W,O), activated; valid until the next volume is made."""
        tiles = depth_tiles(volume).permute(0, 1, 4, 2, 3).contiguous()
        made = torch.stack([F.conv2d(*each, padding=1) for each in zip(tiles, self.weight, strict=True)])
        out = scratch("volume", (*volume.shape[:3], len(self.bias)))
        elementwise.transform_output_depth(made.permute(0, 1, 3, 4, 2).contiguous(), self.bias, slope, out)
        return out


class UpsampledConv2d(nn.Module):
    """convolution(x repeated `factor` times on both axes), for a factor of 2, 3 or more."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, factor: int, dtype: torch.dtype = torch.float32) -> None:
        """`dtype` is that of the products. Maps and sums are always float32."""
        super().__init__()
        require_plain(convolution)
        kernel = _combined(convolution.weight).to(dtype)
        self.weight = nn.Parameter(kernel, requires_grad=False)  # (C, 9·O)
        self.bias, self.factor = bias_of(convolution), factor

    def forward(self, image: Tensor, slope: float = 1) -> Tensor:
        """(H,W,C) to (f·H,f·W,O), activated; valid until the next call."""
        height, width, channels = image.shape
        products = scratch("products", (height * width, self.weight.shape[1]), self.weight.dtype)
        torch.mm(image.to(self.weight.dtype).view(-1, channels), self.weight, out=products)
        out = scratch("map", (height * self.factor, width * self.factor, len(self.bias)))
        elementwise.upsampled_output(products.view(1, height, width, 3, 3, -1), self.bias, slope, out[None])
        return out


class UpsampledConv3d(nn.Module):
    """`UpsampledConv2d` for a `Conv3d` of a volume whose pixels are repeated on both axes; in depth it is F(4, 3)."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d, factor: int) -> None:
        super().__init__()
        require_plain(convolution)
        taps = [_combined(tap) for tap in transform_kernel_depth(convolution.weight)]
        self.weight = nn.Parameter(torch.stack(taps), requires_grad=False)  # (6, C, 9·O)
        self.bias, self.factor = bias_of(convolution), factor
        self.no_bias = nn.Parameter(torch.zeros_like(self.bias), requires_grad=False)

    def forward(self, volume: Tensor, slope: float = 1, more: int = 0) -> Tensor:
        """(D,H,W,C) to (D,f·H,f·W,O), activated, with room for `more` channels that stay unwritten.

        Valid until the next volume is made.
        """
        tiles = depth_tiles(volume)  # (6, d, H, W, C)
        count, height, width, channels = tiles.shape[1:]
        pixels = tiles.view(len(tiles), -1, channels)
        products = scratch("products", (*pixels.shape[:2], self.weight.shape[2]))
        torch.bmm(pixels, self.weight, out=products)
        size = (height * self.factor, width * self.factor)
        made = scratch("outputs", (len(tiles), count, *size, len(self.bias)))
        products = products.view(-1, height, width, 3, 3, len(self.bias))
        elementwise.upsampled_output(products, self.no_bias, 1, made.flatten(0, 1))
        out = scratch("volume", (len(volume), *size, len(self.bias) + more))
        elementwise.transform_output_depth(made, self.bias, slope, out)
        return out


def transform_kernel(weight: Tensor) -> Tensor:
    """Kernels (O,C,3,3) at 6 by 6 points: (36,C,O), columns before rows, as in tiles."""
    kernel = torch.tensor(KERNEL, dtype=torch.float64, device=weight.device)
    values = torch.einsum("ia,jb,ocab->jico", kernel, kernel, weight.double())
    return values.flatten(0, 1).to(weight.dtype).contiguous()


def transform_kernel_depth(weight: Tensor) -> Tensor:
    """Kernels (O,C,3,H,W) at 6 points in depth: (6,O,C,H,W)."""
    kernel = torch.tensor(KERNEL, dtype=torch.float64, device=weight.device)
    return torch.einsum("ia,ocahw->iochw", kernel, weight.double()).to(weight.dtype)


def depth_tiles(volume: Tensor) -> Tensor:
    """The volume (D,H,W,C) at six points of every tile of 4 slices: (6,d,H,W,C); valid until the next call."""
    tiles = scratch("inputs", (IN, -(-len(volume) // OUT), *volume.shape[1:]))
    elementwise.transform_input_depth(volume, tiles)
    return tiles


def _stripes(
    maps: Tensor, weight: Tensor, index: Tensor | None, channel: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """Products (P,n,h,w,O) of maps (N,H,W,..) and weights (P,C,O), stripe by stripe, and the first row of each."""
    count, height, width = maps.shape[:3]
    _, channels, outputs = weight.shape
    if index is not None:
        height = width = len(index)
    down, across = -(-height // OUT), -(-width // OUT)
    row = IN * IN * count * across * max(channels, outputs) * weight.dtype.itemsize  # of tiles, in bytes
    at_once = max(1, STRIPE // row)
    # As many stripes, but of equal size: a small one reads as many weights as a large one.
    at_once = -(-down // -(-down // at_once))
    for first in range(0, down, at_once):
        size = (len(weight), count * IN * IN // len(weight), min(at_once, down - first), across)
        tiles = scratch("tiles", (*size, channels), weight.dtype)
        products = scratch("products", (*size, outputs), weight.dtype)
        elementwise.transform_input(maps, channel, index, first * OUT, tiles)
        torch.bmm(tiles.flatten(1, 3), weight, out=products.flatten(1, 3))
        yield first * OUT, products


def _combined(weight: Tensor) -> Tensor:
    """(C,9·O): the weights for the 3 by 3 products of an upsampled map, from kernels (O,C,3,3)."""
    combined = torch.tensor(COMBINED, dtype=torch.float64, device=weight.device)
    products = torch.einsum("ia,jb,ocab->cijo", combined, combined, weight.double())
    return products.flatten(1).to(weight.dtype).contiguous()


def require_plain(convolution: nn.Conv2d | nn.Conv3d) -> None:
    """Raises ValueError unless the kernel is 3 wide and the convolution preserves the size."""
    wanted = {"kernel_size": 3, "padding": 1, "stride": 1, "dilation": 1}
    if convolution.groups != 1 or any(set(getattr(convolution, name)) != {n} for name, n in wanted.items()):
        raise ValueError(f"{convolution} is not 3 wide, or does not keep the size")


def bias_of(convolution: nn.Conv2d | nn.Conv3d) -> nn.Parameter:
    """The bias (O,) of a convolution, zeros if it has none."""
    bias = convolution.bias
    given = convolution.weight.new_zeros(convolution.out_channels) if bias is None else bias.detach()
    return nn.Parameter(given, requires_grad=False)
