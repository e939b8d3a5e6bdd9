"""Sliders, openings and keyframes as pure functions of motions, on both keypoint layouts."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from animation_samples import bundled_networks
from skimage.data import astronaut
from small_base import SMALL_BASE, small_networks

from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face import default_analyzer
from liveportrait.face.measures import lip_ratio
from liveportrait.motion import FACE_MESH, PUBLISHED, SeenKeypoints, snap_to_landmarks
from liveportrait.motion.directions import published_directions
from liveportrait.motion.editing import copy_expression, directions_for, edit
from liveportrait.motion.keyframes import Keyframe, Keyframes, read_keyframes, write_keyframes
from liveportrait.motion.lifting import canonical_points
from liveportrait.motion.response import LAG, PARTED, asked_of_eyes, asked_of_lips
from liveportrait.motion.retargeting import (
    Ratios,
    lip_ratios,
    open_lips,
    retarget,
    usual_eyes,
    widen_lip_gap,
)
from liveportrait.networks.geometry import euler_degrees, pose_of, rotation_matrix
from liveportrait.networks.interface import Motion, Pose

LAYOUTS = pytest.mark.parametrize("groups", [PUBLISHED, FACE_MESH], ids=lambda groups: groups.layout)
LEFT_LIDS, RIGHT_LIDS, INNER_LIPS, MOUTH_CORNERS = (0, 1), (2, 3), (12, 13), (10, 11)


def faces(pitch=(3.0, -8.0), yaw=(5.0, 20.0), roll=(-4.0, 10.0)) -> Motion:
    """Mean faces with a slight expression; head poses in degrees."""
    count = len(pitch)
    canonical = torch.from_numpy(canonical_points()[0])[None].expand(count, -1, -1)
    generator = torch.Generator().manual_seed(1)
    return Motion(
        rotation=rotation_matrix(*(torch.tensor(angle) for angle in (pitch, yaw, roll))),
        translation=torch.tensor([[0.1, -0.05, 0.0]]).expand(count, 3),
        scale=torch.linspace(0.35, 0.45, count)[:, None],
        canonical=canonical,
        expression=0.01 * torch.randn(count, 21, 3, generator=generator),
    )


def values(**sliders: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([value, value]) for name, value in sliders.items()}


def offsets(name: str, value: float) -> np.ndarray:
    """The change of δ that a slider causes in a published motion."""
    motion = faces()
    return (edit(motion, values(**{name: value}), PUBLISHED).expression - motion.expression)[0].numpy()


def test_the_published_table_at_its_slider_values():
    smile = offsets("smile", 1.3)
    assert smile[14, 1] == pytest.approx(-0.026, abs=1e-6) and smile[17, 2] == pytest.approx(0.0039, abs=1e-6)
    frown = offsets("eyebrow", -1.0)  # the published program's -30
    assert frown[1] == pytest.approx([0.03, -0.009, 0], abs=1e-6)
    assert frown[2] == pytest.approx([-0.03, 0.009, 0], abs=1e-6)
    up = offsets("gaze_y", 1.0)  # its 63
    assert up[11, 1] == pytest.approx(-0.0315, abs=1e-6) and up[13, 1] == pytest.approx(-0.00945, abs=1e-6)
    left = offsets("gaze_x", -1.0)
    assert (left[11, 0], left[15, 0]) == pytest.approx((-0.03, -0.021), abs=1e-6)
    stretched = offsets("purse", -1.0)  # its -20
    assert stretched[14, 1] == pytest.approx(-0.02, abs=1e-6)
    closed, opened = offsets("lips", -1.0), offsets("lips", 1.0)
    assert (closed[19, 1], opened[19, 1]) == pytest.approx((-0.09, 0.12), abs=1e-6)
    assert offsets("move_x", 0.1)[5] == pytest.approx([-0.1, 0, 0], abs=1e-6)


def test_both_layouts_have_the_same_sliders():
    mesh = set(directions_for(FACE_MESH)) - {"close-left-eye", "close-right-eye"}
    assert mesh == set(published_directions()) - {"move_x", "move_y"}


@LAYOUTS
def test_sliders_at_rest_change_nothing(groups):
    motion = faces()
    rest = {name: 0.0 for name in directions_for(groups) if not name.startswith("close-")}
    edited = edit(motion, values(move_z=1.0, pitch=0.0, neutral=0.0, **rest), groups)
    for part, before in zip(edited, motion, strict=True):
        torch.testing.assert_close(part, before, atol=1e-6, rtol=0)


@LAYOUTS
def test_rotations_are_added_to_the_head_pose(groups):
    motion = faces()
    edited = edit(motion, values(pitch=10.0, yaw=-20.0, roll=5.0), groups)
    for angle, before, added in zip(
        euler_degrees(edited.rotation), euler_degrees(motion.rotation), (10.0, -20.0, 5.0), strict=True
    ):
        torch.testing.assert_close(angle, before + added, atol=1e-3, rtol=0)


def test_the_expression_turns_with_a_face_mesh_head():
    motion = faces()
    edited = edit(motion, values(yaw=15.0, roll=10.0), FACE_MESH)
    before = motion.expression @ motion.rotation.transpose(1, 2)
    after = edited.expression @ edited.rotation.transpose(1, 2)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def test_a_slider_acts_in_the_frame_of_the_head():
    """A head on its side smiles along its own axes."""
    upright, lying = faces((0.0, 0.0), (0.0, 0.0), (0.0, 90.0)), values(smile=1.0)
    moved = edit(upright, lying, FACE_MESH).expression - upright.expression
    torch.testing.assert_close(moved[1], moved[0] @ rotation_matrix(*torch.tensor([[0.0], [0.0], [90.0]]))[0])
    right_corner = moved[0, MOUTH_CORNERS[1]]
    assert right_corner[0] > 0.05 and right_corner[1] < -0.05  # outward and up
    assert moved[0, :6].abs().max() == 0  # the eyes do not move


@pytest.mark.parametrize("opening", [-0.02, 0.05, 0.3])
def test_lips_close_from_any_opening(opening):
    motion = faces()
    expression = motion.expression.clone()
    expression[:, INNER_LIPS[1]] += opening * motion.rotation[:, 1]
    motion = motion._replace(expression=expression)
    before, after = (
        gap(pose_of(m), INNER_LIPS) for m in (motion, edit(motion, values(lips=-1.0), FACE_MESH))
    )
    torch.testing.assert_close(after, before.clamp(max=0), atol=1e-5, rtol=0)


def test_a_wink_closes_one_eye():
    motion = faces()
    before, after = pose_of(motion), pose_of(edit(motion, values(wink=1.0), FACE_MESH))
    assert gap(after, RIGHT_LIDS).abs().max() < 1e-5
    torch.testing.assert_close(gap(after, LEFT_LIDS), gap(before, LEFT_LIDS))


@LAYOUTS
def test_neutral_removes_the_expression(groups):
    edited = edit(faces(), values(neutral=1.0), groups)
    torch.testing.assert_close(edited.expression, groups.neutral_expression().expand(2, -1, -1))


def test_an_expression_copied_from_a_turned_head_fits_this_one():
    motion, other = faces(), faces().rows(slice(1, None))
    local = torch.zeros(1, 21, 3)
    local[0, 11] = torch.tensor([0.1, -0.1, 0.0])
    other = other._replace(expression=local @ other.rotation)
    copied = copy_expression(motion, other, torch.tensor([1.0, 0.0]), FACE_MESH)
    torch.testing.assert_close(copied.expression[0], (local @ motion.rotation[:1])[0])
    torch.testing.assert_close(copied.expression[1], motion.expression[1])


def test_moves_are_right_and_up_on_the_face_mesh():
    motion = faces()
    edited = edit(motion, values(move_x=0.1, move_y=0.05, move_z=1.1), FACE_MESH)
    torch.testing.assert_close(edited.translation - motion.translation, torch.tensor([[0.1, -0.05, 0]] * 2))
    torch.testing.assert_close(edited.scale, motion.scale * 1.1)


def gap(pose: Pose, edges: tuple[int, int]) -> torch.Tensor:
    """Distance in the picture from upper to lower edge, along the head's down."""
    down = torch.nn.functional.normalize(pose.rotation[:, 1, :2], dim=1)
    return ((pose.keypoints[:, edges[1], :2] - pose.keypoints[:, edges[0], :2]) * down).sum(1)


