"""COMPACT's convolutions of a doubled map beside a fine one: the doubled one never made, see `upsampling`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.rewrites.upsampling import after_enlarging
from liveportrait.networks.compact.layers import JoiningConv, JoiningConvNorm


class FastJoin(nn.Module):
    """`JoiningConv`, or with `rectified` a `JoiningConvNorm` whose norm has been folded."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d, coarse_channels: int, rectified: bool) -> None:
        super().__init__()
        weight, outputs = convolution.weight, convolution.out_channels
        coarse = nn.Conv2d(coarse_channels, outputs, 3, padding=1, bias=False, device="meta")
        fine = nn.Conv2d(weight.shape[1] - coarse_channels, outputs, 3, padding=1, bias=False, device="meta")
        coarse.weight = nn.Parameter(weight[:, :coarse_channels])
        fine.weight = nn.Parameter(weight[:, coarse_channels:])
        fine.bias = convolution.bias
        self.coarse, self.fine, self.rectified = after_enlarging(coarse, 2), fine, rectified

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B,O,H,W) of maps (B,C,H/2,W/2) and (B,c,H,W)."""
        out = self.coarse(coarse) + self.fine(fine)
        return F.relu(out) if self.rectified else out


def join_fast(module: nn.Module) -> nn.Module:
    """The module, folded before, with its joining convolutions replaced in place."""
    for parent in list(module.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, JoiningConv):
                setattr(parent, name, FastJoin(part, part.coarse_channels, rectified=False))
            elif isinstance(part, JoiningConvNorm):
                convolution = part[0]
                assert isinstance(convolution, nn.Conv2d)
                setattr(parent, name, FastJoin(convolution, part.coarse_channels, rectified=True))
    return module
