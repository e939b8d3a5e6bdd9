"""Pictures as EfficientNet-Lite0 sees them, in batches: features, and perceptual distances to targets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from liveportrait.evaluation.driving import BATCH
from liveportrait.metrics.images import Array, Picture
from liveportrait.metrics.perceptual import PictureFeatures, map_distance


@torch.no_grad()
def features(network: PictureFeatures, pictures: Picture) -> Array:
    """Features (T,1280) of pictures (T,S,S,3), S a multiple of 32."""
    batches = range(0, len(pictures), BATCH)
    return np.concatenate([_numbers(network(_tensor(network, pictures[b : b + BATCH]))[1]) for b in batches])


@torch.no_grad()
def against(
    network: PictureFeatures, outputs: Mapping[str, Picture], targets: Picture
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """Methods' pictures (T,S,S,3) against targets: perceptual distances (T,), features (T,1280), the targets' features.

    An output of one picture stands for T times the same.
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


def _tensor(network: PictureFeatures, pictures: Picture) -> Tensor:
    device = next(network.parameters()).device
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 255


def _numbers(values: Tensor) -> Array:
    return values.float().cpu().numpy()
