"""The published architecture, small enough for tests."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from liveportrait.networks import Networks, Variant, base, build, compact

SMALL_BASE = Variant(
    "small-base",
    input_size=64,
    output_size=128,
    sizes=base.Sizes(
        appearance=base.AppearanceSizes(
            channels=(4, 8, 8), volume_channels=4, volume_depth=4, residual_blocks=1
        ),
        motion=base.MotionSizes(channels=(8, 8, 16, 16), blocks=(1, 1, 1, 1)),
        warping=base.WarpingSizes(
            volume_channels=4,
            volume_depth=4,
            compressed_channels=2,
            hourglass_channels=4,
            hourglass_max_channels=16,
            hourglass_blocks=2,
            output_channels=12,
        ),
        generator=base.GeneratorSizes(
            input_channels=12, channels=16, middle_blocks=1, up_channels=(8, 4), modulation_channels=8
        ),
    ),
)
SMALL_COMPACT = Variant(
    "small-compact",
    input_size=256,
    output_size=256,
    sizes=compact.Sizes(
        appearance=compact.AppearanceSizes(8, 8, 1, 2, 4, 4, 4),
        motion=compact.MotionSizes(
            channels=(8, 8, 8, 8), top_down=(8, 8), patch_channels=(4, 4, 4), patch_code=4, hidden=8
        ),
        warping=compact.WarpingSizes((8, 8, 8, 8)),
        generator=compact.GeneratorSizes(8, 1, 8, 8),
    ),
    replicate_border=True,
)


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give random values to parameters that start constant (biases, scales, statistics, last layers of MLPs)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if not value.is_floating_point() or key.endswith(("weight_u", "weight_v")):
                continue
            if key.endswith(("running_var", "gamma")):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.ndim == 1 or not value.any():
                value.add_(0.1 * torch.randn(value.shape, generator=generator))


def small_networks(seed: int = 0) -> Networks:
    """Small networks with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = build(SMALL_BASE, retargeting=True)
    for module in networks.modules().values():
        randomise(module, seed)
        module.eval()
    return networks


def build_compact_small(patch: pytest.MonkeyPatch) -> None:
    """From here on every compact network is built in the sizes of `SMALL_COMPACT`."""
    whole = compact.build
    patch.setattr(compact, "build", lambda sizes: whole(SMALL_COMPACT.sizes))
