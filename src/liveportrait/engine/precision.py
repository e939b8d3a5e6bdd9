"""Half precision: convolutions and their weights in 16 bits, geometry and what adds up in float32.

Autocast decides operation by operation what is narrow; the networks turn it off where they compute coordinates. It
would also narrow all weights at every call, so that they are kept narrow.
"""

from __future__ import annotations

import torch
from torch import nn

from liveportrait.choices import Precision
from liveportrait.errors import UserError
from liveportrait.networks import Networks

HALF: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def autocast_for(precision: Precision, device: torch.device) -> torch.autocast:
    """A block in which networks compute in that precision."""
    dtype = HALF.get(precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def to_half(networks: Networks, precision: Precision) -> Networks:
    """The same networks, changed in place: F's, M's, W's and G's convolutions hold weights in that precision.

    To be run within `autocast_for`, where the numbers are the same as without. Give it copies (`optimised` makes some).
    """
    dtype = HALF.get(precision)
    if dtype is not None:
        for network in (networks.appearance, networks.motion, networks.warping, networks.generator):
            for part in network.modules():
                if isinstance(part, CONVOLUTIONS):
                    for parameter in part.parameters(recurse=False):
                        parameter.data = parameter.data.to(dtype)
    return networks


def require_precision(what: str, precision: Precision, offered: tuple[Precision, ...]) -> None:
    """Raises UserError unless the precision is one of those offered by `what`."""
    if precision not in offered:
        raise UserError(f"{what} has no precision {precision!r}: choose {' or '.join(offered)}")
