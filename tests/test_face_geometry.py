"""Head pose, opening ratios and crop windows, on landmarks with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from liveportrait.errors import UserError
from liveportrait.face.canonical import canonical_face
from liveportrait.face.choice import DRIVING_SCALE, DRIVING_Y, DrivingCrop
from liveportrait.face.crop import (
    CropWindow,
    crop,
    driving_window,
    source_window,
    to_input,
)
from liveportrait.face.measures import eye_ratios, head_pose, lip_ratio
from liveportrait.networks.geometry import euler_degrees, rotation_matrix

Array = NDArray[np.float32]


def posed(
    pitch: float = 0, yaw: float = 0, roll: float = 0, scale: float = 12, at: tuple[float, float] = (300, 200)
) -> Array:
    """Landmarks (478,3) of the canonical face in a pose; the irises are in the centres of the eyes."""
    vertices = canonical_face().vertices
    eyes = [vertices[[33, 133]].mean(axis=0), vertices[[362, 263]].mean(axis=0)]
    face = np.concatenate([vertices, np.repeat(eyes, 5, axis=0)])
    rotation = rotation_matrix(*(torch.tensor([float(a)]) for a in (pitch, yaw, roll)))[0].numpy()
    return (scale * face @ rotation + np.array([*at, 0])).astype(np.float32)


def axis(window: CropWindow, landmarks: Array) -> Array:
    """The vector from the centre of the eyes to the centre of the mouth's corners, in crop px."""
    eyes = landmarks[[33, 133, 159, 145, 362, 263, 386, 374], :2].mean(axis=0)
    mouth = landmarks[[61, 291], :2].mean(axis=0)
    return window.matrix[:, :2] @ (mouth - eyes)


def test_canonical_face_faces_the_camera() -> None:
    vertices, weights = canonical_face()
    assert vertices.shape == (468, 3) and weights.shape == (468,)
    assert vertices[33, 0] < 0 < vertices[263, 0], "the right eye is on the picture's left"
    assert vertices[10, 1] < vertices[152, 1], "y points down"
    assert vertices[4, 2] < vertices[234, 2], "z points away: the nose comes first"
    assert (weights > 0).sum() == 33


@pytest.mark.parametrize("angles", [(0, 0, 0), (20, 0, 0), (0, -35, 0), (0, 0, 50), (-15, 25, -160)])
def test_pose_is_recovered(angles: tuple[float, float, float]) -> None:
    pose = head_pose(posed(*angles, scale=7.5, at=(40, -60)))
    found = [angle.item() for angle in euler_degrees(torch.from_numpy(pose.rotation))]
    np.testing.assert_allclose(found, angles, atol=0.01)
    assert pose.scale == pytest.approx(7.5, rel=1e-4)
    np.testing.assert_allclose(pose.translation, [40, -60, 0], atol=0.01)


def test_pose_ignores_a_moving_mouth_but_survives_noise() -> None:
    landmarks = posed(10, 20, 5)
    landmarks += np.random.default_rng(0).normal(0, 1, landmarks.shape).astype(np.float32)
    landmarks[[13, 14, 17, 61, 291]] += 30
    found = [angle.item() for angle in euler_degrees(torch.from_numpy(head_pose(landmarks).rotation))]
    np.testing.assert_allclose(found, [10, 20, 5], atol=2)


def test_ratios_are_height_over_width() -> None:
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[[33, 133], 0] = 0, 40
    landmarks[[159, 145], 1] = -6, 4
    landmarks[[362, 263], 0] = 0, 50
    landmarks[[386, 374], 1] = -1, 1
    landmarks[[61, 291], 0] = 0, 100
    landmarks[[13, 14], 1] = 0, 25
    np.testing.assert_allclose(eye_ratios(landmarks), [0.25, 0.04], atol=1e-6)
    np.testing.assert_allclose(lip_ratio(landmarks), [0.25], atol=1e-6)
    assert np.isfinite(eye_ratios(np.zeros((478, 3), np.float32))).all()


@pytest.mark.parametrize("roll", [0, 25, -70, 170])
def test_source_window_turns_the_face_upright(roll: float) -> None:
    landmarks = posed(yaw=10, roll=roll)
    down = axis(source_window(landmarks), landmarks)
    assert abs(down[0]) < 1e-2 and down[1] > 0
    level = source_window(landmarks, rotate=False).matrix
    assert level[0, 1] == level[1, 0] == 0 and level[0, 0] == level[1, 1] > 0


def test_source_window_follows_the_formula() -> None:
    landmarks = posed(roll=20)
    matrix = source_window(landmarks, size=512, scale=2.0, y=0.0).matrix.astype(np.float64)
    zoom, theta = np.hypot(*matrix[0, :2]), np.arctan2(matrix[0, 1], matrix[0, 0])
    assert np.degrees(theta) == pytest.approx(20, abs=0.01)
    np.testing.assert_allclose(matrix[:, :2], zoom * np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]]), atol=1e-6)  # fmt: skip  # noqa: E501
    inside = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    brows_to_chin = inside[[105, 334, 152], 1]
    middle = (brows_to_chin.min() + brows_to_chin.max()) / 2
    assert middle == pytest.approx(256, abs=1), "without a shift the box of brows and chin lies in the middle"
    longer = max(np.ptp(brows_to_chin), np.ptp(inside[[127, 356, 234, 454, 93, 323], 0]))
    assert 512 / longer == pytest.approx(2.0 * 1.015, rel=0.005)


