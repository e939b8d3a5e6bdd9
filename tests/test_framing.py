"""Camera movement is removed from drivers: pans, zooms and cuts, in files and live."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, people, portrait
from small_base import small_networks

from liveportrait import Animator, DriveOptions, FrameArrays
from liveportrait.animation.driver.template import open_template_driver
from liveportrait.animation.driver.video import VideoDriver, open_video_driver
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.portrait import Portrait
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.choices import Framing
from liveportrait.engine import Engine
from liveportrait.face.scenes import SceneTracker
from liveportrait.face.tracker import largest_face
from liveportrait.motion import Template
from liveportrait.motion.framing import FACE, IN_CROP, NECK, THIRD, bounded, steadied
from liveportrait.motion.gliding import LAZY, LiveGlide, glided
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Motion, Pose

FPS = Fraction(25)
FACE_IN_CROP = FACE * IN_CROP
PLACE = THIRD * FACE_IN_CROP


def shown(zoom: float, x: float, y: float, turn: float = 0.0) -> np.ndarray:
    """The portrait on a grey frame (240,400,3): its face is about 75 px · zoom wide and its neck at (x, y + 40)."""
    matrix = cv2.getRotationMatrix2D((154.0, 150.0), turn, 0.75 * zoom)
    matrix[:, 2] += np.array([x, y + 40]) - [154, 150]
    return cv2.warpAffine(portrait(), matrix, (400, 240), borderValue=(90, 90, 90))


def pan(count: int) -> list[np.ndarray]:
    return [shown(1, 110 + 170 * k / (count - 1), 110) for k in range(count)]


def zoom(count: int) -> list[np.ndarray]:
    return [shown(0.8 * 2 ** (k / (count - 1)), 200, 120) for k in range(count)]


def cut(count: int) -> list[np.ndarray]:
    """A cut after half of the frames to a closer view elsewhere; the head nods in both halves."""
    far = [shown(0.7, 100, 100, 3 * k) for k in range(count // 2)]
    return far + [255 - shown(1.4, 260, 130, 3 * k) for k in range(count - count // 2)]


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=4)


@pytest.fixture(scope="module")
def opened(animator) -> Portrait:
    return animator.open(portrait())


@pytest.fixture(scope="module")
def session(animator) -> Session:
    return Session(animator.engine, animator.analyzer, 4)


def driver(session: Session, frames: list[np.ndarray], framing: Framing = "steady") -> VideoDriver:
    return open_video_driver(session, FrameArrays(frames, FPS), True, "first", (None,), framing=framing)


def moved(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Change of position (N,2), in face sizes, and of size (N,) since the first frame."""
    place = (motion.translation - motion.translation[:1])[:, :2] / FACE_IN_CROP
    return place.numpy(), (motion.scale / motion.scale[:1])[:, 0].numpy()


def test_bounds_change_nothing_up_to_half_and_are_never_exceeded():
    value = torch.linspace(0, 5, 501)
    result = bounded(value, 1.0)
    torch.testing.assert_close(result[:51], value[:51])
    assert (result.diff() >= 0).all() and result.max() <= 1
    assert (result.diff().diff().abs() < 0.02 * 0.01 * 5).all()  # the curve has no kinks


def neck_of(motion: Motion) -> torch.Tensor:
    """The neck's position (1,2), at the initial size."""
    return (motion.translation + torch.tensor(NECK) * IN_CROP @ motion.rotation)[:, :2]


def heads(angles: torch.Tensor, neck: torch.Tensor, growth: torch.Tensor) -> Motion:
    """Heads turned about the neck by angles (N,); the neck is shifted by (N,2), and sizes grow by (N,)."""
    rest = torch.zeros_like(angles)
    rotation = rotation_matrix(rest, angles, rest)
    lever = growth[:, None] * (torch.tensor(NECK) * IN_CROP @ rotation)
    translation = torch.nn.functional.pad(neck, (0, 1)) - lever
    points = torch.zeros(len(angles), 21, 3)
    return Motion(rotation, translation, 0.4 * growth[:, None], points, points)


