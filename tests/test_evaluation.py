"""Metrics on pictures and landmarks with known figures, and the landmark warp on a known deformation."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import astronaut

from liveportrait import metrics, weights
from liveportrait.engine import Engine
from liveportrait.evaluation.protocols.self_reenactment import EvalClip, self_reenactment
from liveportrait.evaluation.protocols.shared import landmark_warp
from liveportrait.face import default_analyzer


def face(side: int = 256) -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:side, 96 : 96 + side])


def test_psnr_and_l1_of_a_constant_difference() -> None:
    dark, light = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    assert metrics.psnr(dark, light) == pytest.approx(20 * np.log10(255 / 10))
    assert metrics.l1(dark, light) == pytest.approx(10 / 255)
    assert metrics.psnr(dark, dark) == 100


def test_ssim_falls_with_noise_and_is_one_for_equal_pictures() -> None:
    picture = face()
    noise = np.random.default_rng(0).integers(-40, 40, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    assert metrics.ssim(picture, picture) == pytest.approx(1)
    assert metrics.ssim(noisy, picture) < 0.8


def test_landmark_distance_is_in_eye_corner_distances() -> None:
    target = np.zeros((478, 3), np.float32)
    target[263, 0] = 50
    assert metrics.landmark_distance(target + np.float32([5, 0, 9]), target) == pytest.approx(0.1)


def test_rotation_distance_is_the_angle() -> None:
    turned = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]], np.float32)
    assert metrics.rotation_distance(turned, np.eye(3, dtype=np.float32)) == pytest.approx(36.87, abs=0.01)


def test_correlation_ignores_resting_values() -> None:
    time = np.linspace(0, 6, 50, dtype=np.float32)
    moving = [(np.sin(time) + offset, np.sin(time)) for offset in (0.0, 5.0)]
    assert metrics.centred_correlation(moving) == pytest.approx(1)
    still = [(np.full(50, 0.3, np.float32), np.sin(time))]
    assert metrics.centred_correlation(still) == 0


def test_landmark_warp_moves_the_landmarks_and_keeps_the_corners() -> None:
    analyzer, picture = default_analyzer(), face()
    found = analyzer.detect(picture)[0].landmarks
    assert metrics.l1(landmark_warp(picture, found, found), picture) < 0.01
    goal = found.copy()
    goal[:, 0] += 12
    moved = landmark_warp(picture, found, goal)
    again = analyzer.detect(moved)[0].landmarks
    before = metrics.landmark_distance(found, goal)
    assert metrics.landmark_distance(again, goal) < 0.2 * before
    assert np.array_equal(moved[:4, :4], picture[:4, :4])


def test_a_still_clip_gives_the_copy_a_perfect_score() -> None:
    clip = EvalClip("still", np.stack([face()] * 3))
    figures = self_reenactment(Engine(weights.load("compact")), default_analyzer(), [clip])
    assert figures["copy"]["psnr"] == 100 and figures["copy"]["landmarks"] < 0.01
    assert figures["model"]["frames"] == 2 and figures["model"]["found"] == 1
    assert figures["model"]["psnr"] > 25  # no motion: the source's own pixels
