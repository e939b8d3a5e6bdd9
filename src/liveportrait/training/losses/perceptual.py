"""Networks in whose features pictures are compared: EfficientNet-Lite0 (bundled) or VGG-19 (the user's file)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.metrics.perceptual import PerceptualDistance

Backbone = Literal["efficientnet", "vgg19", "none"]
# VGG-19 (arXiv 1409.1556, configuration E) up to conv5_1: channels, 0 halves the picture.
LAYOUT = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
COMPARED = (1, 6, 11, 20, 29)  # relu1_1 … relu5_1 as indices of torchvision's `features`
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALLEST_SCALE = 32  # px


class Vgg19Distance(nn.Module):
    """Multi-scale VGG-19 perceptual loss of face vid2vid and the first-order model, on (B,3,H,W) in [0, 1].

    The mean over `scales` halvings of the picture of the mean over relu1_1 … relu5_1 of mean |difference|.
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
        """relu1_1 … relu5_1 of one scale."""
        x, found = (picture - self.mean) / self.std, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in COMPARED:
                found.append(x)
        return found

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        distances = []
        for _ in range(self.scales):
            with torch.no_grad():
                wanted = self.maps(target)
            distances += [(a - b).abs().mean() for a, b in zip(self.maps(picture), wanted, strict=True)]
            if picture.shape[-1] < 2 * SMALLEST_SCALE:
                break
            picture, target = (nn.functional.avg_pool2d(p, 2) for p in (picture, target))
        return torch.stack(distances).mean()


def perceptual_network(backbone: Backbone, vgg19: Path | None = None) -> nn.Module | None:
    """The distance of that name; `vgg19` is the file with torchvision's weights. Raises UserError where it is not."""
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
