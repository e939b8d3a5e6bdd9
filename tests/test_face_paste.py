"""Paste-back: the exact mask, the exact formula, and no change outside the window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from liveportrait.face.crop import CropWindow, crop, to_input
from liveportrait.face.paste import Paster, paste_back, paste_mask

Image = NDArray[np.uint8]


def window(roll: float = 12, side: float = 300, x: float = 220, y: float = 150) -> CropWindow:
    """A window of 512 px around (x, y)."""
    zoom, angle = 512 / side, np.radians(roll)
    turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shift = 256 - turn @ [x, y]
    return CropWindow(np.concatenate([turn, shift[:, None]], axis=1).astype(np.float32), 512)


def whole_frame(generated: Image, place: CropWindow, frame: Image) -> Image:
    """The published formula, computed over the entire frame."""
    extent = frame.shape[1::-1]
    mask = cv2.warpAffine(paste_mask(place.size), place.inverse(), extent).astype(np.float32)[..., None] / 255
    placed = cv2.warpAffine(generated, place.inverse(), extent)
    return (mask * placed + (1 - mask) * frame).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frame() -> Image:
    return data.astronaut()


def test_mask_is_the_published_one() -> None:
    mask = paste_mask()
    assert mask.shape == (512, 512) and mask.dtype == np.uint8
    for y, x in [(0, 0), (0, 256), (3, 256), (8, 8), (15, 300), (16, 16), (256, 256), (496, 496), (497, 200),
                 (511, 256), (511, 511), (505, 503), (200, 15)]:  # fmt: skip
        dx = max(16 - x, x - 496, 0)
        dy = max(16 - y, y - 496, 0)
        assert mask[y, x] == int(255 * min(max(1 - (dx * dx + dy * dy) ** 0.5 / 16, 0), 1)), (y, x)
    assert (mask[16:497, 16:497] == 255).all() and (mask[0] == 0).all() and mask[256, 511] == 15


def test_equals_the_formula_over_the_whole_frame(frame: Image) -> None:
    generated = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    generated = np.asarray(cv2.GaussianBlur(generated, (0, 0), 2))
    for place in (window(), window(roll=0), window(x=20, y=500), window(side=1500), window(side=60)):
        result, expected = paste_back(generated, place, frame), whole_frame(generated, place, frame)
        # Coordinates relative to the box round differently, which rarely changes a pixel by one grey level.
        assert np.abs(result.astype(int) - expected).max() <= 1
        assert (result != expected).mean() < 0.01


def test_pixels_outside_the_window_stay(frame: Image) -> None:
    place = window()
    before = frame.copy()
    result = paste_back(np.full((512, 512, 3), 255, np.uint8), place, frame)
    outside = cv2.warpAffine(np.full((512, 512), 255, np.uint8), place.inverse(), frame.shape[1::-1]) == 0
    assert outside.any()
    np.testing.assert_array_equal(result[outside], frame[outside])
    np.testing.assert_array_equal(frame, before)
    assert (result[150, 220] == 255).all()


def test_pasting_a_frames_own_crop_changes_nothing(frame: Image) -> None:
    smooth = np.asarray(cv2.GaussianBlur(frame, (0, 0), 3))
    place = window(x=256, y=256)
    difference = np.abs(paste_back(crop(smooth, place), place, smooth).astype(int) - smooth)
    assert difference.max() <= 5 and difference.mean() < 0.3


def test_picture_of_half_the_window_lands_in_the_same_place(frame: Image) -> None:
    """256 px for a 512 px window: an error of half a pixel would shift edges by a pixel of the crop."""
    smooth = np.asarray(cv2.GaussianBlur(frame, (0, 0), 5))
    place = window(side=512)
    large = crop(smooth, place)
    small = to_input(large, 256)
    inner = cv2.warpAffine(paste_mask(), place.inverse(), frame.shape[1::-1]) == 255
    difference = paste_back(small, place, smooth).astype(int) - paste_back(large, place, smooth)
    assert np.abs(difference[inner]).mean() < 0.5

    off = Paster(place, frame.shape)
    off._to_box[:, 2] += off._to_box[:, :2].sum(axis=1) / 2
    wrong = off.paste(small, smooth).astype(int) - paste_back(large, place, smooth)
    assert np.abs(wrong[inner]).mean() > 2 * np.abs(difference[inner]).mean()


def test_one_paster_serves_many_frames(frame: Image) -> None:
    place = window()
    paster = Paster(place, frame.shape)
    rng = np.random.default_rng(1)
    for _ in range(3):
        generated = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        target = rng.integers(0, 256, frame.shape, dtype=np.uint8)
        np.testing.assert_array_equal(paster.paste(generated, target), paste_back(generated, place, target))


def test_a_window_outside_the_frame_leaves_it_unchanged(frame: Image) -> None:
    result = paste_back(np.full((512, 512, 3), 255, np.uint8), window(x=5000, y=-4000), frame)
    np.testing.assert_array_equal(result, frame)


def test_frame_of_another_size_is_refused(frame: Image) -> None:
    with pytest.raises(ValueError, match="512"):
        Paster(window(), frame.shape).paste(np.zeros((256, 256, 3), np.uint8), frame[:100])
