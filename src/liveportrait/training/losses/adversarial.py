"""What generator and discriminator want of each other, and feature matching."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """mean max(0, 1 − D(real)) + mean max(0, 1 + D(fake)) over patches (Lim & Ye, arXiv 1705.02894)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_hinge(fake: Tensor) -> Tensor:
    """−mean D(fake) over patches: the generator's side of the hinge loss."""
    return -fake.mean()


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean L1 between a discriminator's features of both pictures, layers counting alike (arXiv 1711.11585, eq. 3)."""
    gaps = [(a - b.detach()).abs().mean() for a, b in zip(fake, real, strict=True)]
    return torch.stack(gaps).mean()
