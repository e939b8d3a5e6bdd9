"""Exact rewrites: the same numbers from fewer operations, with the originals untouched."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from small_base import randomise, small_networks
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from liveportrait.engine.rewrites import optimised
from liveportrait.engine.rewrites.base import _heatmaps, _translated, normalised
from liveportrait.engine.rewrites.convolutions import PixelTaps, SliceTaps, after_upsampling, stacked
from liveportrait.networks import BASE, COMPACT, Networks, build
from liveportrait.networks.base import apply_spectral_norm
from liveportrait.networks.base.warping import (
    coordinate_grid,
    heatmap_difference,
    sparse_motions,
)
from liveportrait.networks.geometry import pose_of, sample_volume
from liveportrait.networks.interface import Motion, Pose


def compact_networks() -> Networks:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = build(COMPACT, retargeting=True)
    for module in networks.modules().values():
        randomise(module)
        module.eval()
    return networks


def poses(count: int, amount: float = 0.3) -> tuple[Pose, Pose]:
    """A source and a driving pose with random keypoints and rotations near the identity."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return amount * torch.randn(count, *shape, generator=generator)

    def one() -> Pose:
        rotation = torch.linalg.qr(torch.eye(3) + draw(3, 3)).Q
        motion = Motion(rotation, draw(3), 1 + 0.3 * draw(1).abs(), 2 * draw(21, 3), 0.3 * draw(21, 3))
        return pose_of(motion)

    return one(), one()


def pictures_of(networks: Networks, count: int = 2) -> tuple[Motion, Tensor]:
    """M's motions and G's pictures."""
    size = networks.variant.input_size
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        warped = networks.warping(networks.appearance(images), *poses(count))
        return networks.motion(images), networks.generator(warped)


@pytest.mark.parametrize("make", [small_networks, compact_networks])
def test_networks_give_the_same_results(make) -> None:
    original = make()
    before = {name: copy.deepcopy(module.state_dict()) for name, module in original.modules().items()}
    motion, picture = pictures_of(original)
    fast = optimised(original)
    fast_motion, fast_picture = pictures_of(fast)
    assert picture.std() > 0.01  # there is something to compare
    torch.testing.assert_close(fast_picture, picture, atol=1e-4, rtol=0)
    for part, expected in zip(fast_motion, motion, strict=True):
        torch.testing.assert_close(part, expected, atol=2e-5, rtol=1e-4)

    for name, module in original.modules().items():
        state = module.state_dict()
        assert list(state) == list(before[name])
        assert all(torch.equal(value, before[name][key]) for key, value in state.items())
        assert all(parameter.requires_grad for parameter in module.parameters())
    torch.testing.assert_close(pictures_of(optimised(fast))[1], fast_picture, atol=0, rtol=0)


def test_spectral_norm_of_a_generator_in_training_is_folded() -> None:
    original = small_networks()
    apply_spectral_norm(original.generator)
    original.generator.train()
    warped = {"feature": torch.randn(2, 12, 16, 16)}
    original.generator(warped).mean().backward()  # weights now carry a history
    fast = optimised(original).generator
    original.generator.eval()
    with torch.inference_mode():
        torch.testing.assert_close(fast(warped), original.generator(warped), atol=2e-5, rtol=0)
    assert hasattr(original.generator.up_0.conv_0, "weight_orig")
    assert not any(key.endswith(("_u", "_v", "_orig")) for key in fast.state_dict())


