"""What a back end is: the networks behind three batched calls on float tensors."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from liveportrait.networks.interface import Features, Motion, Pose


class Backend(Protocol):
    """Runs F, M, and W with G. Back ends differ in speed only.

    Images are (B,3,S,S) float32 RGB in [0, 1] on `device`; motions and poses are float32.
    """

    device: torch.device
    concurrent: bool  # whether calls from several threads run side by side; otherwise they take turns

    def appearance(self, images: Tensor) -> Features:
        """F."""
        ...

    def motion(self, images: Tensor) -> Motion:
        """M."""
        ...

    def render(self, features: Features, source: Pose, driving: Pose) -> Tensor:
        """W, then G: pictures (B,3,S,S) float32; every argument has the batch size B."""
        ...
