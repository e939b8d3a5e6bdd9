"""Wide convolutions as products of spectra: a 7x7x7 convolution for a twentieth of the multiplications.

A convolution of a picture is a product at each frequency of its spectrum, here a product of matrices, channels by
channels. That holds for height and width; in depth, which is short, kernels are summed slice by slice, still as
spectra, so that only the sums are turned back. In float32 the result differs by some 2e-5 of its size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FourierConv3d(nn.Module):
    """A `Conv3d` of odd width that keeps the size, on one volume of a height and width known beforehand."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d, height: int, width: int) -> None:
        super().__init__()
        kernel = convolution.kernel_size
        self.reach = [size // 2 for size in kernel]
        self.size = [fast_length(height + self.reach[1]), fast_length(width + self.reach[2])]
        spectra = torch.fft.rfft2(convolution.weight, s=self.size)  # (O, C, 7, S, S/2 + 1)
        down, across = (torch.fft.fftfreq(self.size[0]), torch.fft.rfftfreq(self.size[1]))
        turns = down[:, None] * self.reach[1] + across * self.reach[2]  # centres the kernel
        spectra = spectra.conj() * torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        weight = spectra.permute(3, 4, 1, 2, 0).flatten(0, 1).flatten(2).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)  # (frequencies, C, 7·O)
        self.bias = convolution.bias

    def whole(self, volume: Tensor) -> Tensor:
        """(D,H,W,O) of one volume (D,H,W,C)."""
        depth, height, width = volume.shape[:3]
        spectra = torch.fft.rfft2(volume, s=self.size, dim=(1, 2))  # (D, S, S/2 + 1, C)
        products = torch.bmm(spectra.flatten(1, 2).transpose(0, 1), self.weight)
        taps = 2 * self.reach[0] + 1
        products = products.unflatten(2, (taps, -1))  # (frequencies, D, 7, O)
        total = products[:, :, self.reach[0]].clone()
        for offset in range(1, min(depth, self.reach[0] + 1)):
            total[:, :-offset] += products[:, offset:, self.reach[0] + offset]
            total[:, offset:] += products[:, :-offset, self.reach[0] - offset]
        out = torch.fft.irfft2(total.unflatten(0, (self.size[0], -1)), s=self.size, dim=(0, 1))
        out = out[:height, :width].permute(2, 0, 1, 3)
        return out.contiguous() if self.bias is None else out + self.bias


def fast_length(least: int) -> int:
    """The smallest even number from `least` on that has no prime factor above 5: Fourier transforms are fast there."""
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2
