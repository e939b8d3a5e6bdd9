"""The engine on untrained compact networks: shapes, truncation, batching, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from liveportrait.engine import Engine, pick_device
from liveportrait.errors import UserError
from liveportrait.networks import Networks, build
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Pose
from liveportrait.networks.variants import COMPACT


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(0)
    return build(COMPACT, retargeting=True)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3)).astype(np.uint8)
    return np.ascontiguousarray(smooth.repeat(16, axis=1).repeat(16, axis=2))


def test_a_batch_renders_like_single_frames(networks, crops):
    engine = Engine(networks)
    motion = engine.extract_motion(crops)
    assert [part.shape[0] for part in motion] == [3] * 5
    assert all(part.dtype == torch.float32 and not part.requires_grad for part in motion)
    features = engine.encode_appearance(crops[:1])
    together = engine.render(features, pose_of(motion.rows([0])), pose_of(motion))
    assert together.shape == (3, 256, 256, 3) and together.dtype == np.uint8
    for index in range(3):
        alone = motion.rows([index])
        single = engine.render(features, pose_of(motion.rows([0])), pose_of(alone))
        assert np.abs(single[0].astype(int) - together[index]).max() <= 1


def test_bf16_stays_close_to_fp32(networks, crops):
    results = []
    for precision in ("fp32", "bf16"):
        engine = Engine(networks, precision)
        motion = engine.extract_motion(crops)
        features = engine.encode_appearance(crops[:1])
        results.append((motion, engine.render(features, pose_of(motion.rows([0])), pose_of(motion))))
    (motion, picture), (half_motion, half_picture) = results
    assert all(part.dtype == torch.float32 for part in half_motion)
    torch.testing.assert_close(pose_of(half_motion).keypoints, pose_of(motion).keypoints, atol=0.02, rtol=0)
    assert np.abs(picture.astype(int) - half_picture).mean() < 2


def test_pixels_are_clipped_and_truncated(networks, crops):
    values = torch.tensor([-0.5, 0.0, 0.999, 1.0 / 255, 1.9999 / 255, 1.0, 3.0])

    class Constant(nn.Module):
        def forward(self, warped: object) -> torch.Tensor:
            return values.view(1, 1, 1, -1).expand(1, 3, 1, -1)

    class Nothing(nn.Module):
        def forward(self, features: object, source: Pose, driving: Pose) -> dict:
            return {}

    fixed = Networks(COMPACT, networks.appearance, networks.motion, Nothing(), Constant())
    engine = Engine(fixed)
    pose = pose_of(engine.extract_motion(crops[:1]))
    assert engine.render({}, pose, pose)[0, 0, :, 0].tolist() == [0, 0, 254, 1, 1, 255, 255]


def test_images_of_the_wrong_size_or_type_are_refused(networks, crops):
    engine = Engine(networks)
    for bad in (crops[0], crops[:, :128], crops.astype(np.float32)):
        with pytest.raises(ValueError, match="not uint8"):
            engine.extract_motion(bad)


def test_small_networks_take_one_source_for_many_frames(networks):
    engine = Engine(networks)
    assert engine.can_stitch and engine.can_retarget_eyes and engine.can_retarget_lips
    source, driving = torch.randn(1, 21, 3), torch.randn(4, 21, 3)
    torch.testing.assert_close(engine.stitch(source, driving), driving)  # untrained: changes nothing
    assert engine.retarget_eyes(source, torch.rand(4, 3)).shape == (4, 21, 3)
    assert engine.retarget_lips(source, torch.rand(4, 2)).shape == (4, 21, 3)


def test_missing_small_networks_are_named(crops):
    engine = Engine(build(COMPACT))
    assert not (engine.can_stitch or engine.can_retarget_eyes or engine.can_retarget_lips)
    with pytest.raises(UserError, match="stitching"):
        engine.stitch(torch.zeros(1, 21, 3), torch.zeros(1, 21, 3))


@pytest.mark.parametrize("wrong", [{"precision": "fp64"}, {"threads": 0}])
def test_wrong_settings_are_refused(networks, wrong):
    with pytest.raises(UserError):
        Engine(networks, **wrong)


def test_threads_are_set(networks):
    before = torch.get_num_threads()
    try:
        Engine(networks, threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_auto_selects_an_available_device():
    torch.zeros(1, device=pick_device("auto"))
    assert pick_device("cpu") == "cpu"
