"""Figures of M, of a renderer and of a joint model on held-out people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import HALF_SIDE, Motion
from liveportrait.networks.keypoints import LIDS
from liveportrait.training.data.batches import motion_of, pictures_of
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.losses.motion import LID_OPENINGS, LIP_OPENINGS, openings
from liveportrait.training.losses.rendering import laplacian
from liveportrait.training.losses.transforms import random_transform
from liveportrait.training.stage_one.joint_model import JointModel, Pair, Scene, at, resized

Rows = list[list[Tensor]]
VALIDATION_FRAMES = 240  # for M
GRID_ROWS = 6  # of the grid of pictures


@torch.no_grad()
def measure_motion(network: nn.Module, held_out: Corpus, device: torch.device) -> dict[str, float]:
    """Figures of M on evenly spaced held-out frames.

    pixels: mean keypoint error, px of 256; degrees: mean angle between rotations; lip and lid: correlation of
    the openings with the labels' over all frames.
    """
    rows = torch.linspace(0, len(held_out.clip) - 1, min(VALIDATION_FRAMES, len(held_out.clip))).long()
    labels = held_out.motion.rows(rows)
    parts: list[Motion] = []
    for chunk in rows.split(24):
        pictures = torch.from_numpy(held_out.frames[chunk.numpy()]).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            parts.append(network(pictures.permute(0, 3, 1, 2).float().div(255)))
    found = Motion.cat(parts).to("cpu")
    error = (transform_keypoints(found) - transform_keypoints(labels))[..., :2].norm(dim=-1)
    cosine = ((found.rotation * labels.rotation).sum((1, 2)) - 1) / 2

    def correlation(pairs: list[int]) -> float:
        a, b = (openings(m)[:, pairs].norm(dim=-1).mean(1) for m in (found, labels))
        return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

    return {
        "pixels": float(error.mean() * HALF_SIDE),
        "lid_pixels": float(error[:, list(LIDS)].mean() * HALF_SIDE),
        "degrees": float(cosine.clamp(-1, 1).acos().rad2deg().mean()),
        "lip": correlation(LIP_OPENINGS),
        "lid": correlation(LID_OPENINGS),
    }


@torch.no_grad()
def measure_rendering(
    network: nn.Module, validation: Sequence[dict[str, Tensor]], device: torch.device, bf16: bool
) -> tuple[dict[str, float], Tensor]:
    """Figures of a `Renderer` on held-out pairs driven by their labels, and a grid of pictures (3,H,W).

    PSNR in dB of the output, of the warped source alone and of the source; sharpness: Laplacian energy of the output
    over the driving frame's.
    """
    sums = {"psnr": 0.0, "psnr_warp": 0.0, "psnr_copy": 0.0, "sharpness": 0.0}
    rows = []
    for batch in validation:
        source, target = (pictures_of(batch, f"{role}_picture", device) for role in ("source", "driving"))
        motions = (motion_of(batch, f"{role}_", device) for role in ("source", "driving"))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            warped, (picture, painting, logits) = network(source, *motions)
        for name, seen in (("psnr", picture), ("psnr_warp", warped["image"]), ("psnr_copy", source)):
            sums[name] += float(_psnr(seen, target).mean())
        sums["sharpness"] += float(_sharpness(picture.float(), target).mean())
        mask = logits.sigmoid().expand(-1, 3, -1, -1)
        tiles = (source, target, picture, warped["image"], painting, mask)
        rows.append(torch.cat([tile[0].float() for tile in tiles], dim=2))
    grid = torch.cat(rows[:GRID_ROWS], dim=1).clamp(0, 1)
    return {name: value / len(validation) for name, value in sums.items()}, grid


@torch.no_grad()
def measure_joint(
    model: JointModel, pairs: Sequence[Pair], size: int, perceptual: nn.Module | None
) -> tuple[dict[str, float], Rows]:
    """Figures over pictures with equal weights, and rows of pictures (3,S,S): source, driving, output.

    Means: `psnr` and `psnr_copy`, dB, of the output and of the unchanged source, without pairs of identical pictures
    (nobody moved, so a copy would be perfect); `perceptual` and `perceptual_copy`, the same as distances; `sharpness`,
    Laplacian energy over the driving picture's. Medians, because a single face that M misses would outweigh all others:
    `equivariance`, mean distance of keypoints from where a known transform takes them, px of 256; `keypoints`, mean
    distance from their labels, if there are any, px of 256. The transforms are the same at each call.
    """
    was_training = model.training
    model.eval()
    found: dict[str, list[Tensor]] = {}
    rows: Rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for pair in pairs:
            transform = pair.transform or random_transform(len(pair), device=pair.driving.device)
            moved = None if pair.transform is not None else transform.pictures(pair.driving)
            scene: Scene = model(pair.source, pair.driving, moved, size)
            source, target = resized(pair.source, size), resized(pair.driving, size)
            values = _pictures(scene.picture, source, target, perceptual)
            first, second = (
                (scene.source, scene.driving) if scene.moved is None else (scene.driving, scene.moved)
            )
            back = transform.points(transform_keypoints(second)[..., :2])
            values["equivariance"] = _distance(transform_keypoints(first), back)
            if pair.driving_label is not None:
                wanted = at(transform_keypoints(pair.driving_label), model.guides)
                values["keypoints"] = _distance(at(transform_keypoints(scene.driving), model.guided), wanted)
            for name, value in values.items():
                found.setdefault(name, []).append(value.float().cpu())
            rows.append([source[0], target[0], scene.picture[0]])
    model.train(was_training)
    return {name: _summary(name, torch.cat(values)) for name, values in found.items()}, rows


def _pictures(
    picture: Tensor, source: Tensor, target: Tensor, perceptual: nn.Module | None
) -> dict[str, Tensor]:
    """Figures (B,) of the pictures; the perceptual distances (1,) are of the entire batch."""
    values = {}
    moves = (source - target).square().mean((1, 2, 3)) > 0
    for suffix, seen in (("", picture), ("_copy", source)):
        values[f"psnr{suffix}"] = torch.where(moves, _psnr(seen, target), torch.nan)
        if perceptual is not None:
            values[f"perceptual{suffix}"] = perceptual(seen, target)[None]
    values["sharpness"] = _sharpness(picture, target)
    return values


def _psnr(picture: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of pictures in [0, 1]."""
    return -10 * (picture - target).square().mean((1, 2, 3)).log10()


def _sharpness(picture: Tensor, target: Tensor) -> Tensor:
    """Laplacian energy (B,) over that of the target."""
    energy, wanted = (laplacian(p).square().mean((1, 2, 3)) for p in (picture, target))
    return energy / wanted


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean distance (B,) between keypoints (B,K,≥2) in the picture plane, px of 256."""
    return (found[..., :2] - wanted[..., :2]).norm(dim=-1).mean(1) * HALF_SIDE


def _summary(name: str, values: Tensor) -> float:
    return float(values.median() if name in ("equivariance", "keypoints") else values.nanmean())


def shown(picture: Tensor) -> NDArray[np.uint8]:
    """A picture (3,S,S) in [0, 1] as (S,S,3) uint8."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
