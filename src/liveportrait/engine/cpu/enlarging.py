"""3x3 convolutions of maps that were enlarged by repeating pixels: 9 products a pixel, whatever the factor.

Along one axis a pixel that stands several times is seen by its first copy together with the pixel before, by its last
one together with the pixel after, and by those between alone. With W the sum of the kernel's weights, the three are

    W·x + w[0]·(before − x),    W·x + w[2]·(after − x),    W·x

so that three products make any number of outputs; on both axes it takes 3 by 3, where a transposed convolution
(`optimise.upsampling`) takes 16 for a factor of 2 and 25 for three or more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.cpu.winograd import require_plain

# Weights of the products with x, (before - x) and (after - x), from the three weights of an axis.
COMBINED = ((1, 1, 1), (1, 0, 0), (0, 0, 1))


class Enlarged2d(nn.Module):
    """convolution(x repeated `factor` times on both axes), for a factor of 2, 3 or more."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, factor: int) -> None:
        super().__init__()
        require_plain(convolution)
        self.weight = nn.Parameter(_combined(convolution.weight), requires_grad=False)  # (9, C, O)
        self.bias, self.factor = convolution.bias, factor

    def whole(self, image: Tensor) -> Tensor:
        """(f·H,f·W,O) of one map (H,W,C)."""

        def multiply(part: Tensor, index: int) -> Tensor:
            return part @ self.weight[index]

        return _enlarged(image[None], multiply, self.bias, self.factor)[0]


class Enlarged3d(nn.Module):
    """The same for a `Conv3d` of a volume whose pixels are repeated on both axes; depth is not enlarged."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv3d, factor: int) -> None:
        super().__init__()
        require_plain(convolution)
        taps = [_combined(tap) for tap in convolution.weight.unbind(2)]
        self.weight = nn.Parameter(torch.stack(taps), requires_grad=False)  # (3, 9, C, O)
        self.bias, self.factor = convolution.bias, factor

    def whole(self, volume: Tensor) -> Tensor:
        """(D,f·H,f·W,O) of one volume (D,H,W,C)."""
        step = volume.shape[1] * volume.shape[2]
        before, here, after = self.weight

        def multiply(part: Tensor, index: int) -> Tensor:
            made = part @ here[index]
            if len(part) > step:
                made[step:].addmm_(part[:-step], before[index])
                made[:-step].addmm_(part[step:], after[index])
            return made

        return _enlarged(volume, multiply, self.bias, self.factor)


def _combined(weight: Tensor) -> Tensor:
    """(9,C,O): the weights of the 3 by 3 products, from kernels (O,C,3,3)."""
    combined = torch.tensor(COMBINED, dtype=torch.float64, device=weight.device)
    products = torch.einsum("ia,jb,ocab->ijco", combined, combined, weight.double())
    return products.flatten(0, 1).to(weight.dtype).contiguous()


def _enlarged(
    maps: Tensor, multiply: Callable[[Tensor, int], Tensor], bias: Tensor | None, factor: int
) -> Tensor:
    """(N,f·H,f·W,O) of maps (N,H,W,C); `multiply` gives product number i of pixels (N·H·W,C)."""
    count, height, width, channels = maps.shape
    between, last = factor - 2, factor - 1
    out: Tensor | None = None
    for row, seen in enumerate(_seen(maps, 1)):
        here, left, right = (
            multiply(part.reshape(-1, channels), 3 * row + column).view(count, height, width, -1)
            for column, part in enumerate(_seen(seen, 2))
        )
        if out is None:
            out = maps.new_empty(count, height, factor, width, factor, here.shape[-1])
            here = here if bias is None else here.add_(bias)
        for column, made in enumerate([here + left, *[here] * between, here + right]):
            if row == 0:
                out[:, :, :, :, column] = made[:, :, None]
            else:
                out[:, :, 0 if row == 1 else last, :, column] += made
    assert out is not None
    return out.view(count, height * factor, width * factor, -1)


def _seen(maps: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (N,H,W,C), what is before each pixel less the pixel, and what is after it less the pixel."""
    border = (0, 0, 0, 0, 1, 1) if axis == 1 else (0, 0, 1, 1)
    steps = F.pad(maps, border).diff(dim=axis)
    size = maps.shape[axis]
    return maps, -steps.narrow(axis, 0, size), steps.narrow(axis, 1, size)
