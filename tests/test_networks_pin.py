"""Stitching in the compact model: shoulders and border stay, the face moves as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_base import randomise, small_networks
from torch import Tensor

from liveportrait.engine import Engine
from liveportrait.motion.lifting import canonical_points
from liveportrait.networks import COMPACT, build
from liveportrait.networks.compact.warping import WarpingModule, moving_window
from liveportrait.networks.geometry import pixel_grid, pose_of, rotation_matrix
from liveportrait.networks.interface import Motion, Pose


def head(turn: float = 0.0, shift: tuple[float, float] = (0.0, -0.15)) -> Pose:
    """The mean face, rotated by degrees about the vertical axis, half as high as the crop."""
    angle = torch.tensor([turn])
    keypoints = torch.from_numpy(canonical_points()[0])[None]
    rotation = rotation_matrix(torch.zeros(1), angle, torch.zeros(1))
    translation = torch.tensor([[*shift, 0.0]])
    return pose_of(Motion(rotation, translation, torch.full((1, 1), 0.25), keypoints, torch.zeros(1, 21, 3)))


def cells(points: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of points (N,2) in [-1, 1] on a grid of that size."""
    index = ((points + 1) / 2 * size).long()
    return index[:, 1], index[:, 0]


@pytest.mark.parametrize("turn", [-40.0, 0.0, 25.0])
def test_the_window_covers_the_face_but_not_shoulders_and_border(turn: float) -> None:
    pose = head(turn)
    window = moving_window(pose.keypoints, 128, 128)[0]
    assert (window[cells(pose.keypoints[0, :, :2], 128)] > 0.98).all()
    assert window[:, [0, -1]].max() < 0.01 and window[[0, -1]].max() < 0.01
    assert window[112:].max() < 0.05  # the lowest eighth
    steps = torch.maximum(window.diff(dim=0).abs().max(), window.diff(dim=1).abs().max())
    assert steps < 0.2  # no seam


def test_the_window_rotates_with_the_head() -> None:
    pose = head()
    quarter = torch.stack([-pose.keypoints[..., 1], pose.keypoints[..., 0], pose.keypoints[..., 2]], -1) * 0.6
    window = moving_window(quarter, 128, 128)[0]
    assert (window[cells(quarter[0, :, :2], 128)] > 0.98).all()


def test_pinned_parts_stay_and_the_face_moves_as_before() -> None:
    torch.manual_seed(0)
    networks = build(COMPACT)
    for module in networks.modules().values():
        randomise(module.eval())
    assert isinstance(networks.warping, WarpingModule)
    source, driving = head(), head(12.0, (0.06, -0.2))
    with torch.no_grad():
        features = networks.appearance(torch.rand(1, 3, 256, 256))
        free = networks.warping(features, source, driving)
        held = networks.warping(features, source, driving._replace(pin=torch.ones(1, 1)))
        half = networks.warping(features, source, driving._replace(pin=torch.full((1, 1), 0.5)))
        alone = networks.warping.flow(features["context"], source, driving._replace(pin=torch.ones(1, 1)))
    rest = pixel_grid(128, 128, torch.device("cpu"))
    moved = [(warped["flow"][0] - rest).norm(dim=-1) for warped in (free, held, half)]
    assert moved[1][112:].max() < 0.05 * moved[0][112:].mean()
    assert moved[1][:, [0, -1]].max() < 0.01 * moved[0].mean()
    torch.testing.assert_close(moved[2][112:], moved[0][112:] / 2, rtol=0.05, atol=1e-3)
    face = cells(driving.keypoints[0, :, :2], 128)
    torch.testing.assert_close(held["flow"][0][face], free["flow"][0][face], rtol=0, atol=2e-3)
    torch.testing.assert_close(alone, held["flow"])
    shoulders = slice(58, 64)  # of the grid of the volume
    planes = features["volume"].flatten(1, 2)[:, :, shoulders]
    gaps = [(warped["volume"][:, :, shoulders] - planes).abs().mean() for warped in (free, held)]
    assert gaps[1] < gaps[0]


def test_stitching_pins_and_base_ignores_it() -> None:
    networks = small_networks()
    engine = Engine(networks)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    source = pose_of(engine.extract_motion(pixels))
    driving = source._replace(keypoints=source.keypoints + 0.1)
    stitched = engine.stitched(source, driving)
    torch.testing.assert_close(stitched.keypoints, engine.stitch(source.keypoints, driving.keypoints))
    assert stitched.pin.tolist() == [[1.0]] and driving.pin.tolist() == [[0.0]]
    features = engine.encode_appearance(pixels)
    released = stitched._replace(pin=torch.zeros(1, 1))
    assert np.array_equal(
        engine.render(features, source, stitched), engine.render(features, source, released)
    )
