"""Each loss of the joint training against a value computed by hand, or an invariance it must have."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic_shards import project, turn

from liveportrait.errors import UserError
from liveportrait.motion.lifting import KEYPOINTS
from liveportrait.networks.geometry import rotation_matrix, transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.training.losses.discriminator import (
    Discriminators,
    PatchDiscriminator,
    discriminator_hinge,
    feature_matching,
    generator_hinge,
)
from liveportrait.training.losses.motion import (
    consistency,
    deformation_prior,
    equivariance,
    head_pose,
    keypoint_prior,
    landmark_guide,
    wing,
)
from liveportrait.training.losses.perceptual import (
    CHIP_ROWS,
    LAYOUT,
    Vgg19Distance,
    chip_map,
    identity_distance,
    perceptual_network,
)
from liveportrait.training.losses.rendering import box_around, crop, cut_regions
from liveportrait.training.losses.transforms import Transform, random_transform
from liveportrait.training.stage_one.config import JointWeights


def similarity(angle: float, zoom: float, shift: tuple[float, float]) -> Transform:
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    linear, control = torch.tensor([[[c, s], [-s, c]]]), torch.zeros(1, 2)
    return Transform(linear, torch.tensor([shift]), control, torch.zeros(1, 1, 2))


def blobs(points: torch.Tensor, side: int = 128) -> torch.Tensor:
    """Pictures (B,N,side,side) with one Gaussian per channel at points (B,N,2)."""
    axis = (torch.arange(side) + 0.5) / side * 2 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    return (-(grid - points[:, :, None, None]).square().sum(-1) / 0.01).exp()


def centres(pictures: torch.Tensor) -> torch.Tensor:
    """Centres of mass (B,N,2) of each channel."""
    axis = (torch.arange(pictures.shape[-1]) + 0.5) / pictures.shape[-1] * 2 - 1
    mass = pictures.sum((2, 3))
    x, y = (pictures.sum(2) * axis).sum(2) / mass, (pictures.sum(3) * axis).sum(2) / mass
    return torch.stack([x, y], -1)


@pytest.mark.parametrize("reach", [None, 0.9])
def test_points_that_move_with_the_picture_satisfy_equivariance(reach: float | None) -> None:
    torch.manual_seed(0)
    points = torch.tensor([[[0.1, -0.2], [-0.2, 0.1], [0.2, 0.2]]])
    transform = random_transform(1, reach=reach)
    pictures = blobs(points)
    moved = centres(transform.pictures(pictures))
    assert (moved - points).abs().max() > 0.05  # it does move
    assert float(equivariance(points, moved, transform)) < 0.01
    assert float(equivariance(points, points, transform)) > 0.02


def test_a_transform_by_hand() -> None:
    turned = similarity(math.pi / 2, 2.0, (0.5, 0.0)).points(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    assert torch.allclose(turned, torch.tensor([[[0.5, 2.0], [-1.5, 0.0]]]), atol=1e-6)
    bent = Transform(torch.eye(2)[None], torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 1, 2))
    radius = 2 * math.log(2)  # φ(r²) with r² = 2
    assert torch.allclose(bent.points(torch.ones(1, 1, 2)), torch.full((1, 1, 2), 1 + radius), atol=1e-4)


@pytest.mark.parametrize("reach", [None, 0.9])
def test_a_moved_motion_has_its_keypoints_where_the_transform_moves_them(reach: float | None) -> None:
    torch.manual_seed(1)
    transform, zero = random_transform(2, reach=reach), torch.zeros(2)
    rotation = rotation_matrix(zero + 10, zero - 15, zero + 5)
    shape, shift = 0.4 * torch.randn(2, 21, 3).clamp(-1, 1), torch.tensor([[0.1, -0.1, 0.0]]).expand(2, 3)
    motion = Motion(rotation, shift, torch.full((2, 1), 0.3), shape, 0.02 * torch.randn(2, 21, 3))
    moved = transform.motion(motion)
    back = transform.points(transform_keypoints(moved)[..., :2])
    assert torch.allclose(back, transform_keypoints(motion)[..., :2], atol=1e-4)
    assert torch.allclose(moved.rotation @ moved.rotation.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)
    assert float(consistency(moved, transform.motion(motion))) == 0
    assert float(consistency(moved, motion)) > 0.01


def test_a_pure_similarity_changes_neither_identity_nor_expression() -> None:
    zero = torch.zeros(1)
    rotation = rotation_matrix(zero, zero + 20, zero)
    motion = Motion(
        rotation, torch.zeros(1, 3), torch.full((1, 1), 0.4), torch.randn(1, 21, 3), torch.randn(1, 21, 3)
    )
    moved = similarity(math.pi / 2, 2.0, (0.2, 0.0)).motion(motion)
    assert torch.allclose(moved.scale, torch.tensor([[0.2]]))
    assert torch.equal(moved.canonical, motion.canonical)
    size = moved.expression[..., :2].norm(dim=-1)  # δ comes after the rotation: it turns with the picture
    assert torch.allclose(size, motion.expression[..., :2].norm(dim=-1), atol=1e-4)
    turned = torch.linalg.inv(rotation) @ moved.rotation
    assert torch.allclose(turned.diagonal(dim1=1, dim2=2).sum(1), torch.ones(1), atol=1e-5)  # by 90 degrees


def test_a_transform_moves_nothing_beyond_its_reach() -> None:
    still = Transform(
        torch.eye(2)[None], torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1, 1, 2), reach=0.5
    )
    points = torch.tensor([[[0.0, 0.0], [0.6, 0.0]]])
    assert torch.allclose(still.points(points), torch.tensor([[[1.0, 1.0], [0.6, 0.0]]]))


def test_keypoint_prior_by_hand() -> None:
    close = torch.tensor([[[0.0, 0.0, 0.33], [0.1, 0.0, 0.33], [2.0, 0.0, 0.33]]])
    assert float(keypoint_prior(close)) == pytest.approx(2 * (0.1 - 0.01), abs=1e-6)  # the pair, both ways
    assert float(keypoint_prior(close, guided=(0, 1))) == pytest.approx(0, abs=1e-6)
    assert float(keypoint_prior(close, guided=(0, 2))) == pytest.approx(0.18, abs=1e-6)
    deep = close * torch.tensor([1.0, 1.0, 0.0])
    assert float(keypoint_prior(deep, guided=(0, 1))) == pytest.approx(0.33, abs=1e-6)


def test_head_pose_of_a_small_turn_costs_twice_its_angle() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    there, here = rotation_matrix(zero, one, zero), rotation_matrix(zero, zero, zero)
    assert float(head_pose(there, here)) == pytest.approx(2 * math.radians(1), rel=0.01)
    assert float(head_pose(there, there)) == 0


def test_deformation_by_hand() -> None:
    expression = torch.tensor([[[0.1, -0.2, 0.0], [0.0, 0.0, 0.5]]])
    assert float(deformation_prior(expression)) == pytest.approx((0.3 + 0.5) / 2)


def test_wing_by_hand_and_continuous_at_its_width() -> None:
    width, curvature = 10.0, 2.0
    assert float(wing(torch.tensor(2.0), width, curvature)) == pytest.approx(10 * math.log(2))
    far = float(wing(torch.tensor(-30.0), width, curvature))
    assert far == pytest.approx(30 - (10 - 10 * math.log(6)))
    below, above = wing(torch.tensor([10 - 1e-4, 10 + 1e-4]), width, curvature)
    assert float(above - below) == pytest.approx(0, abs=1e-3)


def test_landmark_guide_by_hand() -> None:
    width, curvature = 10 / 128, 2 / 128
    found = torch.tensor([[[0.0, 0.0, 9.0], [0.5, 0.5, 9.0]]])  # depth does not count
    exact = found[..., :2]
    off = exact + torch.tensor([2 / 128, 0.0])
    one = width * math.log(2)  # of every point of one picture; the other is exact
    assert float(landmark_guide(found, found, off, exact)) == pytest.approx(one / 2, rel=1e-4)
    assert float(landmark_guide(found, found, exact, exact)) == 0
    assert curvature == 2 / 128


def test_a_box_and_its_crop() -> None:
    points = torch.tensor([[[0.0, 0.25], [0.5, 0.5]]])
    box = box_around(points, 1.0)
    assert torch.allclose(box, torch.tensor([[0.25, 0.375, 0.25]]))
    picture = torch.arange(64.0).view(1, 1, 8, 8)
    quarter = crop(picture, torch.tensor([[-0.5, -0.5, 0.5]]), 4)
    assert torch.allclose(quarter, picture[..., :4, :4])


def test_crops_pass_gradients_only_to_the_picture_inside_the_box() -> None:
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    crop(picture, torch.tensor([[0.5, 0.5, 0.25]]), 32).sum().backward()
    assert picture.grad is not None
    touched = picture.grad.abs().sum((0, 1)) > 0
    assert touched[40:56, 40:56].all() and not touched[:38, :38].any()


def test_regions_follow_their_points() -> None:
    pictures, points = torch.rand(1, 3, 128, 128), torch.tensor([[[-0.3, -0.3], [0.3, 0.3]]])
    cut = cut_regions(pictures, {"lips": box_around(points, 1.0)})
    assert cut["whole"] is pictures and cut["lips"].shape == (1, 3, 32, 32)


def test_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.5])
    assert float(discriminator_hinge(real, fake)) == pytest.approx(0.5 + 0.75)
    assert float(generator_hinge(fake)) == pytest.approx(0.75)


def test_feature_matching_gives_no_gradient_to_the_real_side() -> None:
    made, true = torch.zeros(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    loss = feature_matching([made, made * 3], [true, true])
    loss.backward()
    assert float(loss.detach()) == 1.0 and made.grad is not None and true.grad is None


def test_a_discriminator_is_lipschitz_by_its_spectral_norms() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(8, 3).train()
    for _ in range(30):
        network(torch.rand(1, 3, 32, 32))
    for layer in [*network.layers, network.score]:
        weight = layer.weight.detach().flatten(1)
        assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1, abs=0.05)


def test_each_region_has_its_own_discriminator() -> None:
    judges = Discriminators(("whole", "lips"), channels=4)
    found = judges({"whole": torch.rand(2, 3, 64, 64), "lips": torch.rand(2, 3, 32, 32)})
    assert found["whole"][0].shape == (2, 1, 4, 4) and found["lips"][0].shape == (2, 1, 4, 4)


def test_the_chip_map_finds_alignment_points_of_moved_faces() -> None:
    rng = np.random.default_rng(0)
    faces = [
        project(turn(*rng.uniform(-0.3, 0.3, 3)), rng.uniform(7, 9), rng.uniform(-9, 9, 2)) for _ in range(60)
    ]
    landmarks = np.stack(faces)
    weights = chip_map(landmarks[:40]).numpy()
    assert np.allclose(weights.sum(1), 1, atol=1e-5)
    moved = landmarks[40:] @ np.array([[0.0, 2.0], [-2.0, 0.0]], np.float32) + 30
    found = np.einsum("ck,nkd->ncd", weights, moved[:, list(KEYPOINTS)])
    assert np.abs(found - moved[:, list(CHIP_ROWS)]).max() < 2.5  # px, of faces twice the size


def test_identity_distance_is_the_embeddings_distance() -> None:
    def mean_colour(chips: torch.Tensor) -> torch.Tensor:
        return chips.mean((2, 3))

    class Network(torch.nn.Module):
        forward = staticmethod(mean_colour)

    a = torch.zeros(1, 3, 64, 64, requires_grad=True)
    points = torch.tensor([[[0.3, -0.2], [0.1, -0.2], [-0.3, -0.2], [-0.1, -0.2], [0.0, 0.2]]]) / 2
    distance = identity_distance(Network(), a, torch.full((1, 3, 64, 64), 0.5), points)
    assert float(distance.detach()) == pytest.approx(math.sqrt(0.75), abs=1e-3)
    distance.backward()
    assert a.grad is not None and a.grad.abs().sum() > 0


def test_vgg19_reads_torchvisions_names_and_tells_pictures_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    number, channels, state = 0, 3, {}
    for width in LAYOUT:
        if width:
            state[f"features.{number}.weight"] = 0.1 * torch.randn(width, channels, 3, 3).half()
            state[f"features.{number}.bias"] = torch.zeros(width).half()
            channels, number = width, number + 2
        else:
            number += 1
    assert number == 30  # conv5_1 is features.28 of torchvision's vgg19, its ReLU features.29
    save_file(state | {"classifier.0.bias": torch.zeros(1)}, tmp_path / "vgg.safetensors")
    network = Vgg19Distance(tmp_path / "vgg.safetensors", scales=2)
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    assert float(network(picture, picture.detach())) == 0
    loss = network(picture, torch.zeros(1, 3, 64, 64))
    loss.backward()
    assert float(loss.detach()) > 0 and picture.grad is not None and picture.grad.abs().sum() > 0


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_vgg19_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "vgg.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="perceptual = 'efficientnet'"):
        perceptual_network("vgg19", path)


def test_the_backbone_may_be_none() -> None:
    assert perceptual_network("none") is None


def test_discriminators_are_built_only_if_a_term_uses_them() -> None:
    off = {f"{kind}_{region}": 0.0 for kind in ("gan", "matching") for region in ("whole", "face", "lips")}
    assert not JointWeights(**off).adversarial
    assert JointWeights(**off | {"matching_lips": 1.0}).adversarial
