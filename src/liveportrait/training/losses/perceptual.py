"""Distances in the features of fixed networks: EfficientNet-Lite0, VGG-19 (the user's file) or a face recogniser."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.face.identity import CHIP_LANDMARKS, align_chips
from liveportrait.metrics.perceptual import PerceptualDistance
from liveportrait.motion.lifting import KEYPOINTS, MESH_ROWS

Backbone = Literal["efficientnet", "vgg19", "none"]
# VGG-19 (arXiv 1409.1556, configuration E) up to conv5_1: output channels, or 0 for a pooling layer.
LAYOUT = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
COMPARED_LAYERS = (1, 6, 11, 20, 29)  # relu1_1 … relu5_1 as indices of torchvision's `features`
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MIN_SCALE_SIDE = 32  # px


class Vgg19Distance(nn.Module):
    """Multi-scale VGG-19 perceptual loss of face vid2vid and the first-order model, on (B,3,H,W) in [0, 1].

    Mean |difference|, averaged over relu1_1 … relu5_1 and over `scales` scales, each half as large as the one before.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path, scales: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in LAYOUT:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features, self.scales = nn.Sequential(*layers), scales
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        try:
            stored = load_file(weights)
            wanted = self.features.state_dict()
            self.features.load_state_dict({name: stored[f"features.{name}"].float() for name in wanted})
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise UserError(
                f"no VGG-19 can be read from {weights} ({type(error).__name__}): save the state of torchvision's "
                "vgg19 there as safetensors, or set perceptual = 'efficientnet'"
            ) from error
        self.eval().requires_grad_(False)

    def maps(self, picture: Tensor) -> list[Tensor]:
        """The feature maps relu1_1 … relu5_1 at one scale."""
        x, found = (picture - self.mean) / self.std, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in COMPARED_LAYERS:
                found.append(x)
        return found

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        distances = []
        for _ in range(self.scales):
            with torch.no_grad():
                wanted = self.maps(target)
            distances += [(a - b).abs().mean() for a, b in zip(self.maps(picture), wanted, strict=True)]
            if picture.shape[-1] < 2 * MIN_SCALE_SIDE:
                break
            picture, target = (nn.functional.avg_pool2d(p, 2) for p in (picture, target))
        return torch.stack(distances).mean()


def perceptual_network(backbone: Backbone, vgg19: Path | None = None) -> nn.Module | None:
    """The distance of that name; `vgg19` is the file of torchvision's weights. Raises `UserError` without it."""
    match backbone:
        case "efficientnet":
            return PerceptualDistance()
        case "vgg19":
            if vgg19 is None:
                raise UserError(
                    "perceptual = 'vgg19' needs vgg19 = 'FILE', torchvision's vgg19 saved as safetensors"
                )
            return Vgg19Distance(vgg19)
        case "none":
            return None


CHIP_ROWS = tuple(MESH_ROWS.index(row) for row in CHIP_LANDMARKS)  # of the 111 labelled landmarks
RIDGE = 1e-3


def chip_map(landmarks: NDArray[np.float32]) -> Tensor:
    """A recogniser's five alignment points as weighted means of the 21 keypoint landmarks: (5,21), rows sum to 1.

    Least squares on labelled frames, landmarks (N,111,2). The map is affine and so commutes with every similarity:
    it also holds for augmented pictures, of which only the keypoints are known.
    """
    keypoints, chips = landmarks[:, list(KEYPOINTS)], landmarks[:, list(CHIP_ROWS)]
    centre = keypoints.mean(1, keepdims=True)
    unit = np.sqrt(np.square(keypoints - centre).mean())
    x = ((keypoints - centre) / unit).transpose(0, 2, 1).reshape(-1, keypoints.shape[1]).astype(np.float64)
    y = ((chips - centre) / unit).transpose(0, 2, 1).reshape(-1, len(CHIP_ROWS)).astype(np.float64)
    solved = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y).T
    solved += (1 - solved.sum(1, keepdims=True)) / x.shape[1]
    return torch.from_numpy(solved.astype(np.float32))


def identity_distance(network: nn.Module, pictures: Tensor, targets: Tensor, points: Tensor) -> Tensor:
    """Mean Euclidean distance of embeddings of faces in pictures and targets (B,3,S,S); 0.6 is another person.

    points (B,5,2) in [-1, 1]: the alignment points, the same in both; network: aligned chips -> embeddings.
    """
    where = (points + 1) / 2 * pictures.shape[-1] - 0.5
    with torch.no_grad():
        wanted = network(align_chips(targets.float(), where))
    found = network(align_chips(pictures.float(), where))
    return (found - wanted).square().sum(1).add(1e-8).sqrt().mean()