@pytest.fixture(scope="module")
def compact() -> Engine:
    """Without the eye module: openings are computed in closed form."""
    networks = bundled_networks()
    networks.eye_retargeting = None
    return Engine(networks)


@pytest.fixture(scope="module")
def published() -> Engine:
    return Engine(small_networks())


SOURCE_OPENINGS = torch.tensor([[0.30, 0.35, 0.10]])


def test_lips_open_as_requested_while_the_rest_follows_the_driver(compact):
    source = pose_of(faces().rows([0]))
    driven = pose_of(edit(faces(), values(smile=0.5), FACE_MESH))
    opened = retarget(compact, driven, source, Ratios(SOURCE_OPENINGS), (None, None, 0.4))
    corners = opened.keypoints[:, MOUTH_CORNERS[1], :2] - opened.keypoints[:, MOUTH_CORNERS[0], :2]
    asked = asked_of_lips(torch.tensor([0.4]), SOURCE_OPENINGS[:, 2], lip_ratios(driven))
    torch.testing.assert_close(gap(opened, INNER_LIPS), asked * corners.norm(dim=1), atol=1e-4, rtol=0)
    torch.testing.assert_close(opened.keypoints[:, :10], driven.keypoints[:, :10])


def test_each_eye_opens_by_itself(compact):
    source = pose_of(faces().rows([0]))
    driven = pose_of(faces())
    edited = retarget(compact, driven, source, Ratios(SOURCE_OPENINGS), (0.0, None, None))
    assert gap(edited, LEFT_LIDS).abs().max() < 1e-5
    torch.testing.assert_close(gap(edited, RIGHT_LIDS), gap(driven, RIGHT_LIDS))


