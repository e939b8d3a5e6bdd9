"""The plain back end: PyTorch, operation by operation. The others are held to it."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.cpu import optimised_for_cpu
from liveportrait.engine.optimise import optimised
from liveportrait.errors import UserError
from liveportrait.networks.interface import Features, Motion, Networks, Pose


class EagerBackend:
    """F, M, W and G in float32, or with their convolutions in bfloat16 ("bf16": autocast).

    BASE's F and M stay in float32 on a CPU, see `optimised_for_cpu` for its W and G.
    What runs is `optimised(networks)`, or on a CPU `optimised_for_cpu`, unless the operations must be `plain` because
    something else shall turn them into code. The networks given are left as they are, and later changes of their
    weights are not seen.
    """

    concurrent = True

    def __init__(self, networks: Networks, precision: Precision = "fp32", plain: bool = False) -> None:
        if precision not in ("fp32", "bf16"):
            raise UserError(f"the precision {precision!r} is unknown: choose fp32 or bf16")
        self.device = next(networks.motion.parameters()).device
        on_cpu = self.device.type == "cpu" and not plain
        self._networks = optimised_for_cpu(networks, precision) if on_cpu else optimised(networks)
        self._half = precision == "bf16" and not (on_cpu and networks.variant.architecture == "base")

    def appearance(self, images: Tensor) -> Features:
        """F."""
        with self._precision():
            return self._networks.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        with self._precision():
            motion = self._networks.motion(images)
        return Motion(*(part.float() for part in motion))

    def render(self, features: Features, source: Pose, driving: Pose) -> Tensor:
        """W, then G."""
        with self._precision():
            picture = self._networks.generator(self._networks.warping(features, source, driving))
        return picture.float()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._half)
