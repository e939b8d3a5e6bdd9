"""Where expressions start from: the frame in which a driver looks most like the source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from liveportrait.animation.production import _steering
from liveportrait.animation.run import Run
from liveportrait.animation.tracking import SCORED_EVERY
from small_base import small_networks

from liveportrait import AnimateOptions
from liveportrait.animation.driver import open_driver
from liveportrait.animation.source import open_photo
from liveportrait.engine import Engine
from liveportrait.face import default_analyzer
from liveportrait.face.canonical import EYE_LOOK, JAW_OPEN
from liveportrait.face.choice import FaceChoice
from liveportrait.face.measures import Look, face_scores, most_similar_frame
from liveportrait.networks.geometry import pose_of

SMILE = 44


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(Engine(bundled_networks()), default_analyzer(), batch=4)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames, the second of them grey."""
    return write_video(tmp_path_factory.mktemp("driver") / "driver.mp4", driving_frames(10, faceless=(1,)))


def look(frame: int, **made: float) -> Look:
    scores = np.zeros(52, np.float32)
    for name, value in made.items():
        scores[{"smile": SMILE, "jaw": JAW_OPEN}[name]] = value
    return Look(frame, scores)


def test_the_frame_most_like_the_source_is_found():
    looks = [look(0, jaw=0.6), look(3, smile=0.4), look(6, smile=0.8, jaw=0.3), look(9, smile=0.1)]
    assert most_similar_frame(looks, None) == 9  # the calmest
    assert most_similar_frame(looks, look(0, smile=0.5).scores) == 3
    assert most_similar_frame(looks, look(0, jaw=0.5).scores) == 0
    assert most_similar_frame(looks, look(0, smile=0.9, jaw=0.3).scores) == 6


def test_gaze_does_not_count(run):
    face = run.analyzer.detect(portrait())[0]
    assert run.analyzer.blendshapes(face)[list(EYE_LOOK)].max() > 0.05
    assert not face_scores(run.analyzer, face)[list(EYE_LOOK)].any()


@pytest.mark.parametrize("which", ["compact", "base"])
def test_a_driver_tells_its_motion_in_the_frame_most_alike(which, run, video):
    run = run if which == "compact" else replace(run, engine=Engine(small_networks()))
    driver = open_driver(run, video, True, "match")
    tracked = driver.tracked
    assert [each.frame for each in tracked.looks] == [0, *range(1 + SCORED_EVERY, 10, SCORED_EVERY)]
    assert tracked.reference == 0  # where the pose starts from
    wanted = tracked.looks[2]
    played = [part for batch in driver.play(lambda: None) for part in batch.motion.expression]
    alike = driver.alike(wanted.scores)
    torch.testing.assert_close(alike.motion.expression[0], played[wanted.frame], atol=1e-5, rtol=1e-4)
    assert np.allclose(alike.openings.cpu(), tracked.ratios[wanted.frame])


def test_expressions_start_where_the_driver_looks_like_the_source_and_poses_at_its_first_frame(run, video):
    options = AnimateOptions(stitching=False)
    face = open_photo(run, driving_frames(5)[4], options, FaceChoice.parse("largest")).faces[0]
    home = pose_of(face.still.motion)
    driver = open_driver(run, video, True, "match")
    like = driver.alike(face.scores)
    assert not torch.allclose(like.motion.expression, driver.first.expression, atol=1e-4)

    def keypoints(reference: str) -> torch.Tensor:
        driver = open_driver(run, video, True, reference)
        steering = _steering(run, face, driver, options)
        return steering.poses(driver.first._replace(expression=like.motion.expression)).keypoints

    torch.testing.assert_close(keypoints("match"), home.keypoints, atol=1e-5, rtol=0)
    assert not torch.allclose(keypoints("first"), home.keypoints, atol=1e-4)


def test_only_videos_whose_face_is_followed_know_likenesses(run, video):
    for reference in ("first", "auto", 2):
        assert open_driver(run, video, True, reference).alike is None
    assert open_driver(run, video, False, "match").alike is None