def test_turning_heads_are_not_restricted_but_moving_bodies_are():
    angles, still = torch.tensor([0.0, 50.0, -50.0]), torch.zeros(3, 2)
    turning = heads(angles, still, torch.ones(3))
    # The centre of the face moves further than the bound
    assert (turning.translation[1:, 0].abs() > PLACE).all()
    torch.testing.assert_close(steadied(turning, turning.rows([0]), turning.rows([0])), turning)
    away = heads(
        torch.zeros(3), torch.tensor([[0.0, 0.0], [0.1, 0.1], [3.0, 0.0]]), torch.tensor([1.0, 1.05, 4])
    )
    kept = steadied(away, away.rows([0]), away.rows([0]))
    torch.testing.assert_close(kept.rows([0, 1]), away.rows([0, 1]))
    assert kept.scale[2] / kept.scale[0] == pytest.approx(1.2, abs=0.005)
    neck = kept.translation[2] + 1.2 * torch.tensor(NECK) * IN_CROP - torch.tensor(NECK) * IN_CROP
    assert neck[0] - kept.translation[0, 0] == pytest.approx(PLACE, abs=0.005)


def test_a_lazy_path_ignores_swaying_and_follows_lasting_movement():
    seconds = np.arange(200) / 25
    sway = np.stack([10 * np.sin(2 * seconds), 8 * np.sin(5 * seconds), np.full(200, np.log(100.0))], 1)
    assert np.ptp(glided(sway, FPS, LAZY), axis=0).max() < 1e-6
    walk = sway + np.stack([200 * seconds, 0 * seconds, 0 * seconds], 1)
    rest = walk - glided(walk, FPS, LAZY)
    assert np.abs(rest[:, 0]).max() < 35 and abs(rest[100, 0] - sway[100, 0]) < 12
    live = LiveGlide(FPS)
    followed = np.array([live(row) for row in walk])
    assert np.abs(walk - followed)[:, 0].max() <= 35.01
    for _ in range(500):
        place = live(walk[-1])
    assert place[0] == pytest.approx(walk[-1, 0], abs=1)


@pytest.mark.parametrize("frames", [pan(12), zoom(12)], ids=["pan", "zoom"])
def test_pans_and_zooms_are_removed(session, frames):
    still, going = (driver(session, frames, framing) for framing in ("steady", "follow"))
    place, size = moved(still.whole.motion)
    assert np.linalg.norm(place, axis=1).max() < 1 / 3 and size.min() > 0.85 and size.max() < 1.2
    place, size = moved(going.whole.motion)
    assert np.linalg.norm(place, axis=1).max() > 0.6 or size.max() > 1.5
    assert still.is_steadied and not going.is_steadied and still.cuts == going.cuts == ()


def test_without_camera_movement_nothing_changes(session):
    frames = [shown(1, 200 + 6 * np.sin(k), 110 + 5 * np.cos(2 * k), 15 * np.sin(k)) for k in range(10)]
    still, going = (driver(session, frames, framing) for framing in ("steady", "follow"))
    assert not still.is_steadied
    for own, other in zip(moved(still.whole.motion), moved(going.whole.motion), strict=True):
        np.testing.assert_allclose(own, other, atol=0.005)
    torch.testing.assert_close(still.whole.motion.rotation, going.whole.motion.rotation)
    for own, other in zip(still.whole.motion, going.whole.motion, strict=True):
        torch.testing.assert_close(own, other, atol=0.01, rtol=0)