def test_an_eye_at_the_requested_opening_does_not_move(compact):
    """The width of an eye, which no keypoint gives, comes from the opening measured in the source."""
    source = pose_of(faces().rows([0]))
    openings = Ratios(SOURCE_OPENINGS)
    kept = retarget(compact, source, source, openings, (0.30, 0.35, None))
    before, after = gap(source, LEFT_LIDS), gap(kept, LEFT_LIDS)
    # The assumed usual width has some weight
    torch.testing.assert_close(after, before, atol=0.0, rtol=0.15)


def test_landmark_eyes_use_their_module_if_there_is_one(compact):
    engine = Engine(bundled_networks())
    source = pose_of(faces().rows([0]))
    driven = pose_of(edit(faces(), values(wink=1.0), FACE_MESH))
    openings = Ratios(SOURCE_OPENINGS)
    left = retarget(engine, driven, source, openings, (0.0, None, None))
    assert (gap(left, LEFT_LIDS) < 0.5 * gap(driven, LEFT_LIDS)).all()
    torch.testing.assert_close(gap(left, RIGHT_LIDS), gap(driven, RIGHT_LIDS), atol=1e-3, rtol=0)
    lips = (None, None, 0.4)
    by_either = (retarget(each, driven, source, openings, lips).keypoints for each in (engine, compact))
    torch.testing.assert_close(*by_either)


def test_openings_follow_the_driver_frame_by_frame(compact):
    source = pose_of(faces().rows([0]))
    driver = torch.tensor([[0.3, 0.3, 0.0], [0.1, 0.1, 0.5]])
    openings = Ratios(SOURCE_OPENINGS, driver)
    followed = retarget(compact, pose_of(faces()), source, openings, ("driver", "driver", "driver"))
    gaps = gap(followed, INNER_LIPS)
    assert abs(gaps[0]) < 1e-5 and gaps[1] > 0.05
    with pytest.raises(UserError, match="how far DRIVING's eyes"):
        retarget(compact, source, source, Ratios(SOURCE_OPENINGS), ("driver", None, None))


def test_normalised_lips_start_closed_and_move_as_before(compact):
    opened = edit(faces().rows([0]), {"lips": torch.tensor([0.3])}, FACE_MESH)
    source = pose_of(opened)
    driven = pose_of(edit(opened, {"lips": torch.tensor([0.4])}, FACE_MESH))
    nothing = (None, None, None)
    start, moved = (
        retarget(compact, pose, source, Ratios(SOURCE_OPENINGS), nothing, normalize_lips=True)
        for pose in (source, driven)
    )
    assert gap(start, INNER_LIPS).abs() < 1e-5
    torch.testing.assert_close(
        gap(moved, INNER_LIPS) - gap(start, INNER_LIPS), gap(driven, INNER_LIPS) - gap(source, INNER_LIPS)
    )
    closed = Ratios(torch.tensor([[0.3, 0.3, 0.01]]))
    unchanged = retarget(compact, driven, source, closed, nothing, normalize_lips=True)
    torch.testing.assert_close(unchanged.keypoints, driven.keypoints)


def test_networks_start_from_the_driven_keypoints_and_their_opening(published):
    source, driven = (pose_of(m) for m in (faces().rows([0]), faces()))
    driver, first = torch.tensor([[0.3, 0.3, 0.2], [0.2, 0.2, 0.6]]), torch.tensor([[0.3, 0.3, 0.1]])
    result = retarget(published, driven, source, Ratios(SOURCE_OPENINGS, driver, first), (0.2, 0.2, None))
    # The source's, changed by the driver's change
    ratios = torch.tensor([[0.30, 0.35, 0.2], [0.20, 0.25, 0.2]])
    expected = driven.keypoints + published.retarget_eyes(driven.keypoints, ratios)
    torch.testing.assert_close(result.keypoints, expected)


