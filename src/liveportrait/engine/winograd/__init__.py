"""Networks on the CPU with Winograd convolutions: a quarter of the multiplications. Needs numba (the extra `cpu`)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.backend import HALF, require_precision
from liveportrait.engine.rewrites import optimised
from liveportrait.engine.winograd.base import WinogradGenerator, WinogradWarping
from liveportrait.engine.winograd.compact import CompactGenerator
from liveportrait.errors import UserError
from liveportrait.networks import Networks, base, compact
from liveportrait.networks.interface import Features, Layers, Motion, Pose
from liveportrait.networks.renderer import Renderer


class WinogradBackend:
    """Convolutions as matrix products with compiled passes between them, one frame after another.

    This covers W and G of BASE, and G of COMPACT; everything else is eager. In bf16, which only BASE supports, the
    products that compute scales and shifts of G's normalisations are in bfloat16; the rest is float32. Raises UserError
    if the networks are not on the CPU.
    """

    concurrent = True

    def __init__(self, networks: Networks, precision: Precision = "fp32") -> None:
        self.device = next(networks.motion.parameters()).device
        if self.device.type != "cpu":
            raise UserError(
                f"the back end winograd runs on the CPU, not on {self.device}: choose --device cpu or "
                "--backend eager"
            )
        self._networks = _accelerated(networks, precision)
        self._renderer = Renderer(self._networks)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        features: Features = self._networks.appearance(images)
        return features

    def motion(self, images: Tensor) -> Motion:
        """M."""
        motion: Motion = self._networks.motion(images)
        return motion

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        layers: Layers = self._renderer(features, source, driving, cues)
        return layers


def _accelerated(networks: Networks, precision: Precision) -> Networks:
    sizes = networks.variant.sizes
    if isinstance(sizes, base.Sizes):
        require_precision("the back end winograd", precision, ("fp32", "bf16"))
        side = networks.variant.input_size >> (len(sizes.appearance.channels) - 1)  # of the volumes
        dtype = HALF.get(precision, torch.float32)
        return optimised(
            networks, partial(WinogradWarping, side=side), partial(WinogradGenerator, dtype=dtype)
        )
    require_precision("the back end winograd of compact networks", precision, ("fp32",))
    made = optimised(networks)
    if isinstance(made.generator, compact.generator.Generator) and CompactGenerator.fits(made.generator):
        made.generator = CompactGenerator(made.generator)
    return made
