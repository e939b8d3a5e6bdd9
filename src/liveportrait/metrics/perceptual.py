"""Perceptual distance, features and their Fréchet distance, from EfficientNet-Lite0 (Tan & Le 2019).

The bundled weights are ImageNet's, under Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.networks.efficientnet import STEM, Block, blocks, pad_same, scaled
from liveportrait.types import Array, Image

WEIGHTS = Path(__file__).with_name("models") / "perceptual.safetensors"
TAPS = (0, 1, 2, 3)  # blocks whose expanded maps are compared, after the stem: strides 2, 2, 4, 4
FEATURES = 1280  # of the pooled head
BATCH = 8  # pictures per forward pass


class _EfficientNet(nn.Module):
    """The network's first `depth` blocks, frozen, and with `pools` its pooled head."""

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
                f"There is no perceptual network at {weights}: correct `perceptual` or leave it out."
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

    def maps(self, picture: Tensor) -> list[Tensor]:
        """Feature maps after the stem and after each tapped expansion; nothing beyond the last is computed."""
        return self._run(picture, max(TAPS) + 1, pools=False)[0]

    def _run(self, picture: Tensor, depth: int, pools: bool) -> tuple[list[Tensor], Tensor]:
        """The maps of the first `depth` blocks, and the last block's output.

        Without `pools` it stops at the last block's expansion, and the second result is that block's input.
        """
        x = scaled(picture).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(pad_same(x, 3, 2)))
        found = [x]
        for number, block in enumerate(self.blocks[:depth]):
            assert isinstance(block, Block)
            wide = block.expand(x)
            if number in TAPS and block.exp is not None:
                found.append(wide)
            if number < depth - 1 or pools:
                x = block.finish(x, wide)
        return found, x


class PerceptualDistance(_EfficientNet):
    """Mean distance between channel-normalised feature maps of two pictures (B,3,H,W), RGB in [0, 1]."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        super().__init__(weights, depth=max(TAPS) + 1, pools=False)

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.maps(target)
        return map_distance(self.maps(picture), wanted).mean()


class PictureFeatures(_EfficientNet):
    """The feature maps of `PerceptualDistance`, and the pooled head of the full network."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        super().__init__(weights, depth=None, pools=True)

    def forward(self, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps for `map_distance` and features (B,1280) of pictures (B,3,H,W), RGB in [0, 1]."""
        assert self.head is not None
        maps, x = self._run(picture, len(self.blocks), pools=True)
        return maps, F.relu6(self.head(x)).mean((2, 3))


def map_distance(maps: list[Tensor], target: list[Tensor]) -> Tensor:
    """Distances (B,): the mean Euclidean distance of channel-normalised vectors per map, averaged over maps."""
    distances = []
    for found, want in zip(maps, target, strict=True):
        gap = F.normalize(found.float(), dim=1) - F.normalize(want.float(), dim=1)
        distances.append(gap.pow(2).sum(1).add(1e-8).sqrt().mean((1, 2)))
    return torch.stack(distances).mean(0)


@torch.no_grad()
def features(network: PictureFeatures, pictures: Image) -> Array:
    """Features (T,1280) of pictures (T,S,S,3), S a multiple of 32."""
    batches = range(0, len(pictures), BATCH)
    return np.concatenate([_numbers(network(_tensor(network, pictures[b : b + BATCH]))[1]) for b in batches])


@torch.no_grad()
def compare(
    network: PictureFeatures, outputs: Mapping[str, Image], targets: Image
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Compare each method's pictures (T,S,S,3) with the targets.

    Returns perceptual distances (T,) by method, features (T,1280) by method, and the targets' features. An output with
    one picture stands for T copies of it.
    """
    distances: dict[str, list[Array]] = {name: [] for name in outputs}
    seen: dict[str, list[Array]] = {name: [] for name in outputs}
    real = []
    single = {name: network(_tensor(network, shown)) for name, shown in outputs.items() if len(shown) == 1}
    for start in range(0, len(targets), BATCH):
        rows = slice(start, start + BATCH)
        target_maps, target_features = network(_tensor(network, targets[rows]))
        real.append(_numbers(target_features))
        count = len(target_features)
        for name, shown in outputs.items():
            maps, pooled = single[name] if name in single else network(_tensor(network, shown[rows]))
            distances[name].append(
                _numbers(map_distance([m.expand(count, -1, -1, -1) for m in maps], target_maps))
            )
            seen[name].append(_numbers(pooled.expand(count, -1)))
    joined = [{name: np.concatenate(parts) for name, parts in each.items()} for each in (distances, seen)]
    return joined[0], joined[1], np.concatenate(real)


@torch.no_grad()
def patch_distances(network: PictureFeatures, patches: Image, targets: Image, zoom: int = 2) -> Array:
    """Perceptual distances (T,) of patches (T,h,w,3) from targets, both enlarged by `zoom`, to multiples of 32 px."""
    found = []
    for start in range(0, len(patches), BATCH):
        rows = slice(start, start + BATCH)
        large = [
            F.interpolate(_tensor(network, each[rows]), scale_factor=zoom, mode="bicubic").clamp(0, 1)
            for each in (patches, targets)
        ]
        found.append(_numbers(map_distance(*(network.maps(each) for each in large))))
    return np.concatenate(found)


def _tensor(network: PictureFeatures, pictures: Image) -> Tensor:
    device = next(network.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 255


def _numbers(values: Tensor) -> Array:
    return values.float().cpu().numpy()


def frechet_distance(a: Array, b: Array) -> float:
    """Squared Fréchet distance of Gaussians fitted to features (N,D) and (M,D); NaN with fewer than two rows.

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) (Heusel et al. 2017, eq. 6). With Σ = AᵀA of the centred features,
    tr (Σ_a Σ_b)^½ is the sum of the singular values of A Bᵀ, which is exact even with fewer rows than dimensions.
    The distance grows as the sets shrink: compare only equal N and M.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    mean_a, mean_b = a.mean(0, dtype=np.float64), b.mean(0, dtype=np.float64)
    root_a, root_b = _root(a - mean_a), _root(b - mean_b)
    spread = float((root_a**2).sum() + (root_b**2).sum())
    overlap = float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum())
    return max(float(((mean_a - mean_b) ** 2).sum()) + spread - 2 * overlap, 0.0)


def _root(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """A with AᵀA the covariance of centred features, and no more rows than dimensions."""
    root = centred / np.sqrt(len(centred) - 1)
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root