def test_only_batch_norms_after_a_sum_remain() -> None:
    fast = optimised(small_networks())
    kinds = nn.BatchNorm2d | nn.BatchNorm3d
    left = [
        name
        for module in fast.modules().values()
        for name, m in module.named_modules()
        if isinstance(m, kinds)
    ]
    assert left == ["appearance.resblocks_3d.3dr0.norm1"]
    assert not [m for m in optimised(compact_networks()).motion.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_an_upsampled_map_is_convolved_at_its_original_size(factor: int) -> None:
    convolution = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(2, 3, 4, 6)
    expected = convolution(F.interpolate(x, scale_factor=factor, mode="nearest"))
    torch.testing.assert_close(after_upsampling(convolution, factor)(x), expected, atol=1e-6, rtol=0)


def test_depth_is_not_upsampled() -> None:
    convolution = nn.Conv3d(3, 5, 3, padding=1, bias=False)
    x = torch.randn(2, 3, 5, 1, 4)  # borders on both sides of a single row
    expected = convolution(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
    torch.testing.assert_close(after_upsampling(convolution, 2)(x), expected, atol=1e-6, rtol=0)


def test_other_convolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="not 3"):
        after_upsampling(nn.Conv2d(3, 5, 5, padding=2), 2)


def test_stacked_convolutions_keep_the_order_of_channels() -> None:
    parts = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1, bias=False)]
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(stacked(parts)(x), torch.cat([part(x) for part in parts], 1))


def test_channels_far_from_zero_are_normalised_precisely() -> None:
    x = 100 + 0.1 * torch.randn(2, 4, 16, 16, dtype=torch.float64)
    x = x.float().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normalised(x), F.instance_norm(x.double()).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("bias", [True, False])
def test_taps_add_up_to_the_convolution(bias: bool) -> None:
    flat = nn.Conv2d(6, 1, (3, 5), padding=(1, 2), bias=bias)
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(PixelTaps(flat)(x), flat(x), atol=1e-5, rtol=0)
    deep = nn.Conv3d(3, 4, (5, 3, 7), padding=(2, 1, 3), bias=bias)
    for depth in (1, 2, 6):
        x = torch.randn(2, 3, depth, 5, 8)
        torch.testing.assert_close(SliceTaps(deep)(x), deep(x), atol=1e-5, rtol=0)


def test_translations_and_heatmaps_match_the_sampling_grid() -> None:
    size = torch.Size((3, 5, 8))
    grid = coordinate_grid(*size, torch.device("cpu"))
    volume, source, driving = torch.randn(2, 4, *size), torch.randn(2, 7, 3), torch.randn(2, 7, 3)
    source[:, 0] = driving[:, 0] + 3  # wholly outside
    motions = sparse_motions(grid, source, driving)
    expected = sample_volume(volume.repeat_interleave(8, 0), motions.flatten(0, 1), "zeros").unflatten(
        0, (2, 8)
    )
    shifts = F.pad(source - driving, (0, 0, 1, 0))
    torch.testing.assert_close(_translated(volume, shifts), expected, atol=1e-5, rtol=0)
    assert not expected[:, 1].any() and expected[:, 2:].any()
    difference = _heatmaps(driving, size) - _heatmaps(source, size)
    torch.testing.assert_close(difference, heatmap_difference(grid, source, driving), atol=1e-6, rtol=0)


def operations(networks: Networks) -> dict[str, float]:
    """GMAC of one frame, by network."""
    size = networks.variant.input_size
    image, pose = torch.empty(1, 3, size, size), poses(1)[0]
    counted = {}

    def count(name: str, *inputs: object) -> object:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            result = networks.modules()[name](*inputs)
        counted[name] = counter.get_total_flops() / 2e9
        return result

    features = count("appearance", image)
    count("motion", image)
    count("generator", count("warping", features, pose, pose))
    return counted


def test_base_needs_fewer_operations() -> None:
    with torch.device("meta"):
        original = build(BASE)
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes without numbers
        for module in original.modules().values():
            module.to_empty(device="cpu")
        before, after = operations(original), operations(optimised(original))
    assert before["warping"] + before["generator"] == pytest.approx(617, rel=0.01)
    assert after["warping"] + after["generator"] < 530


@pytest.mark.parametrize("make", [small_networks, compact_networks])
def test_bf16_is_as_accurate_as_before(make) -> None:
    original = make()
    expected = pictures_of(original)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before, after = (pictures_of(networks)[1] for networks in (original, optimised(original)))
    errors = [(picture.float() - expected).abs().mean() for picture in (before, after)]
    assert 0 < errors[1] < 1.3 * errors[0]
