"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3), arXiv 1509.09308.

A tile of 4x4 outputs sees 6x6 inputs. Both, and the kernels beforehand, are turned into values at six places of an
axis, where convolving is multiplying: 36 products for each pair of channels, instead of 16 times 9. They are 36
products of matrices, which keep a processor at its peak; the turning is sums, which are cheap where channels are many.

The usual places are 0, 1, -1, 2, -2 and infinity. Rounding errors grow by the norms of the three changes of form:
10.8 times on both axes there, but only 4.75 times with 2/3 and 3/2 in the place of 1 and 2, which is next to the best
that two pairs can do. In float32 the result then differs by some 1e-6 of its size, in bfloat16 by 1.4e-2.

Maps are channels-last, (H,W,C) here, volumes (D,H,W,C). They pass in stripes of rows that stay within the
processor's caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUT, IN = 4, 6  # side of a tile, of outputs and of inputs
STRIPE = 5_000_000  # numbers of a stripe in its larger form: a 64x64 map of 512 channels is one

NEAR, FAR = 2 / 3, 3 / 2  # the places, beside 0 and infinity; their product is 1
NEAR2, FAR2 = NEAR**2, FAR**2

# How a kernel's three weights are valued at 0, ±NEAR, ±FAR and infinity.
KERNEL = (
    (1, 0, 0),
    *(tuple(place**power / (2 * NEAR2 * (NEAR2 - FAR2)) for power in range(3)) for place in (NEAR, -NEAR)),
    *(tuple(place**power / (2 * FAR2 * (FAR2 - NEAR2)) for power in range(3)) for place in (FAR, -FAR)),
    (0, 0, 1),
)


