"""Face analysis in the browser: every number as Python has it, on the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from web_browser import image_of, picture


@pytest.fixture(scope="module")
def noise():
    """A picture (240,321,3) with detail everywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (240, 321, 3), np.uint8)
    return cv2.GaussianBlur(pixels, (3, 3), 0)


def alike(result, expected) -> None:
    """Pictures that differ by roundings alone."""
    difference = np.abs(image_of(result).astype(int) - expected)
    assert difference.shape == expected.shape
    assert difference.max() <= 1
    assert (difference > 0).mean() < 2e-3


@pytest.mark.parametrize("size", [(160, 120), (107, 80), (321, 120), (77, 51), (20, 9)])
def test_a_picture_shrinks_as_in_python(web, noise, size):
    script = "const {resizeArea} = await load('face/resampling.js'); return resizeArea(image, ...size);"
    alike(
        web.run(script, image=picture(noise), size=size),
        cv2.resize(noise, size, interpolation=cv2.INTER_AREA),
    )


@pytest.mark.parametrize("side", [80, 160])
def test_whole_pixels_become_one_as_in_python(web, noise, side):
    square = noise[:, :240] if side == 80 else np.pad(noise, ((0, 80), (0, 0), (0, 0)))[:, :320]
    script = "const {resizeArea} = await load('face/resampling.js'); return resizeArea(image, side, side);"
    result = image_of(web.run(script, image=picture(square), side=side))
    assert np.array_equal(result, cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("size", [(400, 300), (642, 480), (128, 128)])
def test_a_picture_grows_as_in_python(web, noise, size):
    script = "const {resizeLinear} = await load('face/resampling.js'); return resizeLinear(image, ...size);"
    alike(
        web.run(script, image=picture(noise), size=size),
        cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR),
    )


@pytest.mark.parametrize("replicate", [False, True])
def test_a_picture_is_turned_as_in_python(web, noise, replicate):
    """The window reaches outside on all sides."""
    matrix = cv2.getRotationMatrix2D((150.3, 118.8), 31.0, 0.6) + np.array([[0, 0, 9.7], [0, 0, -20.4]])
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    script = """const {invertAffine, warpAffine} = await load('face/resampling.js');
        return warpAffine(image, invertAffine(matrix), 280, 200, replicate);"""
    result = web.run(script, image=picture(noise), matrix=matrix.reshape(-1), replicate=replicate)
    expected = cv2.warpAffine(noise, matrix, (280, 200), flags=cv2.INTER_LINEAR, borderMode=border)
    alike(result, expected)
