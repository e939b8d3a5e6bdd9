"""torch.compile: the networks as kernels that PyTorch generates for this machine when they first run."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.eager import EagerBackend
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.interface import Features, Motion, Pose


class CompiledBackend:
    """M, and W with G, through torch.compile. F runs once a source and is not worth compiling.

    The first frame of every batch size waits for the compiler: minutes on two cores. PyTorch keeps what it compiled
    in a cache of its own. Raises UserError where there is no compiler (a C++ compiler on a CPU, Triton on a GPU).
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32") -> None:
        self._eager = EagerBackend(networks, precision, plain=True)
        self.device = self._eager.device
        require_compiler(self.device, "the back end compile", "choose --backend eager")
        self._motion = torch.compile(self._eager.motion, dynamic=False)
        self._render = torch.compile(self._eager.render, dynamic=False)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        return self._eager.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return self._motion(images)

    def render(self, features: Features, source: Pose, driving: Pose) -> Tensor:
        """W, then G."""
        return self._render(features, source, driving)


def require_compiler(device: torch.device, what: str, instead: str) -> None:
    """Compile one sum, so that a missing compiler is one sentence and not a page from within a frame or a step.

    Raises `UserError`: `what` needs it, and what to do `instead`.
    """

    def add(x: Tensor) -> Tensor:
        return x.sin() + 1

    try:
        torch.compile(add)(torch.ones(8, device=device))
    except Exception as error:  # the compiler's errors have no common class below it
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{what} needs a C++ compiler (on a GPU, Triton), and compiling failed ({reason}): install it, or {instead}"
        ) from error
