"""Detector of animal faces and their landmarks: a small network for cats, dogs and similar animals.

One map of cells at stride 8 says where a face's middle lies, and from there, where its nine landmarks are and how
large it is. Nine heatmaps of the same map place the landmarks finer where the picture shows one face at a known
size. The trunk is EfficientNet-Lite0 up to stride 16.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.efficientnet import STEM, blocks, pad_same, scaled
from liveportrait.networks.geometry import pixel_grid

SIDE = 192  # px, side of the pictures it was trained for
STRIDE = 8
# Upper and lower lid of the eye on the picture's left (of an upright face), the same of the other eye, nose, middle
# of the mouth (where the upper lip ends), its corners (left, right of the picture), bottom of the chin.
LANDMARKS = 9
MIRRORED = (2, 3, 0, 1, 4, 5, 7, 6, 8)
FINE_DEPTH, DEPTH = 5, 11  # blocks up to strides 8 and 16
WIDTH = 64
UNIT = 0.25  # of the crop's half side: the unit of offsets


class AnimalReading(NamedTuple):
    """The faces found in pictures (B,3,S,S); coordinates have the picture in [-1, 1]."""

    centre: Tensor  # (B,h,w) logits: the centre of a face is in this cell
    size: Tensor  # (B,h,w) log of the face's size, see `face_size`, in the unit of coordinates
    points: Tensor  # (B,h,w,9,2) landmarks as predicted by this cell
    heat: Tensor  # (B,9,h·w) logits of the landmarks' heatmaps


class AnimalNetwork(nn.Module):
    """Takes pictures of any size divisible by 16, and finds faces with a size of 0.06 to 0.45."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2)
        made, coarse = blocks(DEPTH)
        self.blocks = nn.ModuleList(made)
        fine = made[FINE_DEPTH - 1].proj.out_channels
        self.lateral_fine = nn.Conv2d(fine, WIDTH, 1)
        self.lateral_coarse = nn.Conv2d(coarse, WIDTH, 1)
        self.context = nn.Sequential(_Mix(WIDTH), _Mix(WIDTH))
        self.joined = nn.Sequential(_Mix(WIDTH), _Mix(WIDTH))
        self.output = nn.Conv2d(WIDTH, 1 + 1 + 3 * LANDMARKS, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.output.bias[0] = -4.0  # type: ignore[index]  # faces are rare
            self.output.bias[1] = -1.5  # type: ignore[index]

    def forward(self, picture: Tensor) -> AnimalReading:
        """The reading of pictures (B,3,S,S), RGB in [0, 1]."""
        return self.read(*self.features(picture))

    def features(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's maps, (B,40,S/8,S/8) and (B,112,S/16,S/16)."""
        x = F.relu6(self.stem(pad_same(scaled(picture).contiguous(memory_format=torch.channels_last), 3, 2)))
        fine = x
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number == FINE_DEPTH:
                fine = x
        return fine, x

    def read(self, fine: Tensor, coarse: Tensor) -> AnimalReading:
        """The reading of the backbone's features."""
        up = F.interpolate(self.context(F.relu(self.lateral_coarse(coarse))), scale_factor=2, mode="bilinear")
        raw = self.output(self.joined(F.relu(self.lateral_fine(fine)) + up)).float()
        height, width = raw.shape[-2:]
        offsets = raw[:, 2 : 2 + 2 * LANDMARKS].permute(0, 2, 3, 1).unflatten(3, (LANDMARKS, 2)) * UNIT
        cells = pixel_grid(height, width, raw.device)[None, :, :, None]
        return AnimalReading(raw[:, 0], raw[:, 1], cells + offsets, raw[:, 2 + 2 * LANDMARKS :].flatten(2))


class _Mix(nn.Module):
    """Residual block: a 5x5 depthwise convolution, then a pointwise MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(8, width)
        self.across = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.ReLU(), nn.Conv2d(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.across(self.norm(self.around(x)))


def face_size(points: Tensor) -> Tensor:
    """The size (...) of faces with landmarks (...,9,2): their RMS distance from their mean."""
    return (points - points.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt()
