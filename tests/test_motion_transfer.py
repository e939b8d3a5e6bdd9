"""Motion transfer, driving options and smoothing, compared with formulas written out element by element."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from liveportrait.motion import (
    FACE_MESH,
    PUBLISHED,
    REGIONS,
    absolute,
    amplify,
    change_since,
    expression_friendly,
    fix_canonical,
    hull_volume,
    in_place,
    lock_scale,
    lock_shoulders,
    relative,
    relative_from_photo,
    size_ratio,
    smiling_mouth,
    smooth_motion,
    take_pose,
    usual_expression,
    with_neck,
)
from liveportrait.motion.framing import neck_in_head
from liveportrait.motion.smoothing import StreamSmoother
from liveportrait.motion.transfer import SMILE_KEPT
from liveportrait.networks.geometry import nearest_rotation, pose_of, rotation_matrix, transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import CHIN, INNER_LIPS, JAW, MOUTH_CORNERS, OUTER_LIPS

LIPS = [6, 12, 14, 17, 19, 20]
EYES = [11, 13, 15, 16, 18]


def random_motion(count: int, seed: int) -> Motion:
    generator = torch.Generator().manual_seed(seed)
    angles = torch.randn(3, count, generator=generator) * 15
    return Motion(
        rotation=rotation_matrix(*angles),
        translation=torch.randn(count, 3, generator=generator) * 0.1,
        scale=1.3 + 0.2 * torch.rand(count, 1, generator=generator),
        canonical=torch.randn(count, 21, 3, generator=generator) * 0.3,
        expression=torch.randn(count, 21, 3, generator=generator) * 0.03,
    )


SOURCE = random_motion(1, seed=1)
DRIVING = random_motion(4, seed=2)
FIRST = DRIVING.rows([0])


@pytest.mark.parametrize("region", REGIONS)
def test_relative_motion_follows_the_formula_of_each_region(region):
    change = change_since(DRIVING, FIRST, PUBLISHED)
    result = relative(SOURCE, change, region, PUBLISHED)
    points = {"all": range(21), "expression": range(21), "pose": [], "lips": LIPS, "eyes": EYES}[region]
    for i in range(4):
        delta = SOURCE.expression[0].clone()
        for k in points:
            delta[k] += DRIVING.expression[i, k] - DRIVING.expression[0, k]
        rotation, shift, scale = SOURCE.rotation[0], SOURCE.translation[0].clone(), SOURCE.scale[0]
        if region in ("all", "pose"):
            rotation = DRIVING.rotation[i] @ DRIVING.rotation[0].T @ SOURCE.rotation[0]
            shift += DRIVING.translation[i] - DRIVING.translation[0]
        if region == "all":
            scale = scale * DRIVING.scale[i] / DRIVING.scale[0]
        shift[2] = 0
        expected = scale * (SOURCE.canonical[0] @ rotation + delta) + shift
        torch.testing.assert_close(pose_of(result).keypoints[i], expected)


@pytest.mark.parametrize("groups", [PUBLISHED, FACE_MESH], ids=lambda each: each.layout)
@pytest.mark.parametrize("region", REGIONS)
def test_the_first_driving_frame_leaves_the_source_as_it_is(region, groups):
    moved = relative(SOURCE, change_since(FIRST, FIRST, groups), region, groups)
    torch.testing.assert_close(pose_of(moved).keypoints, pose_of(SOURCE).keypoints)


def neck_of(motion: Motion) -> torch.Tensor:
    """Where the neck is in the crop (N,2)."""
    neck = torch.tensor(neck_in_head()) @ motion.rotation
    return (motion.translation + motion.scale * neck)[:, :2]


def test_a_driver_in_the_sources_own_pose_is_followed_exactly():
    source = FIRST._replace(canonical=SOURCE.canonical)
    moved = relative(source, change_since(DRIVING, FIRST, FACE_MESH), "all", FACE_MESH)
    torch.testing.assert_close(moved.rotation, DRIVING.rotation)
    torch.testing.assert_close(moved.translation[:, :2], DRIVING.translation[:, :2])
    torch.testing.assert_close(moved.scale, DRIVING.scale)


@pytest.mark.parametrize("region", ["all", "pose"])
def test_heads_turn_about_their_own_neck_however_large_and_wherever_they_look(region):
    shift = torch.tensor([[0.0, 0.0], [0.1, -0.2], [0.0, 0.05], [-0.3, 0.0]])
    still = with_neck(DRIVING, FIRST, torch.nn.functional.pad(shift, (0, 1)))
    torch.testing.assert_close(neck_of(still), neck_of(FIRST) + shift)
    moved = relative(SOURCE, change_since(still, FIRST, FACE_MESH), region, FACE_MESH)
    wanted = neck_of(SOURCE) + SOURCE.scale / FIRST.scale * shift
    torch.testing.assert_close(neck_of(moved), wanted)


def test_the_neck_stays_where_only_rotation_or_scale_change():
    source = SOURCE.expand(4)
    turned = relative(SOURCE, change_since(DRIVING, FIRST, FACE_MESH), "all", FACE_MESH)
    for made in (
        take_pose(source, DRIVING, FACE_MESH),
        in_place(turned, source, "all", FACE_MESH),
        lock_shoulders(turned, SOURCE, FACE_MESH),
    ):
        assert not torch.equal(made.rotation, source.rotation)
        torch.testing.assert_close(neck_of(made), neck_of(source))
    sized = lock_scale(turned, SOURCE, FACE_MESH)
    torch.testing.assert_close(sized.scale, source.scale)
    torch.testing.assert_close(neck_of(sized), neck_of(turned))


def test_a_speaking_mouth_keeps_some_of_its_smile_and_nothing_else():
    made = smiling_mouth(DRIVING, None, FACE_MESH)
    own, local = (each.expression @ each.rotation.transpose(1, 2) for each in (DRIVING, made))
    corners, still = list(MOUTH_CORNERS), [*INNER_LIPS, *OUTER_LIPS, CHIN, *JAW]
    torch.testing.assert_close(local[:, corners], SMILE_KEPT * own[:, corners])
    assert not made.expression[:, still].any()
    torch.testing.assert_close(made.expression[:, :10], DRIVING.expression[:, :10])
    usual = torch.full((4, 21, 3), 0.1)
    local = smiling_mouth(DRIVING, usual, FACE_MESH).expression @ DRIVING.rotation.transpose(1, 2)
    torch.testing.assert_close(local[:, corners], torch.full((4, 2, 3), 0.1 * SMILE_KEPT))


def test_usual_expressions_are_slow_and_restart_at_cuts():
    times = torch.arange(150) / 25
    smile, speech = 0.1 * (times > 3).float(), 0.05 * torch.sin(2 * torch.pi * 4 * times)
    local = (smile + speech)[:, None, None].expand(150, 21, 3)
    still = SOURCE.rows([0] * 150)
    turned = still._replace(rotation=random_motion(150, 3).rotation)
    motion = turned._replace(expression=local @ turned.rotation)
    usual = usual_expression(motion, Fraction(25), (76,))
    assert float((usual - smile[:, None, None]).abs().max()) < 0.02
    assert float((usual[80:140] - 0.1).abs().max()) < 0.006


@pytest.mark.parametrize("region", REGIONS)
def test_absolute_motion_takes_the_drivers_pose_and_partial_expression(region):
    result = absolute(SOURCE, DRIVING, region, PUBLISHED)
    full = [(k, a) for k in (1, 2, 6, *range(11, 21)) for a in range(3)]
    full += [(3, 1), (4, 1), (5, 2), (8, 2), (9, 1), (9, 2)]
    places = {
        "all": full,
        "expression": full,
        "pose": [],
        "lips": [(k, a) for k in LIPS for a in range(3)],
        "eyes": [(k, a) for k in EYES for a in range(3)],
    }[region]
    expected = SOURCE.expression.repeat(4, 1, 1)
    for k, a in places:
        expected[:, k, a] = DRIVING.expression[:, k, a]
    torch.testing.assert_close(result.expression, expected)
    head = DRIVING if region in ("all", "pose") else SOURCE.expand(4)
    torch.testing.assert_close(result.rotation, head.rotation)
    torch.testing.assert_close(result.translation[:, :2], head.translation[:, :2])
    assert (result.translation[:, 2] == 0).all()
    torch.testing.assert_close(result.scale, SOURCE.scale.expand(4, 1))
    torch.testing.assert_close(result.canonical, SOURCE.canonical.expand(4, 21, 3))


def test_compact_absolute_motion_takes_every_keypoint():
    result = absolute(SOURCE, DRIVING, "all", FACE_MESH)
    torch.testing.assert_close(result.expression, DRIVING.expression)


def test_an_animals_entire_expression_follows():
    result = absolute(SOURCE, DRIVING, "all", PUBLISHED.of_animals)
    torch.testing.assert_close(result.expression, DRIVING.expression)


def test_compact_regions_are_the_named_mesh_points():
    assert FACE_MESH.relative_mask("eyes").all(dim=1).nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert FACE_MESH.relative_mask("lips").all(dim=1).nonzero().flatten().tolist() == list(range(10, 16))


@pytest.mark.parametrize("region", REGIONS)
def test_a_driving_photo_adds_its_expression_minus_the_neutral_one(region):
    photo = random_motion(1, seed=5)
    result = relative_from_photo(SOURCE, photo, region, PUBLISHED)
    neutral = torch.tensor(PUBLISHED.neutral)
    points = {"all": range(21), "expression": range(21), "pose": [], "lips": LIPS, "eyes": EYES}[region]
    expected = SOURCE.expression[0].clone()
    for k in points:
        expected[k] += photo.expression[0, k] - (0 if region == "eyes" else neutral[k])
    torch.testing.assert_close(result.expression[0], expected)
    torch.testing.assert_close(result.rotation, SOURCE.rotation)
    torch.testing.assert_close(result.scale, SOURCE.scale)


def test_eyes_of_a_source_that_moves_have_the_neutral_expression_subtracted_too():
    photo = random_motion(1, seed=5)
    still, moving = (
        relative_from_photo(SOURCE, photo, "eyes", PUBLISHED, is_still).expression
        for is_still in (True, False)
    )
    neutral = PUBLISHED.neutral_expression()
    torch.testing.assert_close((still - moving)[:, EYES], neutral[:, EYES], atol=1e-7, rtol=0)


def test_the_published_neutral_expression_closes_the_lips():
    """The keypoint that moves most at rest is 19, upward by 0.01509."""
    neutral = PUBLISHED.neutral_expression()[0]
    assert neutral.abs().argmax().item() == 19 * 3 + 1
    assert neutral[19, 1].item() == pytest.approx(-0.0150906)


def test_hull_volume_of_known_bodies():
    corners = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 2) for z in (0.0, 3)])
    # Points inside, on a face, on an edge
    inside = torch.tensor([[0.5, 1.0, 1.5], [0.0, 1.0, 1.0], [0.5, 0.0, 0.0]])
    assert hull_volume(torch.cat([corners, inside])) == pytest.approx(6.0, rel=1e-6)
    tetrahedron = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert hull_volume(tetrahedron) == pytest.approx(1 / 6, rel=1e-6)
    assert hull_volume(corners * torch.tensor([1.0, 1.0, 0.0])) == 0.0


def test_expression_friendly_starts_at_the_source_and_scales_by_the_root_of_the_volumes():
    source, driving = pose_of(SOURCE), pose_of(absolute(SOURCE, DRIVING, "all", PUBLISHED))
    driving = driving._replace(keypoints=driving.keypoints * 2)
    first = driving.rows([0])
    result = expression_friendly(source, driving, first, size_ratio(source, first))
    torch.testing.assert_close(result.keypoints[:1], source.keypoints)
    torch.testing.assert_close(result.rotation[:1], source.rotation)
    m = np.sqrt(hull_volume(source.keypoints[0]) / hull_volume(first.keypoints[0]))
    expected = source.keypoints + float(m) * (driving.keypoints - first.keypoints)
    torch.testing.assert_close(result.keypoints, expected)


def test_expression_friendly_has_no_effect_on_relative_motion():
    source = pose_of(SOURCE)
    driving = pose_of(relative(SOURCE, change_since(DRIVING, FIRST, PUBLISHED), "all", PUBLISHED))
    first = driving.rows([0])
    result = expression_friendly(source, driving, first, size_ratio(source, first))
    torch.testing.assert_close(result.keypoints, driving.keypoints)


def test_amplify_moves_along_the_line_from_source_to_driver():
    source, driving = pose_of(SOURCE), pose_of(DRIVING)
    assert amplify(source, driving, 1.0) is driving
    torch.testing.assert_close(
        amplify(source, driving, 0.0).keypoints, source.keypoints.expand_as(driving.keypoints)
    )
    doubled = amplify(source, driving, 2.0)
    torch.testing.assert_close(doubled.keypoints, 2 * driving.keypoints - source.keypoints)
    product = doubled.rotation @ doubled.rotation.transpose(1, 2)
    torch.testing.assert_close(product, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)


def test_smoothing_equals_the_posterior_mean_of_its_random_walk():
    """A Kalman smoother's result is the least-squares path: solve for it directly and compare."""
    observed = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    variance, process = 3e-3, 1e-5
    count = len(observed)
    information = np.zeros((count, count))
    information[0, 0] += 1.0  # initial variance 1 around the first observation
    for i in range(1, count):
        step = np.zeros(count)
        step[i], step[i - 1] = 1, -1
        information += np.outer(step, step) / process
    information += np.eye(count) / variance
    target = observed.double().numpy() / variance
    target[0] += observed[0].double().numpy()
    expected = np.linalg.solve(information, target)
    smoother = StreamSmoother(variance, lag=count)  # there is no output before the end
    assert len(smoother.push(observed.double())) == 0
    np.testing.assert_allclose(smoother.flush().numpy(), expected, atol=1e-5)


