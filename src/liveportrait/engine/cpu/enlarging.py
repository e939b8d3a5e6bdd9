"""3x3 convolutions of maps that were enlarged by repeating pixels: 9 products a pixel, whatever the factor.

Along one axis a pixel that stands several times is seen by its first copy together with the pixel before, by its last
one together with the pixel after, and by those between alone. With W the sum of the kernel's weights, the three are

    W·x + w[0]·(before − x),    W·x + w[2]·(after − x),    W·x

so that three products make any number of outputs; on both axes it takes 3 by 3, where a transposed convolution
(`optimise.upsampling`) takes 16 for a factor of 2 and 25 for three or more.
"""

from __future__ import annotations

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
        combined = torch.tensor(COMBINED, dtype=torch.float64, device=convolution.weight.device)
        weight = torch.einsum("ia,jb,ocab->ijco", combined, combined, convolution.weight.double()).flatten(
            0, 1
        )
        self.weight = nn.Parameter(
            weight.to(convolution.weight.dtype).contiguous(), requires_grad=False
        )  # (9, C, O)
        self.bias, self.factor = convolution.bias, factor

    def forward(self, x: Tensor) -> Tensor:
        """(B,O,f·H,f·W), channels-last, of (B,C,H,W)."""
        return torch.stack([self.whole(image) for image in x.permute(0, 2, 3, 1)]).permute(0, 3, 1, 2)

    def whole(self, image: Tensor) -> Tensor:
        """(f·H,f·W,O) of one map (H,W,C)."""
        height, width = image.shape[:2]
        between, last, outputs = self.factor - 2, self.factor - 1, self.weight.shape[-1]
        out = image.new_empty(height, self.factor, width, self.factor, outputs)
        for row, seen in enumerate(_seen(image, 0)):
            here, left, right = (
                (part.reshape(height * width, -1) @ self.weight[3 * row + column]).view(
                    height, width, outputs
                )
                for column, part in enumerate(_seen(seen, 1))
            )
            if row == 0 and self.bias is not None:
                here += self.bias
            for column, made in enumerate([here + left, *[here] * between, here + right]):
                if row == 0:
                    out[:, :, :, column] = made[:, None]
                else:
                    out[:, 0 if row == 1 else last, :, column] += made
        return out.view(height * self.factor, width * self.factor, outputs)


def _seen(image: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """The map (H,W,C), what is before each pixel less the pixel, and what is after it less the pixel."""
    border = (0, 0, 0, 0, 1, 1) if axis == 0 else (0, 0, 1, 1)
    steps = F.pad(image, border).diff(dim=axis)
    size = image.shape[axis]
    return image, -steps.narrow(axis, 0, size), steps.narrow(axis, 1, size)
