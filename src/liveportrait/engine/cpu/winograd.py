"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3), arXiv 1509.09308.

A tile of 4x4 outputs sees 6x6 inputs. Both, and the kernels beforehand, are turned into values at six places of an
axis (0, 1, -1, 2, -2 and infinity), where convolving is multiplying: 36 products for each pair of channels, instead of
16 times 9. They are 36 products of matrices, which keep a processor at its peak; the turning is sums, which are cheap
where channels are many. In float32 the result differs by some 3e-6 of its size; bfloat16 would be off by 3e-2.

Maps are channels-last, (N,H,W,C) here, and pass in stripes of rows that stay within the processor's caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUT, IN = 4, 6  # side of a tile, of outputs and of inputs
STRIPE = 1 << 22  # numbers of a stripe that are held at once, in its larger form

# How a kernel's three weights are valued at the six places.
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


class Winograd2d(nn.Module):
    """A `Conv2d` 3 wide that keeps the size. Called as one it answers alike; `stripes` serves what follows it."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        require_plain(convolution)
        self.in_channels, self.out_channels = convolution.in_channels, convolution.out_channels
        self.weight = nn.Parameter(valued(convolution.weight), requires_grad=False)  # (36, C, O)
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
        if places is None:
            height, width = image.shape[:2]
        else:
            height = width = len(places)
        down, across = -(-height // OUT), -(-width // OUT)
        at_once = max(1, STRIPE // (36 * across * max(self.in_channels, self.out_channels)))
        for first in range(0, down, at_once):
            top, bottom = first * OUT, min(height, (first + at_once) * OUT)
            above, below = max(0, top - 1), min(height, bottom + 1)
            seen = image[above:below] if places is None else _placed(image, places[above:below], places)
            missing = -(bottom - top) % OUT
            border = (1, 1 + across * OUT - width, above - top + 1, bottom + 1 - below + missing)
            tiles = to_tiles(F.pad(seen, (0, 0, *border))[None])
            products = torch.bmm(tiles.view(IN * IN, -1, self.in_channels), self.weight)
            made = from_tiles(products.view(*tiles.shape[:-1], -1))[0]
            stripe = made[: bottom - top, :width]
            yield slice(top, bottom), stripe if self.bias is None else stripe.add_(self.bias)


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
    """Six inputs along an axis to their values at the six places; sums shared between places are made once."""
    even, odd = torch.add(x[4], x[2], alpha=-4), torch.add(x[3], x[1], alpha=-4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(x[4], x[2], out=even)
    torch.sub(x[3], x[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.add(even, odd, alpha=-2, out=out[4])
    torch.sub(x[0], x[2], out=odd)
    torch.add(even, odd, alpha=4, out=out[0])
    torch.sub(x[5], x[3], out=even)
    torch.sub(x[1], x[3], out=odd)
    torch.add(even, odd, alpha=4, out=out[5])


def _recover_outputs(x: Sequence[Tensor] | Tensor, out: Sequence[Tensor] | Tensor) -> None:
    """Six products along an axis to the four outputs."""
    near, near_odd, far, far_odd = x[1] + x[2], x[1] - x[2], x[3] + x[4], x[3] - x[4]
    torch.add(near_odd, far_odd, alpha=2, out=out[1])
    torch.add(near, far, alpha=4, out=out[2])
    torch.add(near.add_(far), x[0], out=out[0])
    torch.add(near_odd.add_(far_odd, alpha=8), x[5], out=out[3])


def _placed(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return image.index_select(0, rows).index_select(1, columns)
