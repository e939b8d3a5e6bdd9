"""G, the generator: SPADE residual blocks (arXiv 1903.07291) turn the warped feature map into a picture.

The feature map is both the input of the first block and what modulates every normalisation.

During training, each main convolution is divided by an estimate of its largest singular value (arXiv 1802.05957), in
the form of the published checkpoints. At inference the estimate is constant, so it is folded into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.interface import Warped

SLOPE = 0.2  # of every leaky ReLU


@dataclass(frozen=True)
class GeneratorSizes:
    """Widths of G. `up_channels`: after each doubling of the picture; the last doubling is a pixel shuffle."""

    input_channels: int = 256
    channels: int = 512
    middle_blocks: int = 6
    up_channels: tuple[int, ...] = (256, 64)
    modulation_channels: int = 128
    shuffle: int = 2


class Spade(nn.Module):
    """Instance normalisation whose scale and shift are read, pixel by pixel, from the conditioning map."""

    def __init__(self, channels: int, sizes: GeneratorSizes) -> None:
        super().__init__()
        hidden = sizes.modulation_channels
        self.mlp_shared = nn.Sequential(nn.Conv2d(sizes.input_channels, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B,C,H,W) normalised and modulated by the condition (B,256,h,w), which is resized to (H,W)."""
        shared = self.mlp_shared(F.interpolate(condition, size=x.shape[-2:], mode="nearest"))
        return F.instance_norm(x) * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class SpadeBlock(nn.Module):
    """Residual block with SPADE; its shortcut is learned if the width changes."""

    def __init__(self, inputs: int, outputs: int, sizes: GeneratorSizes) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.learned_shortcut = inputs != outputs
        self.norm_0 = Spade(inputs, sizes)
        self.conv_0 = nn.Conv2d(inputs, middle, 3, padding=1)
        self.norm_1 = Spade(middle, sizes)
        self.conv_1 = nn.Conv2d(middle, outputs, 3, padding=1)
        if self.learned_shortcut:
            self.norm_s = Spade(inputs, sizes)
            self.conv_s = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        out = self.conv_0(F.leaky_relu(self.norm_0(x, condition), SLOPE))
        out = self.conv_1(F.leaky_relu(self.norm_1(out, condition), SLOPE))
        return out + (self.conv_s(self.norm_s(x, condition)) if self.learned_shortcut else x)


class SpadeGenerator(nn.Module):
    """Plain convolutions, for inference; see `apply_spectral_norm` for training."""

    def __init__(self, sizes: GeneratorSizes) -> None:
        super().__init__()
        self.middle_blocks = sizes.middle_blocks
        self.up_blocks = len(sizes.up_channels)
        self.fc = nn.Conv2d(sizes.input_channels, sizes.channels, 3, padding=1)
        for index in range(sizes.middle_blocks):
            self.add_module(f"G_middle_{index}", SpadeBlock(sizes.channels, sizes.channels, sizes))
        widths = (sizes.channels, *sizes.up_channels)
        for index, (width, following) in enumerate(pairwise(widths)):
            self.add_module(f"up_{index}", SpadeBlock(width, following, sizes))
        self.conv_img = nn.Sequential(
            nn.Conv2d(widths[-1], 3 * sizes.shuffle**2, 3, padding=1), nn.PixelShuffle(sizes.shuffle)
        )

    def forward(self, warped: Warped) -> Tensor:
        """Pictures (B,3,512,512), RGB in [0, 1], of the warped feature map (B,256,64,64)."""
        condition = warped["feature"]
        out = self.fc(condition)  # (B, 512, 64, 64)
        for index in range(self.middle_blocks):
            out = self.get_submodule(f"G_middle_{index}")(out, condition)
        for index in range(self.up_blocks):
            out = F.interpolate(out, scale_factor=2, mode="nearest")
            out = self.get_submodule(f"up_{index}")(out, condition)  # (B, 64, 256, 256) in the end
        return self.conv_img(F.leaky_relu(out, SLOPE)).sigmoid()


def apply_spectral_norm(generator: nn.Module) -> None:
    """Change a SpadeGenerator in place for training.

    Its main convolutions then have `weight_orig`, `weight_u` and `weight_v` instead of `weight`.
    """
    for block in generator.modules():
        if isinstance(block, SpadeBlock):
            for name in ("conv_0", "conv_1", "conv_s"):
                if hasattr(block, name):
                    # The newer parametrization has other names and shapes than the published checkpoints.
                    nn.utils.spectral_norm(getattr(block, name))


def fold_spectral_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with `weight` = weight_orig / (u·(W v)) for every spectrally normed layer.

    W is `weight_orig` (out, in, kh, kw) as a matrix (out, in·kh·kw), u (out,) and v (in·kh·kw,) are the
    stored estimates of its first singular vectors. Other entries are kept as they are.
    """
    folded = {}
    for key, value in state.items():
        if key.endswith((".weight_u", ".weight_v")) and f"{key[:-2]}_orig" in state:
            continue
        if key.endswith(".weight_orig"):
            name = key.removesuffix("_orig")
            sigma = state[f"{name}_u"] @ (value.flatten(start_dim=1) @ state[f"{name}_v"])
            folded[name] = value / sigma
        else:
            folded[key] = value
    return folded
