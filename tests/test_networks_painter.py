"""The mouth painter: where it paints, what it leaves alone, and that grey pictures stay grey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from liveportrait.networks import COMPACT, Layers, build
from liveportrait.networks.compact.appearance import colourfulness
from liveportrait.networks.compact.painter import MouthPainter, PainterSizes, mouth_patch, patch_cues
from liveportrait.networks.geometry import pixel_grid
from liveportrait.networks.interface import Pose
from liveportrait.networks.keypoints import MOUTH
from liveportrait.networks.renderer import Renderer, compose, grey_of_grey

SIDE = 256


def pose(opening: float, count: int = 1) -> Pose:
    """A frontal head with its mouth in the centre of the crop."""
    keypoints = torch.zeros(count, 21, 3)
    half = opening / 2
    lips = [(-0.2, 0), (0.2, 0), (0, -half), (0, half), (0, half + 0.06), (0, -half - 0.06)]
    keypoints[:, list(MOUTH), :2] = torch.tensor(lips)
    turn = torch.eye(3).repeat(count, 1, 1)
    return Pose(keypoints, turn, torch.zeros(count, 3), torch.full((count, 1), 0.5), torch.zeros(count, 1))


@pytest.fixture
def painter() -> MouthPainter:
    """A painter that changes everything it can."""
    torch.manual_seed(0)
    made = MouthPainter(PainterSizes((8, 8, 8))).eval().requires_grad_(False)
    made.output.bias.fill_(2.0)
    return made


def layers(keep: float = 0.7) -> tuple[Tensor, Layers]:
    picture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2
    flow = pixel_grid(SIDE, SIDE, torch.device("cpu"))[None]
    return picture, Layers(flow, torch.full((1, 1, SIDE, SIDE), keep), (1 - keep) * picture)


def test_an_opening_mouth_is_painted_inside_its_patch(painter: MouthPainter) -> None:
    source, before = layers()
    closed, opened = pose(0.0), pose(0.2)
    after = painter(source, source, before, closed, opened, torch.zeros(1, 5))
    change = (compose(after, {"image": source}) - compose(before, {"image": source})).abs().amax(1)[0]
    assert change[128, 128] > 0.1
    place = mouth_patch(opened)
    inside = place.local(pixel_grid(SIDE, SIDE, torch.device("cpu")).view(1, -1, 2)).view(SIDE, SIDE, 2)
    outside = (inside[..., 0].abs() > 1.03) | (inside[..., 1].abs() > 0.83)
    assert torch.equal(after.keep[0, 0][outside], before.keep[0, 0][outside])
    assert torch.equal(after.paint[0, :, outside], before.paint[0, :, outside])
    # Painted pixels are no longer taken from the source; almost untouched ones still are.
    assert after.keep[0, 0, 128, 128] == 0
    assert after.keep.min() >= 0
    assert torch.isclose(after.keep.max(), before.keep.max())


def test_an_unchanged_mouth_keeps_its_pixels(painter: MouthPainter) -> None:
    source, before = layers()
    after = painter(source, source, before, pose(0.1), pose(0.1), torch.zeros(1, 5))
    assert torch.equal(after.keep, before.keep)
    assert torch.equal(after.paint, before.paint)


def test_cues_distinguish_teeth_from_darkness() -> None:
    shape = torch.tensor([[[-0.5, 0.0], [0.5, 0.0], [0, -0.2], [0, 0.2], [0, 0.3], [0, -0.3]]])
    dark = torch.full((1, 3, 64, 80), 0.5)
    dark[:, :, 24:41, 20:60] = 0.1
    teeth = dark.clone()
    teeth[:, :, 24:30, 20:60] = 0.9
    upper, _, lower, red, known = patch_cues(teeth, shape)[0]
    assert upper > 0.2 > 0 > lower
    assert red == pytest.approx(0, abs=1e-6)
    assert known == 1
    closed = shape.clone()
    closed[:, 2:4] = 0
    assert patch_cues(teeth, closed)[0].tolist() == [0, 0, 0, 0, 1]


def test_grey_sources_stay_grey_and_others_are_unchanged() -> None:
    paint = torch.rand(2, 3, 8, 8)
    source = torch.rand(2, 3, 8, 8)
    source[0] = source[0, :1]
    grey = grey_of_grey(paint, colourfulness(source))
    assert np.ptp(grey[0].numpy(), axis=0).max() < 1e-6
    assert torch.equal(grey[1], paint[1])


def test_the_renderer_calls_the_painter() -> None:
    networks = build(COMPACT, painter=True)
    assert networks.modules().keys() >= {"mouth_painter"}
    for module in networks.modules().values():
        module.eval().requires_grad_(False)
    features = networks.appearance(torch.rand(1, 3, SIDE, SIDE))
    with_cues = Renderer(networks)(features, pose(0.0), pose(0.2), torch.ones(1, 5))
    without_cues = Renderer(networks)(features, pose(0.0), pose(0.2), torch.zeros(1, 5))
    networks.mouth_painter = None
    without = Renderer(networks)(features, pose(0.0), pose(0.2), torch.zeros(1, 5))
    assert not torch.equal(with_cues.paint, without_cues.paint)
    assert not torch.equal(without_cues.paint, without.paint)
