"""Normalisations that are constant once trained, folded into the convolution before them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import remove_spectral_norm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from liveportrait.networks import base, compact

# By kind of module: the convolution, and the batch norm that follows it with nothing between.
CONVOLUTION_AND_NORM: dict[type[nn.Module], tuple[str, str]] = {
    base.layers.ConvNorm: ("conv", "norm"),
    base.layers.Residual3d: ("conv1", "norm2"),  # norm1 comes after a sum and stays
    base.layers.Decoder: ("conv", "norm"),
    base.warping.DenseMotionNetwork: ("compress", "norm"),
    compact.layers.ConvNorm: ("0", "1"),
    compact.layers.NormResidual: ("second", "norm"),
}


def own_copy(module: nn.Module) -> nn.Module:
    """A copy whose parts can be replaced without changing the original, in evaluation mode, without gradients.

    Numbers are shared with the original, not copied.
    """
    shared: dict[int, object] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        plain = [
            value for value in vars(part).values() if isinstance(value, Tensor)
        ]  # spectral norm's `weight`
        for tensor in (*part.buffers(recurse=False), *plain):
            shared[id(tensor)] = tensor.detach()
    return copy.deepcopy(module, shared).eval()


@torch.no_grad()
def folded(module: nn.Module) -> nn.Module:
    """A copy in which every spectral norm and every batch norm behind a convolution is part of its weights."""
    result = own_copy(module)
    for part in list(result.modules()):
        if hasattr(part, "weight_orig"):
            remove_spectral_norm(part)
        for kind, (convolution, norm) in CONVOLUTION_AND_NORM.items():
            if isinstance(part, kind) and not isinstance(getattr(part, norm), nn.Identity):
                fused = fuse_conv_bn_eval(getattr(part, convolution), getattr(part, norm))
                setattr(part, convolution, fused)
                setattr(part, norm, nn.Identity())
    return result.requires_grad_(False)
