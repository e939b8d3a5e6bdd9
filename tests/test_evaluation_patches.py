"""Strength of expressions, and patches of mouth and eyes, on cases with known figures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from liveportrait.face import default_analyzer
from liveportrait.face.canonical import JAW_OPEN, canonical_face
from liveportrait.face.measures import head_pose
from liveportrait.metrics import expressions, patches


def portrait() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:256, 96:352])


@pytest.mark.parametrize("strength", [0.4, 1.0, 1.3])
def test_slope_is_the_strength_if_the_correlation_is_one(strength: float) -> None:
    driver = np.sin(np.linspace(0, 6, 40)).astype(np.float32)
    curve = 0.2 + strength * driver
    assert expressions.slope(curve, driver) == pytest.approx(strength, rel=1e-4)
    assert expressions.correlation(curve, driver) == pytest.approx(1, abs=1e-4)
    noise = np.random.default_rng(0).normal(0, 1, 40)
    assert expressions.correlation(curve + noise, driver) < 0.9
    assert expressions.slope(np.full(40, 0.2), driver) == pytest.approx(0, abs=1e-6)
    assert np.isnan(expressions.correlation(np.full(40, 0.2), driver))


def test_moving_blendshapes_are_neither_gaze_nor_noise() -> None:
    scores = np.random.default_rng(1).normal(0, 0.01, (50, 52)).astype(np.float32)
    scores[::2, [JAW_OPEN, 11]] += 0.5  # 11 is a gaze direction
    scores[7] = np.nan  # no face
    assert expressions.moving_blendshapes(scores) == [JAW_OPEN]


def test_a_lip_gap_is_in_centimetres_of_the_head_in_any_pose() -> None:
    landmarks = np.concatenate([canonical_face().vertices, np.zeros((10, 3), np.float32)])
    closed = expressions.lip_gap(landmarks, head_pose(landmarks))
    landmarks[14] += np.float32([0, 1.5, 0])
    cos, sin = np.cos(0.5), np.sin(0.5)
    turn = np.float32([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ np.float32(
        [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
    )
    placed = 7 * landmarks @ turn + np.float32([120, 130, 0])
    assert expressions.lip_gap(placed, head_pose(placed)) - closed == pytest.approx(1.5, abs=0.01)


def test_a_patch_shows_the_same_for_a_rotated_and_larger_face() -> None:
    picture = portrait()
    landmarks = default_analyzer().detect(picture)[0].landmarks
    matrix = cv2.getRotationMatrix2D((128, 128), 20, 1.3)
    turned = cv2.warpAffine(picture, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE)
    moved = landmarks.copy()
    moved[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    moved[:, 2] *= 1.3
    places = [(patches.mouth_patch(landmarks), patches.mouth_patch(moved))]
    places += zip(patches.eye_patches(landmarks), patches.eye_patches(moved), strict=True)
    for own, other in places:
        assert patches.change(own.cut(picture), other.cut(turned), own.region) < 8
        assert 0.02 < own.region.mean() < 0.5


def test_flicker_is_the_change_and_sharpness_the_energy_of_the_region() -> None:
    grey = np.full((64, 80, 3), 100, np.uint8)
    region = np.zeros((64, 80), bool)
    region[20:40, 20:60] = True
    flicker = grey.copy()
    flicker[region] += 10
    flicker[~region] += 90  # changes outside the region are ignored
    assert patches.change(grey, flicker, region) == pytest.approx(10)
    board = grey.copy()
    board[::2] += 20
    softer = grey.copy()
    softer[::2] += 10
    ratio = patches.detail_energy(softer, region) / patches.detail_energy(board, region)
    assert ratio == pytest.approx(0.25, rel=1e-4)
    assert np.isnan(patches.change(grey, flicker, ~(region | True)))


def test_saturation_of_a_tint_between_the_lips_and_of_grey() -> None:
    picture = portrait()
    landmarks = default_analyzer().detect(picture)[0].landmarks  # she smiles with parted lips
    grey = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    assert patches.mouth_saturation(grey, landmarks) == patches.face_saturation(grey, landmarks) == 0
    tinted = np.clip(grey + np.array([0, 12, 12]), 0, 255).astype(np.uint8)
    assert patches.face_saturation(tinted, landmarks) == pytest.approx(12, abs=0.5)
    closed = landmarks.copy()
    closed[list(patches.INNER_LIPS_MESH)] = landmarks[13]
    assert np.isnan(patches.mouth_saturation(tinted, closed))