def test_smoothed_rotations_are_rotations():
    result = smooth_motion(random_motion(10, seed=4), 0.5, Fraction(25)).rotation
    torch.testing.assert_close(
        result @ result.transpose(1, 2), torch.eye(3).expand(10, 3, 3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(result), torch.ones(10))


def test_nearest_rotation_of_a_mirrored_matrix_is_proper():
    mirrored = torch.diag(torch.tensor([1.0, 1.0, -1.0]))[None]
    assert torch.linalg.det(nearest_rotation(mirrored)).item() == pytest.approx(1.0)


def test_a_steady_driver_keeps_its_keypoints_and_one_identity() -> None:
    driving, first = random_motion(3, seed=1), random_motion(1, seed=2)
    fixed = fix_canonical(driving, first, FACE_MESH)
    assert torch.equal(fixed.canonical, first.canonical.expand(3, -1, -1))
    assert torch.allclose(transform_keypoints(fixed), transform_keypoints(driving), atol=1e-5)
    assert fix_canonical(driving, first, PUBLISHED) is driving


def test_a_driver_without_known_identity_is_not_changed() -> None:
    driving = random_motion(2, seed=1)
    unknown = driving._replace(canonical=torch.full_like(driving.canonical, float("nan")))
    fixed = fix_canonical(unknown, unknown.rows([0]), FACE_MESH)
    assert torch.equal(fixed.expression, driving.expression)
