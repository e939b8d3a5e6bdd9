"""Patch discriminators with spectral norm for the entire picture, the face and the lips, and the adversarial losses
(paper, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky rectifiers


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean max(0, 1 − D(real)) + mean max(0, 1 + D(fake)) over patches (Lim & Ye, arXiv 1705.02894)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """−mean D(fake) over patches: the generator's side of the hinge loss."""
    return -fake.mean()


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean L1 between a discriminator's features of both pictures, with equal weights (arXiv 1711.11585, eq. 3)."""
    gaps = [(a - b.detach()).abs().mean() for a, b in zip(fake, real, strict=True)]
    return torch.stack(gaps).mean()


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of a picture (PatchGAN, arXiv 1611.07004; spectral norm, arXiv 1802.05957)."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        widths = [3, *(min(channels * 2**level, 8 * channels) for level in range(levels))]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(width, following, 4, stride=2, padding=1))
            for width, following in pairwise(widths)
        )
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores (B,1,h,w) of pictures (B,3,S,S), RGB in [0, 1], and the features of every level."""
        x, features = picture.float() * 2 - 1, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.score(x), features


class Discriminators(nn.Module):
    """One discriminator per region, untrained; the one for the lips has one level fewer."""

    def __init__(self, regions: Iterable[str], channels: int = 32, levels: int = 4) -> None:
        super().__init__()
        depth = {"whole": levels, "face": levels, "lips": levels - 1}
        self.regions = nn.ModuleDict({name: PatchDiscriminator(channels, depth[name]) for name in regions})

    def forward(self, pictures: dict[str, Tensor]) -> dict[str, tuple[Tensor, list[Tensor]]]:
        """Scores and features of each region's pictures."""
        return {name: network(pictures[name]) for name, network in self.regions.items()}


def adversarial_terms(
    adversaries: Discriminators,
    fake: dict[str, Tensor],
    real: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The generator's hinge loss and feature matching for each region: gan_whole, matching_whole and so on."""
    terms: dict[str, Tensor] = {}
    with frozen(adversaries):
        judged = adversaries(fake)
        with torch.no_grad():
            known = adversaries(real)
    for region, (score, features) in judged.items():
        terms[f"gan_{region}"] = generator_hinge(score)
        terms[f"matching_{region}"] = feature_matching(features, known[region][1])
    return terms


def discriminator_loss(
    adversaries: Discriminators,
    fake: dict[str, Tensor],
    real: dict[str, Tensor],
) -> Tensor:
    """Hinge loss of all discriminators, without gradients to the networks that made the pictures."""
    scores_real = adversaries({name: value.detach() for name, value in real.items()})
    scores_fake = adversaries({name: value.detach() for name, value in fake.items()})
    losses = [discriminator_hinge(scores_real[name][0], score) for name, (score, _) in scores_fake.items()]
    return torch.stack(losses).sum()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside the context the module's parameters get no gradients and its spectral norms do no power iteration."""
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        module.train().requires_grad_(True)
