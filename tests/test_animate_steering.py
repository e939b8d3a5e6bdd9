"""Regions, locks, reference frames, smoothing, and assignment of drivers, on motions and small pictures."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from animation_samples import FPS, bundled_networks, driving_frames

from liveportrait import FrameArrays, TransferOptions, UserError
from liveportrait.animation.driver.base import DrivingBatch, Start
from liveportrait.animation.driver.template import open_template_driver
from liveportrait.animation.driver.tracking import track_crops, track_face
from liveportrait.animation.driver.video import open_video_driver
from liveportrait.animation.inputs import assign_drivers
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FaceView
from liveportrait.animation.source.crop_path import CropPath
from liveportrait.animation.source.observations import FaceObservations
from liveportrait.animation.source.photo import PhotoFace
from liveportrait.animation.source.video import VideoFace
from liveportrait.choices import Region
from liveportrait.engine import Engine
from liveportrait.face import Face, default_analyzer
from liveportrait.face.choice import FaceChoice
from liveportrait.face.tracker import Person, match
from liveportrait.motion import (
    FACE_MESH,
    PUBLISHED,
    JitterMeter,
    MotionSmoother,
    Template,
    crop_points,
    in_place,
    jitter,
    lock_head,
    lock_scale,
    lock_shoulders,
    smooth_motion,
    smooth_path,
)
from liveportrait.motion.smoothing import StreamSmoother, observation_variance
from liveportrait.motion.transfer import NECK_IN_CROP
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Motion


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(Engine(bundled_networks()), default_analyzer(), batch=8)


def motion(count: int, seed: int = 0, tremble: float = 0.1) -> Motion:
    """A plausible motion."""
    noise = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return tremble * torch.randn(count, *shape, generator=noise)

    angles = [100 * some() for _ in range(3)]
    return Motion(rotation_matrix(*angles), some(3), 1.3 + some(1), some(21, 3), 0.3 * some(21, 3))


def turning(count: int) -> Motion:
    """A head that turns slowly, with a little jitter."""
    still = motion(1)
    yaw = torch.linspace(-20, 20, count)
    steady = still.expand(count)
    noise = motion(count, seed=1, tremble=0.003)
    return Motion(
        noise.rotation @ rotation_matrix(0 * yaw, yaw, 0 * yaw),
        steady.translation + noise.translation,
        steady.scale,
        steady.canonical,
        steady.expression + noise.expression,
    )


def test_smoothing_lowers_jitter_without_delay():
    trembling = turning(60)
    figures = [jitter(crop_points(smooth_motion(trembling, s, Fraction(25)))) for s in (0.0, 0.3, 1.0)]
    assert figures[1] < 0.8 * figures[0] and figures[2] < 0.4 * figures[0]
    smoothed = smooth_motion(trembling, 1.0, Fraction(25))
    identity = torch.eye(3).expand(60, 3, 3)
    torch.testing.assert_close(
        smoothed.rotation @ smoothed.rotation.transpose(1, 2), identity, atol=1e-5, rtol=0
    )
    # During a steady turn the smoothed head does not lag; smoothed live, it does.
    live = MotionSmoother(1.0, Fraction(25), live=True).push(trembling)
    middle = slice(25, 35)
    offline = (smoothed.rotation - trembling.rotation)[middle].abs().mean()
    behind = (live.rotation - trembling.rotation)[middle].abs().mean()
    assert behind > 3 * offline


def test_streamed_smoothing_equals_smoothing_of_the_whole():
    whole = motion(50)
    smoother, parts = MotionSmoother(0.4, Fraction(25)), []
    for start in range(0, 50, 4):
        parts.append(smoother.push(whole.rows(slice(start, start + 4))))
    parts.append(smoother.flush(whole))
    assert len(parts[0].scale) == 0 and sum(len(part.scale) for part in parts) == 50
    streamed = Motion.cat(parts)
    for one, other in zip(streamed, smooth_motion(whole, 0.4, Fraction(25)), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_nothing_is_smoothed_across_a_cut():
    joined = Motion.cat([motion(10), motion(10, seed=2)])
    alone = smooth_motion(motion(10, seed=2), 1.0, Fraction(25))
    after = smooth_motion(joined, 1.0, Fraction(25), starts=[10]).rows(slice(10, None))
    for one, other in zip(alone, after, strict=True):
        torch.testing.assert_close(one, other)


def test_smoothing_has_the_stated_time_constant():
    single = torch.zeros(81, 1)
    single[40] = 1
    smoother = StreamSmoother(observation_variance(4.0), lag=len(single))
    smoother.push(single.double())
    answer = smoother.flush()[:, 0]
    assert answer[44] / answer[40] == pytest.approx(np.exp(-1), rel=1e-3)
    assert answer.sum() == pytest.approx(1, rel=1e-3) and answer[36] == pytest.approx(float(answer[44]))
    causal = StreamSmoother(observation_variance(4.0), lag=0).push(single.double())[:, 0]
    assert causal[:40].abs().max() == 0 and causal[44] > 0


def test_a_smooth_path_keeps_slow_movement_and_both_ends():
    time = np.arange(200.0)
    straight = np.stack([3 * time + 1, 5 - time], axis=1)
    np.testing.assert_allclose(smooth_path(straight, 0.03), straight, atol=1e-6)
    swing = np.sin(2 * np.pi * 0.03 * time)[:, None]
    assert np.abs(smooth_path(swing, 0.03)[80:120]).max() == pytest.approx(0.5, abs=0.01)


def test_jitter_measures_the_standard_deviation_of_noise():
    noise = 0.7 * torch.randn(4000, 3, 2, generator=torch.Generator().manual_seed(0))
    moving = noise + torch.arange(4000.0)[:, None, None]
    assert jitter(moving) == pytest.approx(0.7, rel=0.03)
    meter = JitterMeter()
    for part in moving.split(7):
        meter.add(part)
    assert meter.value == pytest.approx(jitter(moving), rel=1e-4)
    meter.restart()
    meter.add(torch.full((2, 3, 2), 1e6))
    assert meter.value == pytest.approx(jitter(moving), rel=1e-4)


def test_locks_keep_the_named_parts():
    source, moved = motion(1), motion(5, seed=3)
    locked = lock_head(moved, source)
    for name in ("rotation", "translation", "scale"):
        part = getattr(source, name)
        torch.testing.assert_close(getattr(locked, name), part.expand(5, *part.shape[1:]))
    torch.testing.assert_close(locked.expression, moved.expression)
    torch.testing.assert_close(lock_scale(moved, source, PUBLISHED).scale, source.scale.expand(5, 1))
    turned = lock_shoulders(moved, source, PUBLISHED)
    torch.testing.assert_close(turned.rotation, moved.rotation)
    # The point of the head at the neck stays where it is in the source.
    own = (torch.tensor(NECK_IN_CROP) / source.scale) @ source.rotation[0].T
    where = moved.scale * (own[None] @ moved.rotation)[:, 0] + turned.translation
    home = torch.tensor(NECK_IN_CROP) + source.translation
    torch.testing.assert_close(where[:, :2], home[:, :2].expand(5, 2))


@pytest.mark.parametrize("region", ["all", "expression", "pose", "lips", "eyes"])
def test_a_video_source_keeps_its_position_and_scale(region: Region):
    """The published rules for video sources: position and scale are the source's; only some coordinates follow."""
    source, moved = motion(4), motion(4, seed=1)
    result = in_place(moved, source, region, PUBLISHED)
    torch.testing.assert_close(result.scale, source.scale)
    torch.testing.assert_close(result.translation[:, :2], source.translation[:, :2])
    changed = (result.expression != source.expression).any(0)
    torch.testing.assert_close(changed, PUBLISHED.absolute_mask(region))
    if region == "all":
        torch.testing.assert_close(in_place(moved, source, region, FACE_MESH).expression, moved.expression)


