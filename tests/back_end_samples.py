"""Networks with random weights, and what a back end makes of smooth pictures with them: alike in every back end."""

from __future__ import annotations

from typing import Any

import torch
from small_base import randomise, small_networks
from torch import Tensor

from liveportrait.networks import Networks, build
from liveportrait.networks.compact.painter import CUES
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Layers, Motion, Pose
from liveportrait.networks.renderer import compose
from liveportrait.networks.variants import COMPACT


def both_variants() -> dict[str, Networks]:
    """The compact networks with the painter, and small ones of the published architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        compact = build(COMPACT, painter=True)
    for seed, module in enumerate(compact.modules().values()):
        randomise(module, seed)
        module.eval().requires_grad_(False)
    return {"compact": compact, "base": small_networks()}


def run(backend: Any, networks: Networks, batch: int = 3) -> tuple[Motion, Layers, Tensor]:
    """Motions of smooth pictures; the layers and pictures of the first one moved a little. Alike in every back end."""
    size = networks.variant.input_size
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").to(backend.device)
    with torch.no_grad():
        motion = backend.motion(pixels)
        features: Features = backend.appearance(pixels[:1])
        repeated = {name: value.expand(batch, *value.shape[1:]) for name, value in features.items()}
        layers = backend.render(repeated, *poses(batch, backend.device), cues(batch).to(backend.device))
        return motion, layers, compose(layers, repeated)


def cues(batch: int) -> Tensor:
    """Of mouths that somebody looked at."""
    return torch.rand(batch, CUES, generator=torch.Generator().manual_seed(3))


def poses(batch: int, device: torch.device) -> tuple[Pose, Pose]:
    generator = torch.Generator().manual_seed(2)
    canonical = torch.rand(1, 21, 3, generator=generator) - 0.5
    motions = []
    for reach in (0.0, 0.05):
        expression = reach * torch.randn(batch, 21, 3, generator=generator)
        turn = reach * torch.randn(batch, 3, 3, generator=generator)
        rotation = torch.linalg.matrix_exp(turn - turn.transpose(1, 2))
        shift = reach * torch.randn(batch, 3, generator=generator)
        scale = 1 + reach * torch.rand(batch, 1, generator=generator)
        motions.append(Motion(rotation, shift, scale, canonical.expand(batch, 21, 3), expression))
    source, driving = (pose_of(motion.to(device)) for motion in motions)
    return source, driving
