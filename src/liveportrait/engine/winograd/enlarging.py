"""3x3 convolutions of maps that were enlarged by repeating pixels: 9 products a pixel, whatever the factor.

Along one axis a pixel that stands several times is seen by its first copy together with the pixel before, by its last
one together with the pixel after, and by those between alone. With W the sum of the kernel's weights, the three are

    W·x + w[0]·(before − x),    W·x + w[2]·(after − x),    W·x

so that three products of every pixel, with W, w[0] and w[2], make any number of outputs; on both axes it takes 3 by 3,
where a transposed convolution (`optimise.upsampling`) takes 16 for a factor of 2 and 25 for three or more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from liveportrait.engine.winograd.passes import passes
from liveportrait.engine.winograd.places import valued_in_depth
from liveportrait.engine.winograd.scratch import scratch
from liveportrait.engine.winograd.winograd import bias_of, in_slabs, require_plain

COMBINED = ((1, 1, 1), (1, 0, 0), (0, 0, 1))  # W, w[0] and w[2] from the three weights of an axis


class Enlarged2d(nn.Module):
    """convolution(x repeated `factor` times on both axes), for a factor of 2, 3 or more."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, factor: int, dtype: torch.dtype = torch.float32) -> None:
        """`dtype`: in which products are made. Maps and sums are float32 in any case."""
        super().__init__()
        require_plain(convolution)
        self.weight = nn.Parameter(_combined(convolution.weight).to(dtype), requires_grad=False)  # (C, 9·O)
        self.bias, self.factor = bias_of(convolution), factor

    def whole(self, image: Tensor, slope: float = 1) -> Tensor:
        """(f·H,f·W,O) of one map (H,W,C), activated by max(v, slope·v); valid until the next call."""
        height, width, channels = image.shape
        products = scratch("products", (height * width, self.weight.shape[1]), self.weight.dtype)
        torch.mm(image.to(self.weight.dtype).view(-1, channels), self.weight, out=products)
        out = scratch("map", (height * self.factor, width * self.factor, len(self.bias)))
        passes().from_steps(products.view(1, height, width, 3, 3, -1), self.bias, slope, out[None])
        return out


class Enlarged3d(nn.Module):
    """The same for a `Conv3d` of a volume whose pixels are repeated on both axes; in depth it is Winograd's."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d, factor: int) -> None:
        super().__init__()
        require_plain(convolution)
        taps = [_combined(tap) for tap in valued_in_depth(convolution.weight)]
        self.weight = nn.Parameter(torch.stack(taps), requires_grad=False)  # (6, C, 9·O)
        self.bias, self.factor = bias_of(convolution), factor
        self.nothing = nn.Parameter(torch.zeros_like(self.bias), requires_grad=False)

    def whole(self, volume: Tensor, slope: float = 1, more: int = 0) -> Tensor:
        """(D,f·H,f·W,O) of one volume (D,H,W,C), activated by max(v, slope·v); `more` channels stay unwritten.

        Valid until the next volume is made.
        """
        slabs = in_slabs(volume)  # (6, d, H, W, C)
        count, height, width, channels = slabs.shape[1:]
        pixels = slabs.view(len(slabs), -1, channels)
        products = scratch("products", (*pixels.shape[:2], self.weight.shape[2]))
        torch.bmm(pixels, self.weight, out=products)
        size = (height * self.factor, width * self.factor)
        made = scratch("outputs", (len(slabs), count, *size, len(self.bias)))
        products = products.view(-1, height, width, 3, 3, len(self.bias))
        passes().from_steps(products, self.nothing, 1, made.flatten(0, 1))
        out = scratch("volume", (len(volume), *size, len(self.bias) + more))
        passes().from_slabs(made, self.bias, slope, out)
        return out


def _combined(weight: Tensor) -> Tensor:
    """(C,9·O): the weights of the 3 by 3 products, from kernels (O,C,3,3)."""
    combined = torch.tensor(COMBINED, dtype=torch.float64, device=weight.device)
    products = torch.einsum("ia,jb,ocab->cijo", combined, combined, weight.double())
    return products.flatten(1).to(weight.dtype).contiguous()
