"""The passes between products as PyTorch's operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.engine.rewrites.base_warping import seen_motions
from liveportrait.engine.winograd.passes import Normal
from liveportrait.engine.winograd.places import FAR, FAR2, IN, NEAR, NEAR2, OUT

EPSILON = 1e-5  # of instance normalisation
ROWS = 16  # of a map, for its statistics, at once


class PlainPasses:
    """See `Passes`."""

    def to_tiles(self, maps: Tensor, channel: int, places: Tensor | None, top: int, out: Tensor) -> None:
        down, across, channels = out.shape[2:]
        height, width = maps.shape[1:3] if places is None else (len(places), len(places))
        bottom = min(height, top + down * OUT)
        above, below = max(0, top - 1), min(height, bottom + 1)
        maps = maps[..., channel : channel + channels]
        if places is None:
            seen = maps[:, above:below]
        else:
            seen = maps.index_select(1, places[above:below]).index_select(2, places)
        missing = top + down * OUT - bottom
        border = (0, 0, 1, 1 + across * OUT - width, above - top + 1, bottom + 1 - below + missing)
        seen = F.pad(seen, border)
        rows = seen.new_empty(IN, len(seen), down, seen.shape[2], channels)
        _value_inputs([seen[:, i : i + OUT * (down - 1) + 1 : OUT] for i in range(IN)], rows)
        rows = rows.unflatten(1, (-1, out.shape[1]))  # (6, groups, n, h, W, C)
        tiles = out if out.dtype == seen.dtype else torch.empty_like(out, dtype=seen.dtype)
        starts = range(IN)
        _value_inputs(
            [rows[..., i : i + OUT * (across - 1) + 1 : OUT, :] for i in starts],
            tiles.unflatten(0, (IN, IN, -1)),
        )
        if tiles is not out:
            out.copy_(tiles)

    def from_tiles(self, products: Tensor, bias: Tensor, slope: float, top: int, out: Tensor) -> None:
        rows = out[:, top : top + OUT * products.shape[2]]
        torch.add(_maps(products)[:, : rows.shape[1], : rows.shape[2]], bias, out=rows)
        if slope != 1:
            F.leaky_relu_(rows, slope)

    def add_from_tiles(self, products: Tensor, bias: Tensor, normal: Normal, top: int, out: Tensor) -> None:
        rows = slice(top, min(len(out), top + OUT * products.shape[2]))
        made = self._stripe(products, bias, rows, out)
        torch.add(made, _enlarged(normal.x[_own(normal, rows)], normal), out=out[rows])

    def modulate(
        self, products: Tensor, bias: Tensor, normal: Normal, slope: float, top: int, out: Tensor
    ) -> None:
        rows = slice(top, min(len(out), top + OUT * products.shape[2]))
        gain, shift = self._stripe(products, bias, rows, out).chunk(2, dim=2)
        F.leaky_relu_(torch.addcmul(shift, _rows(normal, rows), gain, out=out[rows]), slope)

    def scale_and_shift(
        self, products: Tensor, bias: Tensor, normal: Normal, top: int, scaled: Tensor, out: Tensor
    ) -> None:
        rows = slice(top, min(len(out), top + OUT * products.shape[2]))
        made = self._stripe(products, bias, rows, out)
        gain, shift = made.split([scaled.shape[2], out.shape[2]], dim=2)
        out[rows] += shift
        torch.mul(_rows(normal, rows), gain, out=scaled)

    def to_slabs(self, volume: Tensor, out: Tensor) -> None:
        count = out.shape[1]
        seen = F.pad(volume, (0, 0) * 3 + (1, 1 + count * OUT - len(volume)))
        _value_inputs([seen[i : i + OUT * (count - 1) + 1 : OUT] for i in range(IN)], out)

    def from_slabs(self, values: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
        slices = values.new_empty(values.shape[1], OUT, *values.shape[2:])
        _recover_outputs(values, slices.unbind(1))
        made = out[..., : values.shape[-1]]
        torch.add(slices.flatten(0, 1)[: len(out)], bias, out=made)
        if slope != 1:
            F.leaky_relu_(made, slope)

    def from_steps(self, products: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
        factor = out.shape[1] // products.shape[1]
        rows = _repeated(products.float(), 1, factor)  # (N, f·H, W, 3, O)
        made = _repeated(rows, 2, factor).add_(bias)
        out.copy_(F.leaky_relu_(made, slope) if slope != 1 else made)

    def from_spectra(self, products: Tensor, depth: int, out: Tensor) -> None:
        real, imaginary = products.unflatten(2, (-1, depth))  # (L, N, D, 2, T, O)
        sums = out.unflatten(2, (-1, depth)).zero_()
        taps = products.shape[4]
        for tap in range(taps):
            step = tap - taps // 2
            if abs(step) < depth:
                to, of = slice(max(0, -step), depth - max(0, step)), slice(max(0, step), depth + min(0, step))
                a, b = real[:, :, of, :, tap], imaginary[:, :, of, :, tap]  # (L, N, d, 2, O)
                sums[:, 0, :, to] += a[:, :, :, 0] - b[:, :, :, 1]
                sums[:, 1, :, to] += a[:, :, :, 1] + b[:, :, :, 0]

    def see_motions(self, compressed: Tensor, source: Tensor, driving: Tensor, out: Tensor) -> None:
        _, seen = seen_motions(compressed, source, driving)
        out[..., : seen.shape[1]] = seen[0].movedim(0, 3)
        out[..., seen.shape[1] :] = 0

    def normal(self, x: Tensor, doubled: bool) -> Normal:
        mean = x.mean((0, 1))
        squares = sum((part - mean).square_().sum((0, 1)) for part in x.split(ROWS))
        return Normal(x, mean, (squares / (x.shape[0] * x.shape[1]) + EPSILON).rsqrt(), doubled)

    def _stripe(self, products: Tensor, bias: Tensor, rows: slice, out: Tensor) -> Tensor:
        return _maps(products)[0, : rows.stop - rows.start, : out.shape[1]].add_(bias)


def _own(normal: Normal, rows: slice) -> slice:
    return slice(rows.start // 2, -(-rows.stop // 2)) if normal.doubled else rows


def _enlarged(x: Tensor, normal: Normal) -> Tensor:
    return x.repeat_interleave(2, 0).repeat_interleave(2, 1) if normal.doubled else x


def _rows(normal: Normal, rows: slice) -> Tensor:
    """(rows,W,C) of the normal map; a new tensor."""
    return _enlarged((normal.x[_own(normal, rows)] - normal.mean).mul_(normal.rate), normal)


def _maps(products: Tensor) -> Tensor:
    """Maps (N,4h,4w,O) of the products (P,n,h,w,O)."""
    _, _, down, across, channels = products.shape
    products = products.float().unflatten(0, (IN, IN, -1)).flatten(2, 3)  # (6, 6, N, h, w, O)
    count = products.shape[2]
    columns = products.new_empty(OUT, *products.shape[1:])
    _recover_outputs(products, columns)
    out = products.new_empty(count, down, OUT, across, OUT, channels)
    _recover_outputs(columns.transpose(0, 1), [out[:, :, i].permute(3, 0, 1, 2, 4) for i in range(OUT)])
    return out.view(count, down * OUT, across * OUT, channels)


def _repeated(products: Tensor, axis: int, factor: int) -> Tensor:
    """One of the axes of `from_steps`; of products (..,3,..) with the three products behind the maps' axes."""
    whole, before, after = products.unbind(3)
    size = whole.shape[axis]
    first, last = whole - before, whole - after
    first.narrow(axis, 1, size - 1).add_(before.narrow(axis, 0, size - 1))
    last.narrow(axis, 0, size - 1).add_(after.narrow(axis, 1, size - 1))
    return torch.stack([first, *[whole] * (factor - 2), last], axis + 1).flatten(axis, axis + 1)


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
