"""Transfer of expressions between people: the addition to a driver's change."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, driving_frames, portrait, write_video

from liveportrait.animation.driver.base import DrivingBatch, Start, with_surroundings
from liveportrait.animation.driver.video import open_video_driver
from liveportrait.animation.options import SourceOptions, TransferOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import open_photo
from liveportrait.engine import Engine
from liveportrait.face import default_analyzer
from liveportrait.media import VideoReader
from liveportrait.motion.expression import GAIN, LAG, Change, OwnExpression
from liveportrait.motion.lifting import flattened, mean_landmarks
from liveportrait.networks import keypoints as k
from liveportrait.networks.expression import ExpressionNetwork
from liveportrait.networks.geometry import pose_of, rotation_matrix
from liveportrait.networks.interface import Motion


@pytest.fixture(scope="module")
def session() -> Session:
    networks = bundled_networks()
    torch.manual_seed(0)
    networks.expression = ExpressionNetwork(networks.variant.expression).eval()
    with torch.no_grad():
        networks.expression.linear.weight.normal_(0, 0.02)
    return Session(Engine(networks), default_analyzer(), batch=4)


@pytest.fixture(scope="module")
def own(session) -> OwnExpression:
    face = open_photo(session, portrait(), SourceOptions()).faces[0]
    mask = torch.ones(21, 3, dtype=torch.bool)
    return OwnExpression(session.engine, face.shape, face.still.motion, torch.tensor([0.0]), mask)


def change(lips: float = 0.0, scores: bool = False, **moved: tuple[float, float]) -> Change:
    expression = torch.zeros(1, 21, 3)
    for name, offset in moved.items():
        expression[0, getattr(k, name), :2] = torch.tensor(offset)
    return Change(expression, torch.tensor([lips]), torch.zeros(1, 52) if scores else None)


@pytest.mark.parametrize("scores", [False, True])
def test_no_change_gets_no_addition(own, scores):
    added = own.addition(change(scores=scores))
    assert not added.expression.any() and not added.lips.any()


def test_the_gain_fades_for_large_changes(own):
    small, large = (
        own.addition(change(LEFT_OUTER_BROW=(0.0, size))).expression[0, k.LEFT_OUTER_BROW, 1] / size
        for size in (-0.01, -0.8)
    )
    assert small == pytest.approx(GAIN[k.LEFT_OUTER_BROW] - 1, abs=0.01) and abs(large) < 1e-4


def test_pursed_lips_are_not_amplified(own):
    wide, narrow = (
        own.addition(change(RIGHT_MOUTH_CORNER=(-x, 0.02), LEFT_MOUTH_CORNER=(x, 0.02))).expression[0]
        for x in (0.05, -0.05)
    )
    corners = list(k.MOUTH_CORNERS)
    assert (wide[corners, 0].abs() > 0.01).all() and not narrow[corners, 0].any()
    assert (narrow[corners, 1] > 0).all()


def test_closed_lips_part_further_and_never_cross(own):
    lips = [float(own.addition(change(lips=asked)).lips) for asked in (0.1, -0.1)]
    assert lips[0] > LAG and lips[1] == pytest.approx(0.1)
    mouth = OwnExpression(own.engine, own.shape, own.source, torch.tensor([0.3]), own.mask)
    assert 0 < float(mouth.addition(change(lips=0.1)).lips) < 0.02


def test_blendshapes_move_the_mouth_as_the_face_itself_would(own):
    scores = torch.zeros(1, 52)
    scores[0, 25] = 0.5
    wanted = (own.shape.scores + scores).clamp(0, 1)
    offsets = own.engine.express(own.shape.landmarks, own.shape.scores, wanted)
    moved = own.adapted(Change(torch.zeros(1, 21, 3), None, scores))[0, :, :2]
    torch.testing.assert_close(moved[10], 1.2 * offsets[0, 10] * own.shape.unit / own.source.scale[0])
    assert not moved[list(k.BROWS)].any()


def test_flat_landmarks_do_not_depend_on_pose_or_size():
    turn = rotation_matrix(torch.tensor([10.0]), torch.tensor([-20.0]), torch.tensor([5.0])).numpy()
    points = 0.4 * (mean_landmarks() @ turn)[..., :2] + np.array([0.1, -0.2])
    flat = flattened(points.astype(np.float32), turn)
    np.testing.assert_allclose(flat.landmarks, 0, atol=1e-5)
    np.testing.assert_allclose(flat.unit, 0.4, rtol=1e-5)


def numbered(count: int, scenes: torch.Tensor | None = None) -> DrivingBatch:
    still = Motion(
        torch.eye(3).expand(count, 3, 3),
        torch.arange(count * 3.0).reshape(count, 3),
        torch.ones(count, 1),
        torch.zeros(count, 21, 3),
        torch.zeros(count, 21, 3),
    )
    return DrivingBatch(still, None, (None,) * count, scenes=scenes)


def test_surroundings_stay_within_the_scene():
    scenes = (torch.arange(18) >= 9).long()
    whole = numbered(18, scenes)
    batches = list(with_surroundings(whole.slices(4), Fraction(25), 4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 2]
    for batch in batches:
        around = batch.around
        torch.testing.assert_close(around.weights.sum(1), torch.ones(len(batch)))
        other = batch.scenes[:, None] != around.frames.scenes
        assert not around.weights[other].any()
    middle = batches[3].take([1]).around  # frame 13: a Gaussian with a deviation of 1.5 frames around it
    mean = middle.weights @ middle.frames.motion.translation
    torch.testing.assert_close(mean, whole.motion.translation[13:14], atol=1e-3, rtol=0)


def test_expressions_are_adapted_only_between_different_people(session, tmp_path):
    """If the driver is the portrait's own person, millimetres need no adaptation."""
    face = open_photo(session, portrait(), SourceOptions()).faces[0]
    video = write_video(tmp_path / "driver.mp4", driving_frames(5))
    driver = open_video_driver(session, VideoReader(video), True, "match", [face.scores])
    start, batch = driver.start(0), next(driver.play(session))
    stranger = start._replace(identity=start.identity + 1)

    def keypoints(start: Start, **options: object) -> torch.Tensor:
        transfer = MotionTransfer(session.engine, face, start, False, TransferOptions(**options))
        return transfer.poses(face.still, Cue([0.0] * len(batch), batch)).keypoints

    plain = keypoints(start)
    assert torch.equal(plain, keypoints(stranger, expression="landmarks"))
    assert not torch.allclose(plain, keypoints(stranger), atol=1e-3)
    asleep = keypoints(stranger, expression_strength=0.0, lock_head=True)
    torch.testing.assert_close(
        asleep, pose_of(face.still.motion).keypoints.expand(4, -1, -1), atol=2e-2, rtol=0
    )
