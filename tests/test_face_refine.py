"""Refined pasting of generated crops: colours matched at the seam, detail carried over from the source, masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from liveportrait.animation.pipeline import moved_outline
from liveportrait.animation.source.base import FacePlacement
from liveportrait.face.canonical import OVAL, canonical_face
from liveportrait.face.crop import Square, crop, to_input
from liveportrait.face.paste import MASK_SIDE, outline_in_crop, paste_mask, seam_correction, with_detail
from liveportrait.motion import move_points
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Pose

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Image:
    """The astronaut's face, (256,256,3): finer than the 128 px that the model of these tests draws."""
    return np.ascontiguousarray(data.astronaut()[0:256, 96:352])


def seam_error(picture: Image, truth: Image) -> float:
    edge = (paste_mask(256) > 0) & (paste_mask(256) < 255)
    return float(np.abs(cv2.blur(picture.astype(float) - truth, (15, 15)))[edge].mean())


def match_at_seam(generated: Image, source: Image, mask: Image) -> Image:
    corrected = generated + seam_correction(generated, source, mask)
    return np.rint(corrected).clip(0, 255).astype(np.uint8)


def test_a_tint_is_corrected_and_moved_parts_are_not_compared(photo: Image) -> None:
    tinted = (photo * np.array([0.9, 1.0, 1.05]) + 4).clip(0, 255).astype(np.uint8)
    matched = match_at_seam(tinted, photo, paste_mask(256))
    assert seam_error(matched, photo) < 0.25 * seam_error(tinted, photo)
    same = match_at_seam(photo, photo, paste_mask(256))
    np.testing.assert_array_equal(same, photo)
    # A head that reaches the edge in only one of them is not used for colours.
    moved = photo.copy()
    moved[:, 190:] = 20
    elsewhere = match_at_seam(moved, photo, paste_mask(256))
    assert np.abs(elsewhere[64:192, 64:150].astype(int) - photo[64:192, 64:150]).mean() < 1


def sharpness(picture: Image) -> float:
    return float(np.abs(cv2.Laplacian(picture.astype(np.float32), -1)).mean())


def shifted(picture: Image, x: float, y: float) -> Image:
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return np.asarray(cv2.warpAffine(picture, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE))


@pytest.mark.parametrize("move", [(0.0, 0.0), (6.0, -4.0)])
def test_detail_is_restored_where_the_source_shows_it(photo: Image, move: tuple[float, float]) -> None:
    source, truth = to_input(photo, 128), shifted(photo, *move)
    generated = cv2.GaussianBlur(to_input(truth, 128), (0, 0), 0.7)
    plain = cv2.resize(generated, (256, 256), interpolation=cv2.INTER_LINEAR)
    detailed = with_detail(generated, source, photo)
    inner = (slice(20, 236), slice(20, 236))
    before, after = (np.abs(picture.astype(float) - truth)[inner].mean() for picture in (plain, detailed))
    assert after < 0.6 * before
    assert sharpness(detailed[inner]) > 0.8 * sharpness(truth[inner]) > 1.6 * sharpness(plain[inner])


def test_parts_that_the_source_does_not_show_stay_as_generated(photo: Image) -> None:
    generated = to_input(photo, 128)
    generated[60:80, 50:80] = (40, 0, 0)  # a mouth that opens
    detailed = to_input(with_detail(generated, to_input(photo, 128), photo), 128)
    assert np.abs(detailed[64:76, 55:75].astype(int) - generated[64:76, 55:75]).max() <= 3


def test_coarse_colours_stay_as_generated(photo: Image) -> None:
    generated = (to_input(photo, 128) * 0.97).astype(np.uint8)
    detailed = to_input(with_detail(generated, to_input(photo, 128), photo), 128)
    assert abs(float(detailed.mean()) - float(generated.mean())) < 0.7


def test_a_crop_of_another_size_shows_the_same_place() -> None:
    frame = cv2.GaussianBlur(data.astronaut(), (0, 0), 3)
    window = Square(np.array([220.0, 150.0]), 300.0, 0.2).window()
    assert window.side == pytest.approx(300, rel=1e-5)
    small = crop(frame, window.resized(256)).astype(int)
    assert np.abs(small - to_input(crop(frame, window), 256)).mean() < 0.3


def pose(yaw: float, x: float = 0.0, scale: float = 1.3) -> Pose:
    rotation = rotation_matrix(*(torch.tensor([angle]) for angle in (0.0, yaw, 0.0)))
    points = torch.linspace(-0.3, 0.3, 63).reshape(1, 21, 3)
    shift = torch.tensor([[x, 0.0, 0.0]])
    return Pose(
        scale * points @ rotation + shift[:, None],
        rotation,
        shift,
        torch.tensor([[scale]]),
        torch.zeros(1, 1),
    )


def test_points_of_the_face_follow_the_head_and_the_keypoints() -> None:
    home, away = pose(0.0), pose(25.0, 0.1, 1.5)
    points = torch.tensor([[0.2, 0.1, -0.3], [-0.5, 0.4, 0.1]])
    expected = 1.5 * (points / 1.3) @ away.rotation[0] + torch.tensor([0.1, 0.0, 0.0])
    torch.testing.assert_close(move_points(points, home, away)[0], expected)
    # A keypoint that moves by itself moves nearby points, but not distant ones.
    lowered = home.keypoints.clone()
    lowered[:, 20, 1] += 0.2
    near, far = home.keypoints[0, 20], torch.tensor([-0.9, -0.9, 0.0])
    moved = move_points(torch.stack([near, far]), home, home._replace(keypoints=lowered))[0]
    assert moved[0, 1] - near[1] > 0.04 and (moved[1] - far).abs().max() < 1e-4


def test_the_outline_of_a_face_moves_with_it() -> None:
    outline = canonical_face().vertices[list(OVAL)]
    outline = (8 * (outline - outline.mean(axis=0)) + np.array([200, 150, 0])).astype(np.float32)
    window = Square(np.array([200.0, 150.0]), 300.0, 0.0).window()
    placement = FacePlacement(window, 130.0, outline)
    stayed = moved_outline(placement, pose(0.0), pose(0.0))
    np.testing.assert_allclose(stayed, outline_in_crop(outline, window, MASK_SIDE), atol=1e-3)
    right = moved_outline(placement, pose(0.0), pose(0.0, x=0.25))
    np.testing.assert_allclose(right - stayed, [[0.25 * MASK_SIDE / 2, 0]] * 36, atol=1e-3)
