"""The compact networks in the shape that compiled graphs run fastest; the numbers stay the same up to rounding.

Both cost nothing in PyTorch and a third of a frame in OpenVINO 2026.4: dividing a map channel-wise copies both halves,
and reordering a map whose channels are no multiple of 16 into the layout of its convolutions is eight times slower.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks import Networks
from liveportrait.networks.compact.generator import GROUPS, SpatialModulation

CHANNELS = 16
PADDED = {
    "compact": ("warping.enter", "generator.enter", "generator.merge")
}  # those that read maps side by side


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


class PaddedConv(nn.Module):
    """A convolution whose input is filled up with channels of zeros to a multiple of 16."""

    def __init__(self, original: nn.Conv2d) -> None:
        super().__init__()
        self.missing = -original.in_channels % CHANNELS
        self.convolution = copy.copy(original)
        self.convolution.in_channels += self.missing
        weight = F.pad(original.weight.detach(), (0, 0, 0, 0, 0, self.missing))
        self.convolution._parameters = original._parameters | {
            "weight": nn.Parameter(weight, requires_grad=False)
        }

    def forward(self, x: Tensor) -> Tensor:
        filled: Tensor = self.convolution(F.pad(x, (0, 0, 0, 0, 0, self.missing)))
        return filled


def openvino_layout(networks: Networks) -> Networks:
    """Changes the modules of these networks, in place: give it copies (`optimised` returns some)."""
    for network in (networks.warping, networks.generator):
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, SpatialModulation):
                    split = SplitModulation(child).eval().requires_grad_(False)
                    setattr(parent, name, split.to(child.modulation.weight.device))
    for path in PADDED.get(networks.variant.architecture, ()):
        network_name, name = path.split(".")
        owner = getattr(networks, network_name)
        if type(convolution := getattr(owner, name)) is nn.Conv2d:
            setattr(owner, name, PaddedConv(convolution))
    return networks
