"""Perceptual distance and features by EfficientNet-Lite0 (Tan & Le 2019; ImageNet weights, Apache-2.0)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.networks.efficientnet import STEM, Block, blocks, pad_same, scaled

WEIGHTS = Path(__file__).with_name("models") / "perceptual.safetensors"
TAPS = (0, 1, 2, 3)  # blocks whose expanded maps are compared, after the stem: strides 2, 2, 4, 4
FEATURES = 1280  # of the pooled head


class _EfficientNet(nn.Module):
    """The network's first `depth` blocks, frozen, and its pooled head where `pools`."""

    def __init__(self, weights: Path, depth: int | None, pools: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2)
        made, channels = blocks(depth)
        self.blocks = nn.ModuleList(made)
        self.head = nn.Conv2d(channels, FEATURES, 1) if pools else None
        try:
            stored = load_file(weights)
        except OSError as error:
            raise UserError(
                f"No perceptual network at {weights}: correct `perceptual` or leave it out."
            ) from error
        names = {f"b{n}.": f"blocks.{n}." for n in range(len(self.blocks))} | {"stem.": "stem."}
        if pools:
            names["head."] = "head."
        renamed = {
            new + key.removeprefix(old): value.float()
            for key, value in stored.items()
            for old, new in names.items()
            if key.startswith(old)
        }
        self.load_state_dict(renamed)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def see(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Feature maps after the stem and after each tapped expansion; then what the last block is left with.

        A truncated network stops at its last expansion.
        """
        x = scaled(picture).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(pad_same(x, 3, 2)))
        found = [x]
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            wide = block.expand(x)
            if number in TAPS and block.exp is not None:
                found.append(wide)
            if number < len(self.blocks) - 1 or self.head is not None:
                x = block.finish(x, wide)
        return found, x


class PerceptualDistance(_EfficientNet):
    """Mean distance between channel-normalised feature maps of two pictures (B,3,H,W), RGB in [0, 1]."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        super().__init__(weights, depth=max(TAPS) + 1, pools=False)

    def maps(self, picture: Tensor) -> list[Tensor]:
        """Feature maps after the stem and after each tapped expansion."""
        return self.see(picture)[0]

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.maps(target)
        return map_distance(self.maps(picture), wanted).mean()


class PictureFeatures(_EfficientNet):
    """The same feature maps, and the pooled head of the whole network."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        super().__init__(weights, depth=None, pools=True)

    def forward(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps for `map_distance`, and features (B,1280), of pictures (B,3,H,W), RGB in [0, 1]."""
        assert self.head is not None
        maps, x = self.see(picture)
        return maps, F.relu6(self.head(x)).mean((2, 3))


def map_distance(maps: list[Tensor], target: list[Tensor]) -> Tensor:
    """Distances (B,): per map the mean Euclidean distance of channel-normalised vectors, then the maps' mean."""
    distances = []
    for found, want in zip(maps, target, strict=True):
        gap = F.normalize(found.float(), dim=1) - F.normalize(want.float(), dim=1)
        distances.append(gap.pow(2).sum(1).add(1e-8).sqrt().mean((1, 2)))
    return torch.stack(distances).mean(0)
