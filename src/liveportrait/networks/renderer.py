"""W and G together: what every back end runs and every graph exports. `compose` makes the picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from liveportrait.networks.compact.layers import sample
from liveportrait.networks.compact.painter import LUMA
from liveportrait.networks.interface import Features, Layers, Pose, Warped
from liveportrait.networks.variants import Networks

COLOURLESS = (0.01, 0.05)  # mean of max - min over a picture's channels: no colour, surely some


class Renderer(nn.Module):
    """Features and poses to `Layers`."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.warping, self.generator = networks.warping, networks.generator
        self.mouth_painter = networks.mouth_painter

    def forward(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """The layers of driving poses; every argument has the batch size B.

        cues (B,5): what the driver's mouth shows, see `compact.generator.patch_cues`; zeros where nobody knows.
        """
        warped: Warped = self.warping(features, source, driving)
        if "image_flow" not in warped:  # BASE: nothing of the picture itself is moved
            picture = self.generator(warped)
            nothing = picture.new_zeros(len(picture), 1, 1, 2)
            return Layers(nothing, nothing[..., :1], picture)
        painting, logits = self.generator.layers(warped)  # type: ignore[operator]
        keep = logits.sigmoid()
        layers = Layers(warped["image_flow"], keep, (1 - keep) * painting)
        if self.mouth_painter is not None:
            layers = self.mouth_painter(features["image"], warped["image"], layers, source, driving, cues)
        return layers._replace(paint=grey_of_grey(layers.paint, features["colour"]))


def grey_of_grey(paint: Tensor, colour: Tensor) -> Tensor:
    """Paint (B,3,S,S) that loses its colours where the source has none (B,1), see `colourfulness`; others stay."""
    none, some = COLOURLESS
    share = ((colour - none) / (some - none)).clamp(0, 1)[:, :, None, None]
    luma = (paint * paint.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.addcmul(paint, 1 - share, luma - paint)


def compose(layers: Layers, features: Features) -> Tensor:
    """The picture (B,3,S,S) that the networks mean, RGB in about [0, 1], of the layers of these features."""
    if "image" not in features:
        return layers.paint
    return layers.keep * sample(features["image"], layers.flow) + layers.paint
