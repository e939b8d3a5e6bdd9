"""The published architecture: names and shapes of its checkpoints, and the formulas inside."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_base import SMALL_BASE, small_networks
from torch import Tensor, nn

from liveportrait.networks import BASE, Pose, base, build
from liveportrait.networks.base import apply_spectral_norm, fold_spectral_norm
from liveportrait.networks.base.generator import Spade, SpadeGenerator
from liveportrait.networks.base.layers import Hourglass
from liveportrait.networks.base.motion import ChannelNorm, GlobalResponseNorm, MotionExtractor
from liveportrait.networks.base.warping import (
    DenseMotionNetwork,
    coordinate_grid,
    heatmap_difference,
    sample_volume,
)
from liveportrait.networks.geometry import pose_of, rotation_matrix
from liveportrait.networks.retargeting import EyeRetargeting, LipRetargeting, Stitching

# Names and shapes of every tensor in the published files, by file.
CHECKPOINTS = json.loads(
    (Path(__file__).parent / "data" / "published_checkpoints.json").read_text(encoding="utf-8")
)


def pose(keypoints: Tensor) -> Pose:
    """A pose of which only the keypoints are known."""
    count = len(keypoints)
    return Pose(
        keypoints,
        torch.eye(3).expand(count, 3, 3),
        torch.zeros(count, 3),
        torch.ones(count, 1),
        torch.zeros(count, 1),
    )


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def blueprint() -> dict[str, nn.Module]:
    """BASE as it is trained, without memory for the weights."""
    with torch.device("meta"):
        modules = build(BASE, retargeting=True).modules()
        apply_spectral_norm(modules["generator"])
    return modules


@pytest.mark.parametrize(
    ("network", "file"),
    [
        ("appearance", "appearance_feature_extractor.pth"),
        ("motion", "motion_extractor.pth"),
        ("warping", "warping_module.pth"),
        ("generator", "spade_generator.pth"),
    ],
)
def test_networks_have_the_names_and_shapes_of_the_checkpoints(
    blueprint: dict[str, nn.Module], network: str, file: str
) -> None:
    assert shapes(blueprint[network]) == CHECKPOINTS[file]


@pytest.mark.parametrize(
    ("network", "entry"),
    [
        ("stitching", "retarget_shoulder"),
        ("eye_retargeting", "retarget_eye"),
        ("lip_retargeting", "retarget_mouth"),
    ],
)
def test_small_networks_have_the_names_and_shapes_of_the_checkpoint(
    blueprint: dict[str, nn.Module], network: str, entry: str
) -> None:
    assert shapes(blueprint[network]) == CHECKPOINTS["stitching_retargeting_module.pth"][entry]


def test_build_leaves_untrained_retargeting_out() -> None:
    assert set(build(SMALL_BASE).modules()) == {"appearance", "motion", "warping", "generator"}


def test_mismatched_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="volume"):
        base.Sizes(warping=base.WarpingSizes(volume_depth=8))
    with pytest.raises(ValueError, match="channels"):
        base.Sizes(generator=base.GeneratorSizes(input_channels=128))


def test_batches_equal_single_pictures() -> None:
    networks = small_networks()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def render(images: Tensor) -> tuple[Tensor, Tensor]:
        motion = networks.motion(images)
        source = pose_of(motion)
        driving = pose(source.keypoints + 0.1 * motion.canonical)
        warped = networks.warping(networks.appearance(images), source, driving)
        return networks.generator(warped), driving.keypoints

    with torch.inference_mode():
        together = render(images)
        alone = [render(image[None]) for image in images]
    assert together[0].shape == (3, 3, 128, 128)
    assert together[0].std(dim=0).mean() > 1e-4  # the pictures do differ
    for both, separate in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(both, torch.cat(separate), atol=2e-5, rtol=1e-4)


def test_the_volumes_depth_comes_from_the_channels() -> None:
    networks = small_networks()
    extractor = networks.appearance
    extractor.resblocks_3d = nn.Sequential()  # record the input of the 3-D part
    flat = []
    extractor.second.register_forward_hook(lambda module, inputs, output: flat.append(output))
    with torch.inference_mode():
        volume = extractor(torch.rand(2, 3, 64, 64))["volume"]
    assert volume.shape == (2, 4, 4, 16, 16)
    torch.testing.assert_close(volume[:, 2, 1], flat[0][:, 2 * 4 + 1])


# --- M


@pytest.mark.parametrize("index", [0, 20, 65])
def test_pose_bins_decode_to_degrees(index: int) -> None:
    extractor = MotionExtractor(SMALL_BASE.sizes.motion).eval()
    heads = extractor.detector
    angles = {"fc_pitch": index, "fc_yaw": 30, "fc_roll": 40}
    with torch.no_grad():
        for name, bin_index in angles.items():
            getattr(heads, name).weight.zero_()
            getattr(heads, name).bias.copy_(1000.0 * F.one_hot(torch.tensor(bin_index), 66))
        motion = extractor(torch.rand(2, 3, 64, 64))
    pitch, yaw, roll = (torch.full((2,), 3.0 * bin_index - 97.5) for bin_index in angles.values())
    torch.testing.assert_close(motion.rotation, rotation_matrix(pitch, yaw, roll))


def test_motion_is_float32_and_keypoint_major() -> None:
    extractor = MotionExtractor(SMALL_BASE.sizes.motion).eval()
    with torch.no_grad():
        extractor.detector.fc_kp.weight.zero_()
        extractor.detector.fc_kp.bias.copy_(torch.arange(63))
        motion = extractor.to(torch.bfloat16)(torch.rand(2, 3, 64, 64, dtype=torch.bfloat16))
    assert all(value.dtype == torch.float32 for value in motion)
    assert [tuple(value.shape) for value in motion] == [(2, 3, 3), (2, 3), (2, 1), (2, 21, 3), (2, 21, 3)]
    assert motion.canonical[1, 4].tolist() == [12.0, 13.0, 14.0]


def test_norms_of_the_backbone_follow_their_formulas() -> None:
    x = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))  # (B, C, H, W)
    values = x.numpy().astype(np.float64)
    mean, variance = values.mean(1, keepdims=True), values.var(1, keepdims=True)
    np.testing.assert_allclose(
        ChannelNorm(5)(x).detach(), (values - mean) / np.sqrt(variance + 1e-6), atol=1e-5
    )

    norm = GlobalResponseNorm(5)
    with torch.no_grad():
        norm.gamma.fill_(0.7)
        norm.beta.fill_(0.3)
    energy = np.sqrt((values**2).sum((2, 3), keepdims=True))
    share = energy / (energy.mean(1, keepdims=True) + 1e-6)
    expected = 0.7 * values * share + 0.3 + values
    np.testing.assert_allclose(norm(x.permute(0, 2, 3, 1)).detach().permute(0, 3, 1, 2), expected, atol=1e-5)


# --- W


def test_grid_is_ordered_x_y_z_and_touches_the_border() -> None:
    grid = coordinate_grid(3, 4, 5, torch.device("cpu"))
    assert grid.shape == (3, 4, 5, 3)
    assert grid[2, 0, 4].tolist() == [1.0, -1.0, 1.0]
    torch.testing.assert_close(grid[1, 2, 3], torch.tensor([2 * 3 / 4 - 1, 2 * 2 / 3 - 1, 0.0]))


def test_heatmaps_are_gaussians_of_variance_a_hundredth() -> None:
    grid = coordinate_grid(3, 4, 5, torch.device("cpu"))
    source, driving = torch.rand(2, 2, 21, 3).unbind(0)
    maps = heatmap_difference(grid, source, driving)
    assert maps.shape == (2, 21, 3, 4, 5)

    def gaussian(keypoint: Tensor) -> float:
        return math.exp(-0.5 * float((grid[1, 2, 3] - keypoint).square().sum()) / 0.01)

    expected = gaussian(driving[1, 7]) - gaussian(source[1, 7])
    assert float(maps[1, 7, 1, 2, 3]) == pytest.approx(expected, abs=1e-6)


def test_sampling_is_trilinear_with_half_cells_outside_the_border() -> None:
    volume = torch.arange(4.0).reshape(1, 1, 1, 1, 4)
    at = torch.tensor([[-1.0, 0, 0], [-0.75, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    values = sample_volume(volume, at.reshape(1, 1, 1, 5, 3)).flatten()
    # The cells' centres are at ±0.25 and ±0.75; a sample at ±1 is half zero, from outside.
    torch.testing.assert_close(values, torch.tensor([0.0, 0.0, 1.5, 1.5, 0.0]))


@pytest.mark.parametrize("chosen", [0, 5])
def test_flow_points_to_the_source_keypoint(chosen: int) -> None:
    network = DenseMotionNetwork(SMALL_BASE.sizes.warping).eval()
    source, driving = (0.3 * torch.randn(2, 2, 21, 3)).unbind(0)
    with torch.no_grad():
        network.mask.weight.zero_()
        network.mask.bias.copy_(1000.0 * F.one_hot(torch.tensor(chosen), 22))
        flow, occlusion = network(torch.randn(2, 4, 4, 16, 16), source, driving)
    shift = (source - driving)[:, chosen - 1] if chosen else torch.zeros(2, 3)  # 0 is the background
    expected = coordinate_grid(4, 16, 16, torch.device("cpu")) + shift[:, None, None, None]
    torch.testing.assert_close(flow, expected)
    assert occlusion.shape == (2, 1, 16, 16) and occlusion.min() >= 0 and occlusion.max() <= 1


def test_the_hourglass_receives_heatmap_then_features_per_motion() -> None:
    network = DenseMotionNetwork(SMALL_BASE.sizes.warping).eval()
    seen = []
    network.hourglass.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    source, driving = (0.3 * torch.randn(2, 2, 21, 3)).unbind(0)
    volume = torch.randn(2, 4, 4, 16, 16)
    with torch.no_grad():
        network(volume, source, driving)
        compressed = F.relu(network.norm(network.compress(volume)))
    grid = coordinate_grid(4, 16, 16, torch.device("cpu"))
    parts = seen[0].unflatten(1, (22, 3))
    assert not parts[:, 0, 0].any()
    torch.testing.assert_close(parts[:, 9, 0], heatmap_difference(grid, source, driving)[:, 8])
    moved = sample_volume(compressed, grid + (source - driving)[:, 8, None, None, None])
    torch.testing.assert_close(parts[:, 9, 1:], moved)


def test_the_hourglass_concatenates_decoder_before_skip() -> None:
    hourglass = Hourglass(inputs=3, width=4, max_width=16, blocks=2).eval()
    joined = []
    hourglass.decoder.conv.register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    x = torch.randn(2, 3, 4, 8, 8)
    with torch.no_grad():
        assert hourglass(x).shape == (2, 4 + 3, 4, 8, 8)
        levels = hourglass.encoder(x)
    assert [tuple(level.shape[1:]) for level in levels] == [(3, 4, 8, 8), (8, 4, 4, 4), (16, 4, 2, 2)]
    assert torch.equal(joined[0][:, 4:], x)
    pooled = F.avg_pool3d(hourglass.encoder.down_blocks[0](x), (1, 2, 2))
    torch.testing.assert_close(levels[1], pooled)


def test_occlusion_hides_the_warped_map() -> None:
    networks = small_networks()
    module = networks.warping
    features = {"volume": torch.randn(1, 4, 4, 16, 16)}
    keypoints = pose(torch.zeros(1, 21, 3))
    with torch.no_grad():
        module.dense_motion_network.occlusion.bias.fill_(-1000.0)
        assert not module(features, keypoints, keypoints)["feature"].any()


def test_coordinates_stay_float32_in_half_precision() -> None:
    networks = small_networks()
    keypoints = pose(0.3 * torch.randn(1, 21, 3))
    features = {"volume": torch.randn(1, 4, 4, 16, 16)}
    dense = networks.warping.dense_motion_network
    flows = []
    dense.register_forward_hook(lambda module, inputs, output: flows.append(output[0]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        networks.warping(features, keypoints, pose(torch.zeros(1, 21, 3)))
    with torch.inference_mode():
        half = {"volume": features["volume"].bfloat16()}
        out = networks.warping.to(torch.bfloat16)(half, keypoints, pose(torch.zeros(1, 21, 3)))
    assert [flow.dtype for flow in flows] == [torch.float32, torch.float32]
    assert out["feature"].dtype == torch.bfloat16


# --- G


def test_spade_normalises_each_picture_and_modulates_it() -> None:
    spade = Spade(6, SMALL_BASE.sizes.generator)
    x, condition = torch.randn(2, 6, 8, 8), torch.randn(2, 12, 4, 4)
    enlarged = condition.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    shared = spade.mlp_shared(enlarged)
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
    expected = (x - mean) / (variance + 1e-5).sqrt() * (1 + spade.mlp_gamma(shared)) + spade.mlp_beta(shared)
    torch.testing.assert_close(spade(x, condition), expected, atol=1e-5, rtol=1e-4)


def test_the_folded_generator_equals_the_one_with_spectral_norm() -> None:
    torch.manual_seed(0)
    sizes = SMALL_BASE.sizes.generator
    trained = SpadeGenerator(sizes)
    apply_spectral_norm(trained)
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.1)
    warped = {"feature": torch.randn(2, 12, 16, 16)}
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    trained(warped).square().mean().backward()
    optimiser.step()
    after = trained.state_dict()
    for key in ("G_middle_0.conv_0.weight_orig", "G_middle_0.conv_0.weight_u", "up_0.conv_s.weight_orig"):
        assert not torch.equal(before[key], after[key]), f"{key} was not trained"

    folded = SpadeGenerator(sizes).eval()
    folded.load_state_dict(fold_spectral_norm(after))
    trained.eval()
    with torch.inference_mode():
        torch.testing.assert_close(folded(warped), trained(warped), atol=1e-6, rtol=1e-5)


def test_folding_divides_by_the_stored_singular_value() -> None:
    matrix = torch.diag(torch.tensor([4.0, 2.0])).reshape(2, 2, 1, 1)
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    stored = {"a.weight_orig": matrix, "a.weight_u": second, "a.weight_v": second, "a.bias": first}
    folded = fold_spectral_norm(stored)  # not 4, the largest: the stored value is used
    assert folded.keys() == {"a.weight", "a.bias"}
    torch.testing.assert_close(folded["a.weight"], matrix / 2)


# --- stitching and retargeting


def test_untrained_retargeting_changes_nothing_but_can_learn() -> None:
    source, driving = torch.randn(2, 4, 21, 3).unbind(0)
    stitching = Stitching((16, 8))
    torch.testing.assert_close(stitching(source, driving), driving)
    for module, ratios in (
        (EyeRetargeting((16, 8)), torch.rand(4, 3)),
        (LipRetargeting((8,)), torch.rand(4, 2)),
    ):
        offsets = module(source, ratios)
        assert offsets.shape == (4, 21, 3) and not offsets.any()

    optimiser = torch.optim.SGD(stitching.parameters(), lr=0.1)
    for _ in range(2):  # the first step changes the last layer, the second the layers before it
        optimiser.zero_grad()
        (stitching(source, driving) - source).square().mean().backward()
        optimiser.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in stitching.parameters())


def test_stitching_adds_offsets_and_one_shift_of_x_and_y() -> None:
    stitching = Stitching((8,))
    offsets = torch.randn(21, 3)
    with torch.no_grad():
        stitching.mlp[-1].bias.copy_(torch.cat([offsets.flatten(), torch.tensor([0.5, -0.25])]))
        source, driving = torch.randn(2, 4, 21, 3).unbind(0)
        stitched = stitching(source, driving)
    torch.testing.assert_close(stitched, driving + offsets + torch.tensor([0.5, -0.25, 0.0]))


def test_retargeting_reads_source_then_ratios_in_float32() -> None:
    lips = LipRetargeting((8,))
    with torch.no_grad():
        for parameter in lips.parameters():
            parameter.normal_()
        source, ratios = torch.randn(4, 21, 3), torch.rand(4, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            offsets = lips(source, ratios)
        expected = lips.mlp(torch.cat([source.reshape(4, 63), ratios], dim=1)).reshape(4, 21, 3)
    assert offsets.dtype == torch.float32
    torch.testing.assert_close(offsets, expected)