def test_forehead_does_not_move_the_window() -> None:
    landmarks = posed()
    higher = landmarks.copy()
    higher[[10, 67, 109, 297, 338], 1] -= 40
    np.testing.assert_array_equal(source_window(landmarks).matrix, source_window(higher).matrix)


@pytest.mark.parametrize("roll", [0, 30])
def test_shifts_move_the_window_along_the_face(roll: float) -> None:
    landmarks = posed(roll=roll)
    plain = source_window(landmarks, x=0, y=0)
    shifted = source_window(landmarks, x=0.1, y=-0.2)
    np.testing.assert_allclose(shifted.matrix - plain.matrix, [[0, 0, -51.2], [0, 0, 102.4]], atol=1e-3)


def test_scale_and_size_set_the_zoom() -> None:
    landmarks = posed()
    zoom = source_window(landmarks).matrix[0, 0]
    assert source_window(landmarks, scale=4.6).matrix[0, 0] == pytest.approx(zoom / 2)
    assert source_window(landmarks, size=256).matrix[0, 0] == pytest.approx(zoom / 2)


def test_window_moves_with_the_landmarks() -> None:
    landmarks = posed(roll=15)
    doubled = landmarks * 2 + np.float32([30, -10, 0])
    a, b = source_window(landmarks), source_window(doubled)
    places = landmarks[:, :2] @ a.matrix[:, :2].T + a.matrix[:, 2]
    np.testing.assert_allclose(doubled[:, :2] @ b.matrix[:, :2].T + b.matrix[:, 2], places, atol=0.01)


def test_inverse_undoes_the_matrix() -> None:
    window = source_window(posed(roll=40))
    there = np.vstack([window.matrix, [0, 0, 1]]).astype(np.float64)
    back = np.vstack([window.inverse(), [0, 0, 1]])
    np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-3)
    assert window.matrix.dtype == window.inverse().dtype == np.float32


def test_window_is_upright_if_eyes_and_mouth_coincide() -> None:
    landmarks = posed()
    landmarks[[33, 133, 159, 145, 362, 263, 386, 374, 61, 291], :2] = (300, 200)
    matrix = source_window(landmarks).matrix
    assert np.isfinite(matrix).all() and matrix[0, 1] == 0


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(UserError, match="no extent"):
        source_window(np.zeros((478, 3), np.float32))
    with pytest.raises(UserError, match="-1"):
        source_window(posed(), scale=-1)
    with pytest.raises(UserError, match="no face"):
        driving_window([])


def test_driving_window_is_the_mean_of_the_frames() -> None:
    frames = [posed(at=(100, 100), scale=10), posed(at=(140, 120), scale=14, roll=0)]
    matrices = [source_window(f, scale=2.2, y=-0.1, rotate=False).matrix.astype(np.float64) for f in frames]
    sides = [512 / m[0, 0] for m in matrices]
    centres = [(256 - m[:, 2]) / m[0, 0] for m in matrices]
    window = driving_window(iter(frames)).matrix
    assert 512 / window[0, 0] == pytest.approx(np.mean(sides), rel=1e-5)
    np.testing.assert_allclose((256 - window[:, 2]) / window[0, 0], np.mean(centres, axis=0), atol=0.01)
    assert window[0, 1] == window[1, 0] == 0
    wide = driving_window(iter(frames), crop=DrivingCrop(2 * DRIVING_SCALE, 0.1, DRIVING_Y))
    assert wide.side == pytest.approx(2 * driving_window(iter(frames)).side, rel=1e-5)
    rolled = driving_window([posed(roll=20)]).matrix
    assert rolled[0, 1] == 0, "the driving window never turns"


def test_crop_shows_the_window() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    shifted = CropWindow(np.array([[1, 0, -30], [0, 1, -50]], np.float32), 64)
    expected = np.zeros((64, 64, 3), np.uint8)
    expected[:40] = image[50:90, 30:94]
    np.testing.assert_array_equal(crop(image, shifted), expected)


def test_input_is_averaged_when_shrunk() -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    mean = image.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    small = to_input(image)
    assert small.shape == (256, 256, 3) and np.abs(small - mean).max() <= 1
    assert to_input(small) is small
    assert to_input(np.zeros((100, 150, 3), np.uint8)).shape == (256, 256, 3)


def test_crop_can_repeat_the_border() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    shifted = CropWindow(np.array([[1, 0, -30], [0, 1, -50]], np.float32), 64)
    continued = crop(image, shifted, replicate_border=True)
    np.testing.assert_array_equal(continued[:40], image[50:90, 30:94])
    np.testing.assert_array_equal(continued[40:], np.broadcast_to(image[89, 30:94], (24, 64, 3)))