@pytest.mark.parametrize("which", ["compact", "base"])
def test_position_size_and_expression_restart_at_a_cut(which, session):
    if which == "base":
        session = Session(Engine(small_networks()), session.analyzer, 4)
    cutting = driver(session, cut(8))
    assert cutting.cuts == (4,) and not cutting.is_steadied
    motion = Motion.cat([batch.motion for batch in cutting.play(session)])
    start = cutting.start(0)
    assert start.motion.batch == len(start.ratios) == len(start.scores) == 2
    for row, frame in enumerate((0, 4)):
        torch.testing.assert_close(
            start.motion.expression[row], motion.expression[frame], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            neck_of(motion.rows([frame])), neck_of(motion.rows([0])), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(motion.scale[frame], start.motion.scale[row])
    assert torch.equal(*start.motion.rotation) and not torch.allclose(*start.motion.expression)


def test_the_most_similar_frame_is_chosen_within_its_scene(session):
    driving = open_video_driver(session, FrameArrays(cut(8), FPS), True, "match", (None,))
    whole, starts = driving.whole.motion, driving.start(0).motion
    for row, shot in enumerate((range(4), range(4, 8))):
        assert any(torch.equal(starts.expression[row], whole.expression[frame]) for frame in shot)


@pytest.mark.parametrize("motion", ["relative", "absolute"])
def test_frames_are_relative_to_their_own_scene(session, opened, motion):
    """The first frames of both scenes have the same pose, except for the rotation of the head."""
    options = DriveOptions(motion=motion, reference="first", stitching=False, expression="landmarks")
    driving, face = driver(session, cut(8)), opened.source.faces[0]
    poser = MotionTransfer.of(session.engine, face, driving, 0, options)
    scenes = torch.tensor([0] * 4 + [1] * 4)
    (batch,) = driving.whole.slices(8)
    pose: Pose = poser.poses(face.still, Cue([0.0] * 8, replace(batch, scenes=scenes)))
    torch.testing.assert_close(pose.translation[4, :2], pose.translation[0, :2], atol=0.05, rtol=0)
    torch.testing.assert_close(pose.scale[4], pose.scale[0])
    apart = (pose.keypoints[4] - pose.keypoints[0])[:, :2].norm(dim=1).mean()
    assert apart < (0.03 if motion == "relative" else 0.08)


def test_another_face_is_a_cut_but_a_fast_camera_is_not(animator):
    tracker = SceneTracker(animator.analyzer)
    rng = np.random.default_rng(0)
    stripes = np.repeat(rng.integers(0, 255, (240, 20, 3), np.uint8), 40, axis=1)
    begins = []
    for k in range(5):
        background = np.roll(stripes, 90 * k, axis=1)[:, :400]
        face = shown(1, 120 + 25 * k, 110)
        mask = np.abs(face.astype(int) - 90).max(axis=2, keepdims=True) > 8
        assert tracker(np.where(mask, face, background))
        begins.append(tracker.starts_over)
    assert begins == [False] * 5
    assert tracker(shown(1, 320, 110)[:, ::-1].copy()) and tracker.starts_over


def test_a_briefly_hidden_person_is_not_replaced_by_a_neighbour(animator):
    """Face recognition considers the second of two people another person."""
    smaller = cv2.copyMakeBorder(cv2.resize(people()[2], (260, 260)), 40, 0, 0, 0, cv2.BORDER_REPLICATE)
    couple = np.concatenate([portrait(), smaller], axis=1)
    hidden = couple.copy()
    hidden[45:190, 90:225] = couple[45:190, 90:225].mean((0, 1))
    tracker = SceneTracker(animator.analyzer)
    first = tracker(couple)
    seen = [tracker(hidden) for _ in range(3)]
    assert seen[-1] is None and not tracker.starts_over
    again = tracker(couple)
    assert again and not tracker.starts_over
    assert np.abs(again.landmarks - first.landmarks).max() < 3


def test_a_template_is_bounded_too(session):
    away = heads(torch.zeros(3), torch.tensor([[0.0, 0.0], [0.1, 0.1], [3.0, 0.0]]), torch.ones(3))
    template = Template(away, FPS, "face-mesh-21")
    still, going = (
        open_template_driver(session, template, "it", "first", framing) for framing in ("steady", "follow")
    )
    assert still.is_steadied and not going.is_steadied
    assert np.abs(moved(still.whole.motion)[0]).max() < 0.34 < np.abs(moved(going.whole.motion)[0]).max()


def test_live_windows_glide_and_restart_after_a_cut(animator, opened):
    def places(frames: list[np.ndarray]) -> np.ndarray:
        with opened.live(DriveOptions()) as live:
            found = [largest_face(animator.analyzer, live(frame)) for frame in frames]
        return np.array([face.landmarks[:, :2].mean(0) for face in found if face])

    width = 91.0
    going = places(pan(8))
    assert len(going) == 8 and np.linalg.norm(going - going[0], axis=1).max() < width / 2.4
    jumping = places(cut(6))
    assert len(jumping) == 6 and np.linalg.norm(jumping[3] - jumping[0]) < 0.1 * width
