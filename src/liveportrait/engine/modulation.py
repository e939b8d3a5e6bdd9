"""Scale and shift of the compact generator's modulations as two convolutions, for compiled graphs.

Most runtimes copy both halves to divide one map channel-wise, which took a fifth of a frame in OpenVINO.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.generator import GROUPS, SpatialModulation
from liveportrait.networks.interface import Networks


class SplitModulation(nn.Module):
    """Answers as `SpatialModulation` does; the 1 of 1 + gain is part of a bias."""

    def __init__(self, original: SpatialModulation) -> None:
        super().__init__()
        convolution = original.modulation
        inputs, channels = convolution.in_channels, convolution.out_channels // 2
        self.gain, self.shift = nn.Conv2d(inputs, channels, 1), nn.Conv2d(inputs, channels, 1)
        assert convolution.bias is not None
        with torch.no_grad():
            self.gain.weight.copy_(convolution.weight[:channels])
            self.gain.bias.copy_(convolution.bias[:channels] + 1)  # type: ignore[union-attr]
            self.shift.weight.copy_(convolution.weight[channels:])
            self.shift.bias.copy_(convolution.bias[channels:])  # type: ignore[union-attr]

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        return F.group_norm(x, GROUPS) * self.gain(conditioning) + self.shift(conditioning)


def split_modulations(networks: Networks) -> Networks:
    """Replaces the modulations in G of these networks, in place: give it a copy (`optimised` returns one)."""
    for parent in list(networks.generator.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SpatialModulation):
                device = child.modulation.weight.device
                setattr(parent, name, SplitModulation(child).eval().requires_grad_(False).to(device))
    return networks
