"""The compact networks: sizes within budget, and a flow that follows the keypoints even untrained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from liveportrait.networks import COMPACT, build
from liveportrait.networks.compact.layers import channels_last, map_of, planes, rows_of, shuffled
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import (
    pixel_centres,
    pixel_grid,
    plane,
    pose_of,
    rotation_matrix,
    sample_volume,
    sampling_form,
    transform_keypoints,
    turned_grid,
)
from liveportrait.networks.interface import Motion


def some_motion(batch: int = 1, seed: int = 0) -> Motion:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    angles = (10 * noise() for _ in range(3))
    shift = torch.cat([0.05 * noise(2), torch.zeros(batch, 1)], 1)
    return Motion(
        rotation_matrix(*angles), shift, 0.4 + 0.02 * noise(1), 0.7 * noise(21, 3), 0.02 * noise(21, 3)
    )


def test_parameters_and_work_per_frame_are_within_budget() -> None:
    networks = build(COMPACT)
    work: dict[str, int] = {}

    def count(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, _: object, output: Tensor) -> None:
            assert isinstance(module, nn.Conv2d | nn.Linear)
            taps = module.weight[0].numel()
            work[name] = work.get(name, 0) + output.numel() * taps

        return hook

    for name, network in networks.modules().items():
        network.eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count(name))
    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        pose = pose_of(networks.motion(image))
        picture = networks.generator(networks.warping(networks.appearance(image), pose, pose))
    assert picture.shape == (1, 3, 256, 256)
    assert sum(p.numel() for n in networks.modules().values() for p in n.parameters()) <= 12e6
    assert work["motion"] + work["warping"] + work["generator"] <= 4.5e9


def test_without_motion_no_pixel_moves() -> None:
    networks = build(COMPACT)
    # Smooth, because F's upsampling and the bilinear lookup soften fine noise.
    image = torch.nn.functional.interpolate(torch.rand(2, 3, 16, 16), size=(128, 128), mode="bilinear")
    pose = pose_of(some_motion(2))
    with torch.no_grad():
        warped = networks.warping(networks.appearance(image), pose, pose)
    identity = pixel_grid(64, 64, image.device)
    assert (warped["flow"] - identity).abs().max() < 1e-5
    assert (warped["image"] - image).abs().max() < 0.01


def test_untrained_flow_carries_the_head_with_its_rigid_motion() -> None:
    networks = build(COMPACT)
    source = some_motion()
    shift = torch.tensor([[0.12, -0.08, 0.0]])
    driving = source._replace(translation=source.translation + shift)
    with torch.no_grad():
        features = networks.appearance(torch.rand(1, 3, 256, 256))
        flow = networks.warping(features, pose_of(source), pose_of(driving))["flow"][0]  # (128,128,2)
    nose = pose_of(driving).keypoints[0, 16, :2].clamp(-0.9, 0.9)
    column, row = ((nose + 1) * 64).int().tolist()
    moved = flow[row, column] - pixel_grid(128, 128, flow.device)[row, column]
    # Each pixel of the head comes from its previous position.
    assert (moved + shift[0, :2]).abs().max() < 0.03


def test_motion_reproduces_the_keypoints_that_were_found() -> None:
    network = build(COMPACT).motion.eval()
    assert isinstance(network, MotionExtractor)
    labels = some_motion(8)
    network.set_statistics(transform_keypoints(labels), labels)
    with torch.no_grad():
        motion, _ = network.detailed(torch.rand(2, 3, 256, 256))
        again = network(torch.rand(2, 3, 256, 256))
    product = motion.rotation @ motion.rotation.transpose(1, 2)
    assert (product - torch.eye(3)).abs().max() < 1e-5
    assert torch.linalg.det(motion.rotation).min() > 0.99
    assert transform_keypoints(motion).isfinite().all()
    assert again.expression.shape == (2, 21, 3)


def test_patches_follow_the_head_when_the_picture_turns() -> None:
    """Magnified keypoints are defined in the patch, so they turn with the coarse keypoints."""
    network = build(COMPACT).motion.eval()
    assert isinstance(network, MotionExtractor)
    picture = torch.rand(1, 3, 256, 256)
    coarse = 0.3 * torch.randn(1, 21, 2, generator=torch.Generator().manual_seed(1))
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    with torch.no_grad():
        straight, _ = network.magnify(picture, coarse)
        turned, _ = network.magnify(picture.rot90(-1, (2, 3)), coarse @ quarter)
    assert (straight @ quarter - turned).abs().max() < 2e-3


def test_results_do_not_depend_on_the_memory_format() -> None:
    for maps in (torch.randn(2, 12, 6, 5), torch.randn(2, 6, 5, 12).permute(0, 3, 1, 2)):
        rows = rows_of(maps)
        assert rows.is_contiguous() and torch.equal(rows, maps.flatten(2).transpose(1, 2))
        assert torch.equal(map_of(rows, (6, 5)), maps)
        last = channels_last(maps)
        assert last.is_contiguous(memory_format=torch.channels_last) and torch.equal(last, maps)
        assert planes(maps).is_contiguous() and torch.equal(planes(maps), maps)
        assert torch.equal(shuffled(maps), nn.functional.pixel_shuffle(maps, 2))


def test_a_grid_is_rotated_like_its_points() -> None:
    grid = pixel_grid(4, 6, torch.device("cpu"))
    x, y = pixel_centres(6, grid.device), pixel_centres(4, grid.device)
    axes, offset = torch.randn(2, 2, 2), torch.randn(2, 2)
    expected = grid.view(1, -1, 2) @ axes + offset[:, None]
    torch.testing.assert_close(turned_grid(x, y, axes, offset), expected.view(2, 4, 6, 2))
    along = ((grid - offset[:, None, None]) * axes[:, None, None, 0]).sum(-1)
    torch.testing.assert_close(plane(x, y, axes[:, 0], offset), along)


def test_both_implementations_of_volume_sampling_agree() -> None:
    volume, where = torch.randn(2, 3, 4, 8, 8), 2.4 * torch.rand(2, 4, 8, 8, 3) - 1.2
    with sampling_form("native"):
        native = sample_volume(volume, where, "border")
    with torch.no_grad():  # the implementation for CPUs
        torch.testing.assert_close(sample_volume(volume, where, "border"), native)
