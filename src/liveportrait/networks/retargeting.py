"""The three small networks that correct keypoints (paper sec. 3.3): stitching, eye and lip retargeting.

All variants share them. They always compute in float32, even inside autocast: their outputs are
coordinates, and half precision would move keypoints by more than a closing eyelid does.

Their last layer starts at zero, so that an untrained module changes nothing and training starts from
the identity. The other layers start at random, as no gradient would reach them otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from liveportrait.networks.interface import NUM_KEYPOINTS

COORDINATES = NUM_KEYPOINTS * 3


@dataclass(frozen=True)
class RetargetingSizes:
    """Widths of the hidden layers."""

    stitching: tuple[int, ...] = (128, 128, 64)
    eye: tuple[int, ...] = (256, 256, 128, 128, 64)
    lip: tuple[int, ...] = (128, 128, 64)


class KeypointMLP(nn.Module):
    """Linear layers with ReLU between; the last one starts at zero."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU()]
        last = nn.Linear(widths[-1], outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(*layers, last)

    def compute(self, *inputs: Tensor) -> Tensor:
        """The outputs (B,outputs), float32, of the inputs (B,…) flattened and joined."""
        joined = torch.cat([part.flatten(start_dim=1).float() for part in inputs], dim=1)
        with torch.autocast(joined.device.type, enabled=False):
            return self.mlp(joined)


class Stitching(KeypointMLP):
    """S: moves the driving keypoints so that the shoulders and the border of the crop stay put."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__(2 * COORDINATES, hidden, COORDINATES + 2)

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        """Stitched driving keypoints (B,21,3) from the keypoints (B,21,3) of source and driving.

        Each keypoint has its own offset, and all share one shift of x and y.
        """
        out = self.compute(source, driving)  # (B, 65)
        offset = out[:, :COORDINATES].unflatten(1, (NUM_KEYPOINTS, 3))  # (B, 21, 3)
        shift = nn.functional.pad(out[:, None, COORDINATES:], (0, 1))  # (B, 1, 3), no z
        return driving + offset + shift


class EyeRetargeting(KeypointMLP):
    """R_eyes: offsets that open or close the eyes of the source to a wanted ratio."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__(COORDINATES + 3, hidden, COORDINATES)

    def forward(self, source: Tensor, ratios: Tensor) -> Tensor:
        """Offsets Δ (B,21,3), to be added to keypoints, of source keypoints (B,21,3).

        ratios (B,3): opening (height / width) of the source's left eye, of its right eye, and the wanted one.
        """
        return self.compute(source, ratios).unflatten(1, (NUM_KEYPOINTS, 3))


class LipRetargeting(KeypointMLP):
    """R_lip: offsets that open or close the lips of the source to a wanted ratio."""

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__(COORDINATES + 2, hidden, COORDINATES)

    def forward(self, source: Tensor, ratios: Tensor) -> Tensor:
        """Offsets Δ (B,21,3), to be added to keypoints, of source keypoints (B,21,3).

        ratios (B,2): opening (height / width) of the source's lips, and the wanted one.
        """
        return self.compute(source, ratios).unflatten(1, (NUM_KEYPOINTS, 3))
