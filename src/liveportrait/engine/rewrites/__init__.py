"""Cheaper networks with the same results up to rounding, which every back end and exporter starts from."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from liveportrait.engine.rewrites.base import FastAppearance, FastGenerator, FastWarping
from liveportrait.engine.rewrites.convolutions import folded, join_fast
from liveportrait.networks import Networks
from liveportrait.networks.base.appearance import AppearanceFeatureExtractor
from liveportrait.networks.base.generator import SpadeGenerator
from liveportrait.networks.base.warping import WarpingModule


def optimised(
    networks: Networks,
    make_warping: Callable[[WarpingModule], nn.Module] = FastWarping,
    make_generator: Callable[[SpadeGenerator], nn.Module] = FastGenerator,
) -> Networks:
    """Networks for inference with the same interface and the same results up to rounding, in evaluation mode.

    The originals stay unchanged; weights that need no change are shared with them. F and W belong together: features
    of the original F do not fit the W returned here. Modules of unknown types are left as they are, so optimising twice
    changes nothing more. `make_warping` and `make_generator` replace the default versions of BASE's W and G.
    """
    appearance, motion, warping, generator = (
        join_fast(folded(module))
        for module in (networks.appearance, networks.motion, networks.warping, networks.generator)
    )
    if isinstance(appearance, AppearanceFeatureExtractor) and isinstance(warping, WarpingModule):
        appearance, warping = FastAppearance(appearance, warping), make_warping(warping)
    if isinstance(generator, SpadeGenerator):
        generator = make_generator(generator)
    painter = (
        None if networks.mouth_painter is None else _for_inference(copy.deepcopy(networks.mouth_painter))
    )
    return dataclasses.replace(
        networks,
        appearance=_for_inference(appearance),
        motion=_for_inference(motion),
        warping=_for_inference(warping),
        generator=_for_inference(generator),
        mouth_painter=painter,
    )


def _for_inference(module: nn.Module) -> nn.Module:
    """The module for inference, with its 2-D kernels in the memory format that is fastest on all machines."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module.eval().requires_grad_(False)