def test_networks_move_only_one_side_for_one_eye(published):
    source = pose_of(faces((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)))
    openings = Ratios(SOURCE_OPENINGS)
    one, other, both = (
        retarget(published, source, source, openings, wanted).keypoints - source.keypoints
        for wanted in ((0.1, None, None), (None, 0.1, None), (0.1, 0.1, None))
    )
    torch.testing.assert_close(one + other, both)
    assert one[:, 9].abs().max() == 0 and other[:, 8].abs().max() == 0  # far right and far left


def test_a_missing_retargeting_module_is_reported():
    networks = small_networks()
    bare = Engine(replace(networks, lip_retargeting=None, variant=SMALL_BASE))
    source = pose_of(faces())
    with pytest.raises(UserError, match="lip retargeting"):
        retarget(bare, source, source, Ratios(SOURCE_OPENINGS), (None, None, 0.1))


def test_keyframes_interpolate_and_hold_at_both_ends():
    keyframes = Keyframes(
        (
            Keyframe(1.0, "smile", 0.0),
            Keyframe(2.0, "smile", 1.0, "smooth"),
            Keyframe(4.0, "smile", 0.0, "step"),
            Keyframe(5.0, "smile", 0.5),
            Keyframe(0.0, "yaw", 10.0),
        )
    )
    times = (0.0, 1.5, 2.5, 3.0, 4.9, 5.0, 9.0)
    smiles = [keyframes.at(time)["smile"] for time in times]
    assert smiles == pytest.approx([0.0, 0.5, 1 - 0.15625, 0.5, 0.0, 0.5, 0.5])
    assert keyframes.at(7.0)["yaw"] == 10.0


def test_keyframes_survive_writing_and_reading(tmp_path):
    frames = (Keyframe(0.0, "gaze_x", -0.5, "step"), Keyframe(1.25, "gaze_x", 1.0))
    path = tmp_path / "keys.json"
    write_keyframes(path, frames)
    assert read_keyframes(path, lambda name, value: None).frames == frames
    with pytest.raises(UserError, match="exists already"):
        write_keyframes(path, frames)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, "smile", 0), (0.5, "smile", 1)], "keyframe 2 .smile. is at 0.5 s, not after"),
        ([(-1, "smile", 0)], "keyframe 1 .smile. has the time -1"),
        ([(0, "smile", "much")], "keyframe 1 has a time or value that is not a number"),
        ([(0, "smile", 0, "bounce")], "interpolation 'bounce': choose one of linear, smooth, step"),
        ([(0, "smile", 0, "linear", 3)], "keyframe 1 needs time, slider and value"),
        ([(0, "smirk", 0)], "keyframe 1: no such slider"),
        ([], 'no list "keyframes"'),
    ],
)
def test_an_invalid_keyframe_file_is_reported_in_one_sentence(tmp_path, rows, message):
    path = tmp_path / "keys.json"
    names = ("time", "slider", "value", "interpolation", "extra")
    path.write_text(json.dumps({"keyframes": [dict(zip(names, row, strict=False)) for row in rows]}))

    def check(slider: str, value: float) -> None:
        if slider != "smile":
            raise UserError("no such slider")

    with pytest.raises(UserError, match=message) as error:
        read_keyframes(path, check)
    assert str(path) in str(error.value)


