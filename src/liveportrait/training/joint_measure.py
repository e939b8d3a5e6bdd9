"""How well a joint model reproduces driving pictures that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.networks.geometry import transform_keypoints
from liveportrait.training.joint_model import JointModel, Pair, Scene, at, resized
from liveportrait.training.losses.keypoints import equivariance
from liveportrait.training.losses.transforms import random_transform
from liveportrait.training.render_losses import laplacian

HALF_SIDE = 128  # px of the 256 px crop, for one unit of the crop's coordinates


@torch.no_grad()
def measure(
    model: JointModel, pairs: Sequence[Pair], size: int, perceptual: nn.Module | None
) -> tuple[dict[str, float], list[list[Tensor]]]:
    """Figures over pairs, each pair counting alike, and rows of pictures (3,S,S): source, driving, output.

    psnr and psnr_copy dB of the output and of the source, shown unchanged; perceptual and perceptual_copy the
    same two distances; sharpness, Laplacian energy over the driving picture's; equivariance, mean distance of
    keypoints from where a known transform takes them, px of 256; keypoints, px of 256 from their labels, where
    both exist. The transforms are the same at each call.
    """
    was_training = model.training
    model.eval()
    sums: dict[str, list[float]] = {}
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for pair in pairs:
            transform = pair.transform or random_transform(len(pair), device=pair.driving.device)
            moved = None if pair.transform is not None else transform.pictures(pair.driving)
            scene: Scene = model(pair.source, pair.driving, moved, size)
            source, target = resized(pair.source, size), resized(pair.driving, size)
            found = _pictures(scene.picture, source, target, perceptual)
            first, second = (
                (scene.source, scene.driving) if scene.moved is None else (scene.driving, scene.moved)
            )
            gap = equivariance(transform_keypoints(first), transform_keypoints(second), transform)
            found["equivariance"] = float(gap) * HALF_SIDE
            if pair.driving_label is not None:
                wanted = at(transform_keypoints(pair.driving_label), model.guides)
                away = at(transform_keypoints(scene.driving), model.guided) - wanted
                found["keypoints"] = float(away[..., :2].norm(dim=-1).mean()) * HALF_SIDE
            for name, value in found.items():
                sums.setdefault(name, []).append(value)
            rows.append([source[0], target[0], scene.picture[0]])
    model.train(was_training)
    return {name: float(np.mean(values)) for name, values in sums.items()}, rows


def _pictures(
    picture: Tensor, source: Tensor, target: Tensor, perceptual: nn.Module | None
) -> dict[str, float]:
    found = {}
    for suffix, shown in (("", picture), ("_copy", source)):
        found[f"psnr{suffix}"] = float(-10 * (shown - target).square().mean((1, 2, 3)).log10().mean())
        if perceptual is not None:
            found[f"perceptual{suffix}"] = float(perceptual(shown, target))
    energy, wanted = (laplacian(p).square().mean((1, 2, 3)) for p in (picture, target))
    found["sharpness"] = float((energy / wanted).mean())
    return found


def shown(picture: Tensor) -> NDArray[np.uint8]:
    """A picture (3,S,S) in [0, 1] as (S,S,3) uint8."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
