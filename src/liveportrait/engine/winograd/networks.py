"""`optimised_for_cpu`: exact savings that pay on a processor, in PyTorch."""

from __future__ import annotations

from functools import partial

import torch

from liveportrait.choices import Precision
from liveportrait.engine.precision import HALF
from liveportrait.engine.rewrites import optimised
from liveportrait.engine.winograd.base_generator import CpuGenerator
from liveportrait.engine.winograd.base_warping import CpuWarping
from liveportrait.networks import Networks, base


def optimised_for_cpu(networks: Networks, precision: Precision = "fp32") -> Networks:
    """See `optimised`: the same answers from fewer operations still, of BASE. For PyTorch alone.

    BASE's W and G choose the precision of each product themselves and want no autocast: with "bf16" those of G that
    make the scales and shifts of its normalisations are in bfloat16.
    """
    sizes = networks.variant.sizes
    if not isinstance(sizes, base.Sizes):
        return optimised(networks)
    side = networks.variant.input_size >> (len(sizes.appearance.channels) - 1)  # of the volumes
    dtype = HALF.get(precision, torch.float32)
    return optimised(networks, partial(CpuWarping, side=side), partial(CpuGenerator, dtype=dtype))