def test_invalid_json_is_refused(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text("smile: 1")
    with pytest.raises(UserError, match="not valid JSON"):
        read_keyframes(path, lambda name, value: None)


def with_lips(opening: float) -> Pose:
    """Upright faces with lips opened this far: openings are then exact."""
    pose = pose_of(faces((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)))
    return open_lips(pose, opening - lip_ratios(pose))


def test_lips_open_by_the_requested_amount():
    for opening in (0.0, 0.1, 0.5):
        assert lip_ratios(with_lips(opening)) == pytest.approx([opening, opening], abs=1e-4)


def test_only_closed_lips_get_their_lag_compensated():
    closed, ajar, open_ = with_lips(0.0), with_lips(0.0175), with_lips(0.2)
    for source, share in ((closed, 1.0), (ajar, 0.5), (open_, 0.0)):
        for wanted in (0.1, 0.4):
            made = widen_lip_gap(with_lips(wanted), source, FACE_MESH)
            expected = wanted + share * LAG * np.exp(-wanted / PARTED)
            assert lip_ratios(made) == pytest.approx([expected] * 2, abs=2e-3)
    torch.testing.assert_close(widen_lip_gap(closed, closed, FACE_MESH).keypoints, closed.keypoints)
    assert widen_lip_gap(open_, closed, PUBLISHED) is open_  # whose keypoints do not describe lips


@pytest.mark.parametrize("own", [0.0, 0.02, 0.1, 0.2, 0.35, 0.45])
def test_wide_openings_are_raised_and_existing_ones_kept(own):
    openings = torch.linspace(0, 0.8, 161)
    there = torch.tensor([own])
    lips = asked_of_lips(openings, there, there)
    eyes = asked_of_eyes(openings[:, None].expand(-1, 2), there.expand(1, 2))
    assert (lips.diff() > 0).all() and (eyes.diff(dim=0) > 0).all()
    assert asked_of_lips(there, there, there) == pytest.approx(own)
    by_the_jaw = asked_of_lips(openings, there, openings)  # the jaw does all of it
    assert by_the_jaw[openings > 0.1] == pytest.approx(openings[openings > 0.1], abs=0.04)
    assert asked_of_eyes(there.expand(1, 2), there.expand(1, 2))[0].tolist() == pytest.approx([own] * 2)
    assert asked_of_eyes(torch.full((1, 2), torch.nan), there.expand(1, 2)).isnan().all()


def test_a_closed_mouth_shows_a_small_opening(compact):
    """An opening of 0.1, measured in the picture by the tracker."""
    analyzer = default_analyzer()
    photo = cv2.resize(astronaut()[:300, 80:380], (256, 256), interpolation=cv2.INTER_AREA)
    face = analyzer.detect(photo)[0]
    engine = Engine(bundled_networks())
    seen = SeenKeypoints.of([face.landmarks])
    home = pose_of(snap_to_landmarks(engine.extract_motion(photo[None]), seen, 256))
    shut = open_lips(home, -lip_ratios(home))
    closed = engine.render(engine.encode_appearance(photo[None]), home, shut)[0]
    face = analyzer.detect(closed)[0]
    assert lip_ratio(face.landmarks) < 0.03
    home = pose_of(
        snap_to_landmarks(engine.extract_motion(closed[None]), SeenKeypoints.of([face.landmarks]), 256)
    )
    wanted = open_lips(home, 0.1 - lip_ratios(home))
    features = engine.encode_appearance(closed[None])
    poses = wanted, widen_lip_gap(wanted, home, FACE_MESH)
    less, right = (
        lip_ratio(analyzer.detect(engine.render(features, home, pose)[0])[0].landmarks).item()
        for pose in poses
    )
    assert 0.08 < less < right < 0.2 and right - less > 0.02


@LAYOUTS
def test_silent_affects_only_the_mouth(groups):
    moving = faces()
    silent = edit(moving, values(silent=1.0), groups)
    changed = (silent.expression != moving.expression).any(-1).any(0)
    assert set(np.flatnonzero(changed)) <= set(groups.mouth)
    half = edit(moving, values(silent=0.5), groups)
    assert not torch.equal(half.expression, silent.expression)
    if groups.keypoints_are_landmarks:
        assert gap(pose_of(silent), INNER_LIPS).max() < 1e-4
    else:
        rest = groups.neutral_expression()[:, list(groups.mouth)]
        torch.testing.assert_close(silent.expression[:, list(groups.mouth)], rest.expand(2, -1, -1))


def test_normalised_eyes_start_at_their_usual_opening(compact):
    """The source blinks, the driver blinks later: the result blinks only with the driver."""
    usual = usual_eyes(torch.tensor([[0.3, 0.36, 0.0], [0.3, 0.35, 0.0], [0.02, 0.03, 0.0]]))
    torch.testing.assert_close(usual, torch.tensor([[0.3, 0.35]]))
    assert usual_eyes(torch.full((3, 3), 0.1)).tolist() == [[pytest.approx(0.39)] * 2]
    opened, shut = pose_of(faces().rows([0])), pose_of(edit(faces(), values(wink=1.0), FACE_MESH).rows([0]))
    nothing = (None, None, None)
    started = retarget(compact, shut, shut, Ratios(torch.tensor([[0.3, 0.02, 0.0]])), nothing, False, usual)
    assert gap(started, RIGHT_LIDS) > 0.7 * gap(opened, RIGHT_LIDS)
    torch.testing.assert_close(gap(started, LEFT_LIDS), gap(opened, LEFT_LIDS), atol=2e-3, rtol=0.1)
    blinking = retarget(
        compact, shut, opened, Ratios(torch.tensor([[0.3, 0.35, 0.0]])), nothing, False, usual
    )
    assert gap(blinking, RIGHT_LIDS) < 0.2 * gap(opened, RIGHT_LIDS)
