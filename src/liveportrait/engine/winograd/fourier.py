"""Wide convolutions as products of spectra: a 7x7x7 convolution for a sixteenth of the multiplications.

A convolution of a picture is a product at each frequency of its spectrum, here a matrix product, channels by channels.
This is used for height and width; in depth, which is short, kernels are summed slice by slice, still as spectra, so
only the sums are transformed back. The picture is cut into tiles of at most 32x32 outputs: larger ones save few
products, and the kernels' spectra are as large as a tile. The transforms are products with matrices of cosines and
sines, which at these lengths is faster than Fourier transforms of channels-last maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from liveportrait.engine.winograd import elementwise
from liveportrait.engine.winograd.convolutions import bias_of
from liveportrait.engine.winograd.elementwise import scratch

TILE = 32  # maximum number of a tile's outputs along an axis


@dataclass(frozen=True)
class Axis:
    """An axis of `size` pixels, cut into tiles whose inputs overlap by the kernel's reach on both sides."""

    size: int
    reach: int

    @property
    def tiles(self) -> int:
        """The number of tiles."""
        return -(-self.size // TILE)

    @property
    def outputs(self) -> int:
        """Outputs of a tile; the last tile may extend beyond the axis."""
        return -(-self.size // self.tiles)

    @property
    def length(self) -> int:
        """Inputs of a tile, and frequencies of its spectrum."""
        return self.outputs + 2 * self.reach

    def seen(self, tile: int) -> tuple[slice, slice]:
        """The pixels that a tile sees, and which of its inputs they are; the other inputs are outside and zero."""
        start = tile * self.outputs - self.reach
        first, end = max(0, start), min(self.size, start + self.length)
        return slice(first, end), slice(first - start, end - start)

    def waves(self, frequencies: int, positions: int) -> Tensor:
        """exp(-2πi·f·x / length) at (f, x), float64."""
        turns = torch.outer(torch.arange(frequencies), torch.arange(positions)).double() / self.length
        return torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)


class FourierConv3d(nn.Module):
    """A size-preserving `Conv3d` of odd width, on one volume of fixed height and width."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d, height: int, width: int) -> None:
        super().__init__()
        self.taps, *reach = convolution.kernel_size
        self.rows, self.columns = Axis(height, reach[0] // 2), Axis(width, reach[1] // 2)
        self.bias = bias_of(convolution)
        # Half of the frequencies along columns: since pictures are real, the others are conjugates.
        length, half = self.columns.length, self.rows.length // 2 + 1
        size = (length, self.rows.length)
        spectra = torch.fft.rfft2(convolution.weight, s=size, dim=(4, 3)).conj()  # (O, C, 7, K, L)
        parts = torch.view_as_real(spectra.resolve_conj()).permute(3, 4, 1, 5, 2, 0)  # (K, L, C, 2, 7, O)
        self.weight = _fixed(parts.flatten(3).flatten(0, 1))  # (K·L, C, 2·7·O)
        down, across = self.rows.waves(half, self.rows.length), self.columns.waves(length, length)
        self.down = _fixed(_parts(down))  # (2·K, inputs)
        # From real and from imaginary parts, each to both parts: times 1 and i.
        self.across = _fixed(_parts(torch.stack([across, 1j * across])))  # (2, 2·L, inputs)
        # On the way back a matrix's columns take real and imaginary parts, again times 1 and i.
        back = self.columns.waves(length, self.columns.outputs).conj() / length
        back = torch.stack([back, 1j * back], 1).flatten(0, 1).t()  # (outputs, 2·L)
        self.across_back = _fixed(torch.cat([back.real, back.imag]))  # (2·outputs, 2·L)
        # A frequency between the first and the middle one also stands for its conjugate.
        counts = torch.tensor([1 if 2 * row in (0, self.rows.length) else 2 for row in range(half)])
        back = self.rows.waves(half, self.rows.outputs).conj() * counts[:, None] / self.rows.length
        self.down_back = _fixed(torch.stack([back.real, -back.imag], 1).flatten(0, 1).t())  # (outputs, 2·K)

    def forward(self, volume: Tensor) -> Tensor:
        """(D,H,W,C) to (D,H,W,O)."""
        depth, channels = len(volume), volume.shape[3]
        spectra = self._spectra(volume)  # (tiles across, tiles down, D, K, L, 2, C)
        half, length = spectra.shape[3:5]
        pictures, outputs = spectra.shape[0] * spectra.shape[1] * depth, len(self.bias)
        spectra = spectra.view(pictures, half, length, 2, channels)
        products = scratch("products", (2, length, pictures, 2, self.taps, outputs))
        sums = volume.new_empty(half, length, 2, pictures, outputs)
        for row in range(half):
            for part in range(2):
                made = products[part].view(length, pictures, -1)
                weight = self.weight[row * length : (row + 1) * length]
                torch.bmm(spectra[:, row, :, part].transpose(0, 1), weight, out=made)
            elementwise.sum_spectra(products, depth, sums[row])
        return self._pixels(sums.view(half, 2 * length, -1), volume)

    def _spectra(self, volume: Tensor) -> Tensor:
        depth, _, width, channels = volume.shape
        half, rows, columns = len(self.down) // 2, self.rows, self.columns
        halves = scratch("inputs", (rows.tiles, depth, 2 * half, width * channels))
        for tile in range(rows.tiles):
            pixels, inputs = rows.seen(tile)
            for seen, made in zip(volume[:, pixels].flatten(2), halves[tile], strict=True):
                torch.mm(self.down[:, inputs], seen, out=made)
        halves = halves.view(-1, 2, width, channels)
        spectra = scratch("outputs", (columns.tiles, len(halves), 2 * columns.length, channels))
        for tile, made in enumerate(spectra):
            pixels, inputs = columns.seen(tile)
            real, imaginary = self.across[:, None, :, inputs].expand(-1, len(halves), -1, -1)
            torch.bmm(real, halves[:, 0, pixels], out=made)
            made.baddbmm_(imaginary, halves[:, 1, pixels])
        return spectra.view(columns.tiles, rows.tiles, depth, half, columns.length, 2, channels)

    def _pixels(self, sums: Tensor, volume: Tensor) -> Tensor:
        """(D,H,W,O) from spectra (K, 2·L, tiles across · tiles down · D · O)."""
        depth, height, width, _ = volume.shape
        made = torch.stack([self.across_back @ row for row in sums])  # (K, 2·outputs, ..)
        made = self.down_back @ made.view(self.down_back.shape[1], -1)
        size = (self.rows.outputs, self.columns.outputs, self.columns.tiles, self.rows.tiles, depth, -1)
        out = made.view(size).permute(4, 3, 0, 2, 1, 5).flatten(3, 4).flatten(1, 2)
        return out[:, :height, :width] + self.bias


def _parts(waves: Tensor) -> Tensor:
    """Complex waves (..,L,X) as real ones (..,2·L,X), with the two parts of each frequency adjacent."""
    return torch.view_as_real(waves).movedim(-1, -2).flatten(-3, -2)


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.float().contiguous(), requires_grad=False)