def view_of(motion: Motion) -> FaceView:
    """A face view of which only the motion matters."""
    return FaceView({}, motion, None, np.zeros((motion.batch, 8, 8, 3), np.uint8), ())


def cue(driving: Motion) -> Cue:
    return Cue([0.0] * driving.batch, DrivingBatch(driving, None, (None,) * driving.batch))


def test_a_video_source_is_driven_frame_by_frame(session):
    sources, driving = motion(6), motion(6, seed=1)
    face = VideoFace(CropPath(FaceObservations.absent(6), ()), sources, np.arange(6), sources.expression)
    transfer = MotionTransfer(session.engine, face, Start(driving.rows([0])), False, TransferOptions())
    together = transfer.poses(view_of(sources), cue(driving))
    for row in (0, 4):
        alone = transfer.poses(view_of(sources.rows([row])), cue(driving.rows([row])))
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], other[row])
    with pytest.raises(ValueError, match="needs the driver's motion"):
        transfer.poses(view_of(sources), Cue([0.0] * 6))


def test_a_driving_photo_turns_the_head_only_on_request(session):
    source, photo = motion(1), motion(1, seed=1)
    face = PhotoFace(view_of(source))
    for asked, rotation in ((False, source.rotation), (True, photo.rotation)):
        options = TransferOptions(photo_pose=asked)
        transfer = MotionTransfer(session.engine, face, Start(photo), True, options)
        torch.testing.assert_close(transfer.poses(face.still, cue(photo)).rotation, rotation)


@pytest.mark.parametrize("track", [track_face, track_crops])
def test_the_most_neutral_frame_is_found(session, track):
    """Among heads that lean to either side it is the upright one, also if frames are already crops."""
    leaning = driving_frames(21, faceless=(20,))
    video = FrameArrays([leaning[row] for row in (20, 19, 1, 15, 12)])
    assert [scene.reference for scene in track(session, video, "auto").scenes] == [2]
    assert [scene.reference for scene in track(session, video, "first").scenes] == [1]
    chosen = open_video_driver(session, video, track is track_face, 3, (None,))
    (batch, *_) = chosen.play(session)
    torch.testing.assert_close(
        chosen.start(0).motion.expression, batch.motion.expression[3:4], atol=1e-5, rtol=0
    )
    with pytest.raises(UserError, match="frame 0, which shows no face"):
        track(session, video, 0)
    with pytest.raises(UserError, match="frames 0 to 4"):
        track(session, video, 40)


