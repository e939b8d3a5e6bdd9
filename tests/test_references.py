"""Expressions start from the frame in which the driver looks most like the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from small_base import small_networks

from liveportrait import TransferOptions
from liveportrait.animation.driver import reference as references
from liveportrait.animation.driver.base import DrivingBatch
from liveportrait.animation.driver.reference import SCORED_EVERY, ReferenceSearch
from liveportrait.animation.driver.video import VideoDriver, open_video_driver
from liveportrait.animation.options import SourceOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import open_photo
from liveportrait.choices import Reference
from liveportrait.engine import Engine
from liveportrait.face import Face, FaceAnalyzer, default_analyzer
from liveportrait.face.canonical import EYE_LOOK, JAW_OPEN
from liveportrait.face.measures import face_scores, similarity_cost
from liveportrait.face.tracker import FaceTracker
from liveportrait.media import VideoReader
from liveportrait.networks.geometry import pose_of
from liveportrait.types import Array

SMILE = 44


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(Engine(bundled_networks()), default_analyzer(), batch=4)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames, the second of them grey."""
    return write_video(tmp_path_factory.mktemp("driver") / "driver.mp4", driving_frames(10, faceless=(1,)))


def scores(**made: float) -> np.ndarray:
    numbers = np.zeros(53, np.float32)
    for name, value in made.items():
        numbers[{"smile": SMILE, "jaw": JAW_OPEN}[name]] = value
    return numbers


def test_the_face_most_like_the_source_has_the_lowest_cost():
    faces = [scores(jaw=0.6), scores(smile=0.4), scores(smile=0.8, jaw=0.3), scores(smile=0.1)]

    def cheapest(source: np.ndarray | None) -> int:
        return int(np.argmin([similarity_cost(face, source) for face in faces]))

    assert cheapest(None) == 3  # the most neutral one
    assert cheapest(scores(smile=0.5)) == 1
    assert cheapest(scores(jaw=0.5)) == 0
    assert cheapest(scores(smile=0.9, jaw=0.3)) == 2


def test_gaze_is_ignored(session):
    face = session.analyzer.detect(portrait())[0]
    assert session.analyzer.blendshapes(face)[list(EYE_LOOK)].max() > 0.05
    assert not face_scores(session.analyzer, face)[list(EYE_LOOK)].any()


@pytest.fixture(scope="module")
def faces(session, video) -> dict[int, Face]:
    """The driver's face in every frame in which it is visible."""
    tracker = FaceTracker(session.analyzer)
    with VideoReader(video) as reader:
        return {number: face for number, frame in enumerate(reader) if (face := tracker(frame))}


def opened(
    session: Session,
    video: Path,
    reference: Reference,
    *scores: Array | None,
    crops: bool = True,
) -> VideoDriver:
    return open_video_driver(session, VideoReader(video), crops, reference, scores or (None,))


def test_every_third_face_is_compared_with_the_source(session, video, faces):
    """A face is most similar to itself; faces in between are not compared."""
    wanted = [face_scores(session.analyzer, face) for face in faces.values()]
    search = ReferenceSearch(session.analyzer, "match", wanted)
    frames = list(VideoReader(video))
    for number, face in faces.items():
        search.offer(number, frames[number], face)
    assert [*faces] == [0, *range(2, 10)]
    looked_at = [*faces][::SCORED_EVERY]
    assert {each.number for each in search.similar} == set(looked_at) == {0, 4, 7}
    own = dict(zip(faces, search.similar, strict=True))
    assert all(own[number].number == number for number in looked_at)
    assert search.best.number == 0  # where the pose starts from


@pytest.mark.parametrize("which", ["compact", "base"])
def test_expressions_start_from_the_most_similar_frame(which, session, video, faces):
    if which == "base":
        session = Session(Engine(small_networks()), session.analyzer, batch=4)
    wanted = 7
    driver = opened(session, video, "match", None, face_scores(session.analyzer, faces[wanted]))
    played = [part for batch in driver.play(session) for part in batch.motion.expression]
    alike = driver.start(1)
    torch.testing.assert_close(alike.motion.expression[0], played[wanted], atol=1e-5, rtol=1e-4)
    assert np.allclose(alike.ratios.cpu(), driver.ratios[wanted])
    torch.testing.assert_close(
        alike.motion.rotation, opened(session, video, "first").start(0).motion.rotation
    )


def test_expressions_start_from_the_most_similar_frame_and_poses_from_the_first(session, video):
    options = TransferOptions(stitching=False)
    face = open_photo(session, driving_frames(5)[4], SourceOptions()).faces[0]
    home = pose_of(face.still.motion)
    match, first = (opened(session, video, reference, face.scores) for reference in ("match", "first"))
    like, plain = match.start(0).motion, first.start(0).motion
    assert not torch.allclose(like.expression, plain.expression, atol=1e-4)
    cue = Cue([0.0], DrivingBatch(plain._replace(expression=like.expression), None, (None,)))

    def keypoints(driver: VideoDriver) -> torch.Tensor:
        return MotionTransfer.of(session.engine, face, driver, 0, options).poses(face.still, cue).keypoints

    torch.testing.assert_close(keypoints(match), home.keypoints, atol=1e-5, rtol=0)
    assert not torch.allclose(keypoints(first), home.keypoints, atol=1e-4)


def test_match_compares_faces_if_any_are_found(session, video, tmp_path, monkeypatch):
    """Frames used as crops are searched for a face too."""
    two = [scores(smile=0.8), scores(jaw=0.8)]

    def smiles_while_upright(analyzer: FaceAnalyzer, face: Face) -> np.ndarray:
        right, left = face.landmarks[[33, 263], :2]  # eyes: every frame leans by 2 degrees more
        return two[0] if right[1] - left[1] < 0.1 * (left[0] - right[0]) else two[1]

    monkeypatch.setattr(references, "face_scores", smiles_while_upright)

    def differ(driver: VideoDriver) -> bool:
        one, other = (driver.start(face).motion.expression for face in (0, 1))
        return not torch.equal(one, other)

    assert differ(opened(session, video, "match", *two))
    assert differ(opened(session, video, "match", *two, crops=False))
    for reference in ("first", "auto", 2):
        assert not differ(opened(session, video, reference, *two))
    hidden = write_video(tmp_path / "hidden.mp4", driving_frames(5, faceless=(1, 2, 3)))
    driver = opened(session, hidden, "match", *two, crops=False)
    assert not differ(driver) and driver.ratios is None and not driver.held
