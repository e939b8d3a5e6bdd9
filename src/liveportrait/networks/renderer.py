"""W and G together, as every back end runs and every graph exports them. `compose` makes the picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.layers import sample
from liveportrait.networks.compact.painter import LUMA
from liveportrait.networks.interface import Features, Layers, Pose, Warped
from liveportrait.networks.variants import Networks

# What painting changes, averaged over cells of 4 px (RGB in [0, 1]), below which only fine detail differs: the share of
# the source's detail is exp(-(change / ALIKE)²).
CELL, ALIKE = 4, 0.06
COLOURLESS = (0.01, 0.05)  # colourfulness up to which a picture is grey, and from which it is coloured


class Renderer(nn.Module):
    """Renders features and poses to `Layers`."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.warping, self.generator = networks.warping, networks.generator
        self.mouth_painter = networks.mouth_painter

    def forward(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """The layers for driving poses; every argument has the batch size B.

        cues (B,5): what the driver's mouth shows, see `compact.painter.patch_cues`; zeros if unknown.
        """
        warped: Warped = self.warping(features, source, driving)
        if "image_flow" not in warped:  # BASE: does not warp the picture itself
            picture = self.generator(warped)
            nothing = picture.new_zeros(len(picture), 1, 1, 2)
            return Layers(nothing, nothing[..., :1], picture)
        painting, logits = self.generator.layers(warped)  # type: ignore[operator]
        keep = logits.sigmoid()
        layers = with_detail(Layers(warped["image_flow"], keep, (1 - keep) * painting), warped["image"])
        if self.mouth_painter is not None:
            layers = self.mouth_painter(features["image"], warped["image"], layers, source, driving, cues)
        return layers._replace(paint=grey_of_grey(layers.paint, features["colour"]))


def with_detail(layers: Layers, warped: Tensor) -> Layers:
    """Layers with the fine detail of the warped source (B,3,S,S) where the painting differs from it in little else.

    G paints most of a turned face, and softly. Where cells of 4 px hardly change their average, the warp shows the
    right place, so its detail belongs there; the averages stay as painted.
    """
    change = layers.paint - (1 - layers.keep) * warped
    coarse = F.avg_pool2d(change, CELL)
    strongest = F.max_pool2d(coarse.abs().mean(1, keepdim=True), 3, stride=1, padding=1)
    share = (-(strongest / ALIKE).square()).exp()
    cells = torch.cat([coarse, share], 1)  # enlarged in one call
    fine = F.interpolate(cells, scale_factor=CELL, mode="bilinear", align_corners=False)
    coarse, share = fine.split((3, 1), 1)
    keep = 1 - (1 - share) * (1 - layers.keep)
    return layers._replace(keep=keep, paint=layers.paint + share * (coarse - layers.paint))


def grey_of_grey(paint: Tensor, colour: Tensor) -> Tensor:
    """Paint (B,3,S,S) made grey for grey sources; colour (B,1) is their `colourfulness`."""
    none, some = COLOURLESS
    share = ((colour - none) / (some - none)).clamp(0, 1)[:, :, None, None]
    luma = (paint * paint.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.addcmul(paint, 1 - share, luma - paint)


def compose(layers: Layers, features: Features) -> Tensor:
    """The picture (B,3,S,S), RGB in about [0, 1], from layers and the features they were rendered from."""
    if "image" not in features:
        return layers.paint
    return layers.keep * sample(features["image"], layers.flow) + layers.paint
