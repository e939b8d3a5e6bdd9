"""W and G together: what every back end runs and every graph exports. `compose` makes the picture."""

from __future__ import annotations

from torch import Tensor, nn

from liveportrait.networks.compact.layers import sample
from liveportrait.networks.interface import Features, Layers, Pose, Warped
from liveportrait.networks.variants import Networks


class Renderer(nn.Module):
    """Features and poses to `Layers`."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.warping, self.generator = networks.warping, networks.generator

    def forward(self, features: Features, source: Pose, driving: Pose) -> Layers:
        """The layers of driving poses; every argument has the batch size B."""
        warped: Warped = self.warping(features, source, driving)
        if "image_flow" not in warped:  # BASE: nothing of the picture itself is moved
            picture = self.generator(warped)
            nothing = picture.new_zeros(len(picture), 1, 1, 2)
            return Layers(nothing, nothing[..., :1], picture)
        painting, logits = self.generator.layers(warped)  # type: ignore[operator]
        keep = logits.sigmoid()
        return Layers(warped["image_flow"], keep, (1 - keep) * painting)


def compose(layers: Layers, features: Features) -> Tensor:
    """The picture (B,3,S,S) that the networks mean, RGB in about [0, 1], of the layers of these features."""
    if "image" not in features:
        return layers.paint
    return layers.keep * sample(features["image"], layers.flow) + layers.paint