class Winograd2d(nn.Module):
    """A `Conv2d` 3 wide that keeps the size. Called as one it answers alike; `stripes` serves what follows it."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype = torch.float32) -> None:
        """`dtype`: in which products are made. Maps and sums are float32 in any case."""
        super().__init__()
        require_plain(convolution)
        self.out_channels = convolution.out_channels
        self.weight = nn.Parameter(valued(convolution.weight).to(dtype), requires_grad=False)  # (36, C, O)
        self.bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B,O,H,W), channels-last, of (B,C,H,W)."""
        return torch.stack([self.whole(image) for image in x.permute(0, 2, 3, 1)]).permute(0, 3, 1, 2)

    def whole(self, image: Tensor) -> Tensor:
        """(H,W,O) of one map (H,W,C)."""
        out = image.new_empty(*image.shape[:2], self.out_channels)
        for rows, stripe in self.stripes(image):
            out[rows] = stripe
        return out

    def stripes(self, image: Tensor, places: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Rows of the result, and the result there (rows,W,O), from the top down, of one map (H,W,C).

        With `places` (S,), from 0 to H - 1, the map convolved is (S,S,C): at row i and column j stands what the given
        one has in row places[i] and column places[j]. It is never made as a whole.
        """
        width = image.shape[1] if places is None else len(places)
        for rows, tiles in _tiled(image[None], places, self.out_channels):
            products = torch.bmm(tiles.flatten(2, 4).flatten(0, 1).to(self.weight.dtype), self.weight)
            stripe = from_tiles(products.float().view(*tiles.shape[:-1], -1))[
                0, : rows.stop - rows.start, :width
            ]
            yield rows, stripe if self.bias is None else stripe.add_(self.bias)


class Winograd3d(nn.Module):
    """A `Conv3d` 3 wide that keeps the size, on one volume: in depth it is a sum of three 2-D ones."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        require_plain(convolution)
        taps = [valued(tap) for tap in convolution.weight.unbind(2)]
        self.weight = nn.Parameter(torch.stack(taps), requires_grad=False)  # (3, 36, C, O)
        self.bias = convolution.bias

    def whole(self, volume: Tensor) -> Tensor:
        """(D,H,W,O) of one volume (D,H,W,C)."""
        depth, height, width = volume.shape[:3]
        out = volume.new_empty(depth, height, width, self.weight.shape[-1])
        for rows, tiles in _tiled(volume, None, out.shape[-1], slices=1):
            pixels = tiles.flatten(2, 4).flatten(0, 1)  # (36, (D + 2)·h·w, C)
            step = pixels.shape[1] // (depth + 2)
            products = pixels.new_empty(IN * IN, depth * step, out.shape[-1])
            # One by one: a batched product would copy what is not contiguous as a whole.
            for index, (seen, product) in enumerate(zip(pixels, products, strict=True)):
                torch.mm(seen[: depth * step], self.weight[0, index], out=product)
                for tap in (1, 2):
                    product.addmm_(seen[tap * step : (tap + depth) * step], self.weight[tap, index])
            made = from_tiles(products.view(IN, IN, depth, *tiles.shape[3:5], -1))
            out[:, rows] = made[:, : rows.stop - rows.start, :width]
        return out if self.bias is None else out.add_(self.bias)


def _tiled(
    maps: Tensor, places: Tensor | None, outputs: int, slices: int = 0
) -> Iterator[tuple[slice, Tensor]]:
    """Stripes of maps (N,H,W,C), see `Winograd2d.stripes`: rows, and the tiles (6,6,N,h,w,C) that cover them.

    With `slices`, so many maps of zeros stand before the first and behind the last.
    """
    count, height, width, channels = maps.shape
    if places is not None:
        height = width = len(places)
    down, across = -(-height // OUT), -(-width // OUT)
    at_once = max(1, STRIPE // (IN * IN * count * across * max(channels, outputs)))
    at_once = -(-down // -(-down // at_once))  # as many stripes, of one size: small ones read as many weights
    for first in range(0, down, at_once):
        top, bottom = first * OUT, min(height, (first + at_once) * OUT)
        above, below = max(0, top - 1), min(height, bottom + 1)
        if places is None:
            seen = maps[:, above:below]
        else:
            seen = maps.index_select(1, places[above:below]).index_select(2, places)
        missing = -(bottom - top) % OUT
        rows_padding = (above - top + 1, bottom + 1 - below + missing)
        yield (
            slice(top, bottom),
            to_tiles(F.pad(seen, (0, 0, 1, 1 + across * OUT - width, *rows_padding, slices, slices))),
        )


def require_plain(convolution: nn.Conv2d | nn.Conv3d) -> None:
    """Raises ValueError unless the kernel is 3 wide and the convolution keeps the size."""
    wanted = {"kernel_size": 3, "padding": 1, "stride": 1, "dilation": 1}
    if convolution.groups != 1 or any(set(getattr(convolution, name)) != {n} for name, n in wanted.items()):
        raise ValueError(f"{convolution} is not 3 wide, or does not keep the size")


def valued(weight: Tensor) -> Tensor:
    """Kernels (O,C,3,3) at 6 by 6 places: (36,C,O), columns before rows as tiles have them."""
    kernel = torch.tensor(KERNEL, dtype=torch.float64, device=weight.device)
    values = torch.einsum("ia,jb,ocab->jico", kernel, kernel, weight.double())
    return values.flatten(0, 1).to(weight.dtype).contiguous()


def to_tiles(maps: Tensor) -> Tensor:
    """Maps (N,4h+2,4w+2,C) at 6 by 6 places of every tile: (6,6,N,h,w,C), columns before rows."""
    count, height, width, channels = maps.shape
    down, across = (height - 2) // OUT, (width - 2) // OUT
    rows = maps.new_empty(IN, count, down, width, channels)
    _value_inputs([maps[:, i : i + OUT * (down - 1) + 1 : OUT] for i in range(IN)], rows)
    tiles = maps.new_empty(IN, IN, count, down, across, channels)
    _value_inputs([rows[:, :, :, i : i + OUT * (across - 1) + 1 : OUT] for i in range(IN)], tiles)
    return tiles


def from_tiles(products: Tensor) -> Tensor:
    """Maps (N,4h,4w,O) of the products (6,6,N,h,w,O)."""
    _, _, count, down, across, channels = products.shape
    columns = products.new_empty(OUT, *products.shape[1:])
    _recover_outputs(products, columns)
    out = products.new_empty(count, down, OUT, across, OUT, channels)
    _recover_outputs(columns.transpose(0, 1), [out[:, :, i].permute(3, 0, 1, 2, 4) for i in range(OUT)])
    return out.view(count, down * OUT, across * OUT, channels)


def _value_inputs(x: Sequence[Tensor], out: Sequence[Tensor] | Tensor) -> None:
    """Six inputs along an axis to their values at the six places; sums shared by two places are made once."""
    even, odd = torch.add(x[4], x[2], alpha=-FAR2), torch.add(x[3], x[1], alpha=-FAR2)
    torch.add(even, odd, alpha=NEAR, out=out[1])
    torch.add(even, odd, alpha=-NEAR, out=out[2])
    torch.add(x[4], x[2], alpha=-NEAR2, out=even)
    torch.add(x[3], x[1], alpha=-NEAR2, out=odd)
    torch.add(even, odd, alpha=FAR, out=out[3])
    torch.add(even, odd, alpha=-FAR, out=out[4])
    torch.add(x[0], x[4], out=even)
    torch.add(even, x[2], alpha=-(NEAR2 + FAR2), out=out[0])
    torch.add(x[1], x[5], out=odd)
    torch.add(odd, x[3], alpha=-(NEAR2 + FAR2), out=out[5])


def _recover_outputs(x: Sequence[Tensor] | Tensor, out: Sequence[Tensor] | Tensor) -> None:
    """Six products along an axis to the four outputs."""
    near, near_odd, far, far_odd = x[1] + x[2], x[1] - x[2], x[3] + x[4], x[3] - x[4]
    torch.add(near, x[0], out=out[0])
    out[0].add_(far)
    torch.add(near_odd.mul_(NEAR), far_odd, alpha=FAR, out=out[1])
    torch.add(near.mul_(NEAR2), far, alpha=FAR2, out=out[2])
    torch.add(x[5], near_odd, alpha=NEAR2, out=out[3])
    out[3].add_(far_odd, alpha=FAR**3)