def test_crops_without_a_face_have_no_neutral_frame(session):
    """If fewer than half of the faces are found, all frames use M, which gives a motion for any frame."""
    video = FrameArrays(driving_frames(5, faceless=(0, 2, 4)))
    with pytest.raises(UserError, match="leave out --reference auto"):
        open_video_driver(session, video, False, "auto", (None,))
    driver = open_video_driver(session, video, False, 1, (None,), framing="follow")
    (batch,) = driver.play(session)
    assert driver.ratios is None and driver.held == () and driver.frames == len(batch) == 5
    torch.testing.assert_close(
        driver.start(0).motion.expression, batch.motion.expression[1:2], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(batch.motion, session.engine.extract_motion(np.stack(batch.crops)))
    with pytest.raises(UserError, match="frames 0 to 4"):
        open_video_driver(session, video, False, 5, (None,))


def test_the_most_neutral_frame_of_a_template_is_found_by_its_motion(session):
    moved = turning(21)
    eyes = torch.full((21, 2), 0.35)
    eyes[:12] = 0.05
    lips = torch.zeros(21, 1)
    template = Template(moved, FPS, "face-mesh-21", eye_ratios=eyes, lip_ratios=lips)
    start = open_template_driver(session, template, "the template", "auto").start(0)
    torch.testing.assert_close(start.motion.rotation, moved.rotation[12:13])
    with pytest.raises(UserError, match="frame 21, but the template has frames 0 to 20"):
        open_template_driver(session, template, "the template", 21)


@pytest.mark.parametrize(
    ("faces", "drivers", "assign", "expected"),
    [(3, 1, "", (0, 0, 0)), (3, 3, "", (0, 1, 2)), (3, 2, "2,1,1", (1, 0, 0)), (1, 1, "1", (0,))],
)
def test_drivers_are_assigned(faces, drivers, assign, expected):
    assert assign_drivers(faces, drivers, assign) == expected


@pytest.mark.parametrize(
    ("faces", "drivers", "assign", "message"),
    [
        (2, 3, "", "too many for 2 chosen faces"),
        (3, 2, "", "too few for 3 chosen faces"),
        (2, 2, "1", "names 1 of DRIVING for 2"),
        (2, 2, "1,3", "names DRIVING 3, but 2"),
        (2, 2, "1,1", "DRIVING 2 without a face"),
    ],
)
def test_mismatched_numbers_of_drivers_are_refused(faces, drivers, assign, message):
    with pytest.raises(UserError, match=message):
        assign_drivers(faces, drivers, assign)


def face_at(x: float) -> Face:
    landmarks = np.array([[x - 20, 80, 0], [x + 20, 120, 0]], np.float32)
    return Face(landmarks, 1.0)


def test_faces_are_chosen_by_size_or_from_the_left():
    faces = [face_at(300), face_at(100), face_at(200)]  # largest first
    assert FaceChoice.parse("largest").of(faces, "it") == faces[:1]
    assert FaceChoice.parse("all").of(faces, "it") == [faces[1], faces[2], faces[0]]
    assert FaceChoice.parse("3,1").of(faces, "it") == [faces[0], faces[1]]
    with pytest.raises(UserError, match="face 4, but crowd shows 3 faces"):
        FaceChoice.parse("4").of(faces, "crowd")
    for wrong in ("0", "1,1", "left", "1;2", ""):
        with pytest.raises(UserError, match="face"):
            FaceChoice.parse(wrong)


def looks(*values: float) -> list[np.ndarray]:
    """Embeddings at these distances along one axis."""
    return [np.array([value, *[0.0] * 127], np.float32) for value in values]


def test_people_are_matched_by_identity_before_position():
    people = [Person(None, face_at(100), 0, looks(0.0)), Person(None, face_at(300), 0, looks(1.0))]
    # They have swapped places across a cut.
    assert match(people, [face_at(100), face_at(300)], looks(1.1, 0.1), 640, scene=1) == {1: 0, 0: 1}
    # Twins: the closer position decides.
    twins = [Person(None, face_at(100), 0, looks(0.0)), Person(None, face_at(300), 0, looks(0.0))]
    assert match(twins, [face_at(310), face_at(90)], looks(0.1, 0.1), 640, scene=1) == {0: 1, 1: 0}
    # A stranger matches nobody, unless a similar face was lost there a moment ago.
    assert match(people[:1], [face_at(105)], looks(0.8), 640, scene=1) == {}
    assert match(people[:1], [face_at(105)], looks(0.8), 640, scene=0) == {0: 0}
    assert match(people[:1], [face_at(205)], looks(0.8), 640, scene=0) == {}


def test_a_person_keeps_the_first_embedding():
    person = Person(None, face_at(0), 0, looks(0.0))
    for number in range(1, 12):
        person.remember(looks(float(number))[0])
    assert len(person.gallery) == 8
    assert person.unlikeness(looks(0.1)[0]) == pytest.approx(0.1)
    assert person.unlikeness(looks(2.0)[0]) == pytest.approx(2.0)
