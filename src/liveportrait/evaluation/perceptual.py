"""Perceptual distance on EfficientNet-Lite0 features (Tan & Le 2019; ImageNet weights, Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from liveportrait.errors import UserError

WEIGHTS = Path(__file__).with_name("models") / "perceptual.safetensors"
# Stages: repeats, kernel, stride, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
)
TAPS = (0, 1, 2, 3)  # blocks whose expanded maps are compared, after the stem: strides 2, 2, 4, 4


class _Block(nn.Module):
    """Inverted residual with its batch norms folded; parameter names follow the converted file."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, repeated: bool
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.exp = nn.Conv2d(inputs, wide, 1) if expansion > 1 else None
        self.dw = nn.Conv2d(wide, wide, kernel, stride, groups=wide)
        self.proj = nn.Conv2d(wide, outputs, 1)
        self.kernel, self.stride, self.repeated = kernel, stride, repeated

    def expand(self, x: Tensor) -> Tensor:
        return x if self.exp is None else F.relu6(self.exp(x))

    def finish(self, x: Tensor, wide: Tensor) -> Tensor:
        y = self.proj(F.relu6(self.dw(_pad_same(wide, self.kernel, self.stride))))
        return x + y if self.repeated else y


class PerceptualDistance(nn.Module):
    """Mean distance between channel-normalised feature maps of two pictures (B,3,H,W), RGB in [0, 1]."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                blocks.append(
                    _Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion, repeat > 0)
                )
                channels = outputs
        self.blocks = nn.ModuleList(blocks[: max(TAPS) + 1])
        try:
            stored = load_file(weights)
        except OSError as error:
            raise UserError(
                f"No perceptual network at {weights}: correct `perceptual` or leave it out."
            ) from error
        names = {f"b{n}.": f"blocks.{n}." for n in range(len(self.blocks))} | {"stem.": "stem."}
        renamed = {
            new + key.removeprefix(old): value.float()
            for key, value in stored.items()
            for old, new in names.items()
            if key.startswith(old)
        }
        self.load_state_dict(renamed)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def maps(self, picture: Tensor) -> list[Tensor]:
        """Feature maps after the stem and after each tapped expansion."""
        x = (picture * (255 / 128) - 127 / 128).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(_pad_same(x, 3, 2)))
        found = [x]
        for number, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            wide = block.expand(x)
            if number in TAPS and block.exp is not None:
                found.append(wide)
            if number < len(self.blocks) - 1:
                x = block.finish(x, wide)
        return found

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.maps(target)
        distances = []
        for found, want in zip(self.maps(picture), wanted, strict=True):
            gap = F.normalize(found.float(), dim=1) - F.normalize(want.float(), dim=1)
            distances.append(gap.pow(2).sum(1).add(1e-8).sqrt().mean())
        return torch.stack(distances).mean()


def _pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME padding."""
    height, width = ((-(-n // stride) - 1) * stride + kernel - n for n in x.shape[2:])
    height, width = max(height, 0), max(width, 0)
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
