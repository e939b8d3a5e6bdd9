"""E: how a face's own landmarks move when its blendshape scores change.

The same smile moves different faces differently. From the principal components of a face's landmarks and its initial
scores, E predicts where the keypoints go for other scores. Its output is the difference of two evaluations of one
network, so that unchanged scores move nothing, whatever the weights.

It always computes in float32, as the other small networks do: its output is coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from liveportrait.networks.interface import NUM_KEYPOINTS

LANDMARKS = 111  # of the labels
SCORES = 52  # blendshapes


@dataclass(frozen=True)
class ExpressionSizes:
    """Widths of E."""

    components: int = 24  # of a face's landmarks
    hidden: int = 256


class ExpressionNetwork(nn.Module):
    """E. Its buffers hold the training corpus's mean face and whitened principal components."""

    mean: Tensor
    basis: Tensor

    def __init__(self, sizes: ExpressionSizes) -> None:
        super().__init__()
        outputs = 2 * NUM_KEYPOINTS
        self.register_buffer("mean", torch.zeros(LANDMARKS, 2))
        self.register_buffer("basis", torch.zeros(2 * LANDMARKS, sizes.components))
        self.linear = nn.Linear(SCORES, outputs, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(sizes.components + 2 * SCORES, sizes.hidden),
            nn.SiLU(),
            nn.Linear(sizes.hidden, sizes.hidden),
            nn.SiLU(),
            nn.Linear(sizes.hidden, outputs, bias=False),
        )
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.layers.get_parameter("4.weight"))

    def code(self, landmarks: Tensor) -> Tensor:
        """The components (B,c), of unit variance, of flat landmarks (B,111,2), see `motion.lifting.flattened`."""
        return (landmarks - self.mean).flatten(1).float() @ self.basis

    def forward(self, landmarks: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
        """Offsets (B,21,2) of the keypoints of faces with flat landmarks (B or 1,111,2) when their scores change.

        Scores in [0, 1]: their own (B or 1,52), wanted (B,52). Offsets are in the head's frame, x right and y down, in
        units of the RMS radius of the rigid landmarks.
        """
        return self.moved(self.code(landmarks).expand(len(wanted), -1), own.expand(len(wanted), -1), wanted)

    def moved(self, code: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
        """The same for faces whose components (B,c) are known."""
        change = wanted - own
        # Scores are roughly centred, and changes, which are small, scaled up.
        asked = torch.cat([code, 2 * own - 0.5, 2 * change], dim=1)
        nothing = torch.cat([code, 2 * own - 0.5, torch.zeros_like(change)], dim=1)
        with torch.autocast(asked.device.type, enabled=False):
            offsets = self.linear(change) + self.layers(asked) - self.layers(nothing)
        return offsets.unflatten(1, (NUM_KEYPOINTS, 2))
