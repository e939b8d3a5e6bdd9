"""The plain back end: PyTorch, operation by operation. The others are held to it."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.precision import autocast_for, require_precision, to_half
from liveportrait.engine.rewrites import optimised
from liveportrait.engine.winograd import optimised_for_cpu
from liveportrait.networks import Networks
from liveportrait.networks.interface import Features, Motion, Pose


class EagerBackend:
    """F, M, W and G in float32, or with their convolutions in 16 bits: bfloat16, or on a GPU float16.

    BASE's F and M stay in float32 on a CPU, see `optimised_for_cpu` for its W and G.
    What runs is `optimised(networks)`, or on a CPU `optimised_for_cpu`, unless the operations must be `plain` because
    something else shall turn them into code. The networks given are left as they are, and later changes of their
    weights are not seen.
    """

    concurrent = True

    def __init__(self, networks: Networks, precision: Precision = "fp32", plain: bool = False) -> None:
        self.device = next(networks.motion.parameters()).device
        if self.device.type == "cpu":
            require_precision("the back end eager on a CPU", precision, ("fp32", "bf16"))
        on_cpu = self.device.type == "cpu" and not plain
        fast = optimised_for_cpu(networks, precision) if on_cpu else optimised(networks)
        # There each product of BASE has its own precision.
        self._precision: Precision = (
            "fp32" if on_cpu and networks.variant.architecture == "base" else precision
        )
        self._networks = to_half(fast, self._precision)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        with self._computing():
            return self._networks.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        with self._computing():
            motion = self._networks.motion(images)
        return Motion(*(part.float() for part in motion))

    def render(self, features: Features, source: Pose, driving: Pose) -> Tensor:
        """W, then G."""
        with self._computing():
            picture = self._networks.generator(self._networks.warping(features, source, driving))
        return picture.float()

    def _computing(self) -> torch.autocast:
        return autocast_for(self._precision, self.device)
