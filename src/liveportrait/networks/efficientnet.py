"""EfficientNet-Lite0 (Tan & Le 2019) with folded batch norms: a backbone for other networks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Stages: repeats, kernel, stride, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM = 32  # channels of the first convolution


class Block(nn.Module):
    """Inverted residual; parameter names follow the converted file of ImageNet weights."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, repeated: bool
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.exp = nn.Conv2d(inputs, wide, 1) if expansion > 1 else None
        self.dw = nn.Conv2d(wide, wide, kernel, stride, groups=wide)
        self.proj = nn.Conv2d(wide, outputs, 1)
        self.kernel, self.stride, self.repeated = kernel, stride, repeated

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(x, self.expand(x))

    def expand(self, x: Tensor) -> Tensor:
        """The expanded map, input of the depthwise convolution."""
        return x if self.exp is None else F.relu6(self.exp(x))

    def finish(self, x: Tensor, wide: Tensor) -> Tensor:
        """The block's output, given its input and the expanded map."""
        y = self.proj(F.relu6(self.dw(pad_same(wide, self.kernel, self.stride))))
        return x + y if self.repeated else y


def blocks(depth: int | None = None) -> tuple[list[Block], int]:
    """The first `depth` blocks (all sixteen by default), and the output channels of the last of them."""
    made: list[Block] = []
    channels = STEM
    for repeats, kernel, stride, expansion, outputs in STAGES:
        for repeat in range(repeats):
            if len(made) == depth:
                return made, channels
            first = repeat == 0
            made.append(Block(channels, outputs, kernel, stride if first else 1, expansion, not first))
            channels = outputs
    return made, channels


def scaled(picture: Tensor) -> Tensor:
    """RGB in [0, 1] scaled to the input range of the ImageNet weights."""
    return picture * (255 / 128) - 127 / 128


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding."""
    height, width = ((-(-n // stride) - 1) * stride + kernel - n for n in x.shape[2:])
    height, width = max(height, 0), max(width, 0)
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
