"""The identity embedding: close for one person however framed, far for another, differentiable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from liveportrait.face import default_analyzer
from liveportrait.face.identity import CHIP_LANDMARKS, SAME_PERSON, FaceIdentity, align_chips


@pytest.fixture(scope="module")
def astronaut() -> tuple[np.ndarray, np.ndarray]:
    picture = data.astronaut()
    return picture, default_analyzer().detect(picture)[0].landmarks


def test_a_turned_darker_smaller_copy_is_the_same_person(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    picture, landmarks = astronaut
    matrix = cv2.getRotationMatrix2D((224, 120), 20, 0.7)
    copy = (cv2.warpAffine(picture, matrix, (512, 512)) * 0.8).astype(np.uint8)
    moved = landmarks.copy()
    moved[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    gap = np.linalg.norm(
        FaceIdentity().embedding(picture, landmarks)
        - FaceIdentity().embedding(copy, moved.astype(np.float32))
    )
    assert gap < 0.3


def test_an_upside_down_crop_is_another_person(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    picture, landmarks = astronaut
    flipped = np.ascontiguousarray(picture[::-1])
    gap = np.linalg.norm(
        FaceIdentity().embedding(picture, landmarks) - FaceIdentity().embedding(flipped, landmarks)
    )
    assert gap > SAME_PERSON


def test_the_picture_receives_a_gradient(astronaut: tuple[np.ndarray, np.ndarray]) -> None:
    picture, landmarks = astronaut
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float().div(255).requires_grad_(True)
    points = torch.from_numpy(landmarks[list(CHIP_LANDMARKS), :2]).float()[None]
    FaceIdentity()(align_chips(image, points)).square().sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
