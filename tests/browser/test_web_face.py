"""Face analysis in the browser gives Python's numbers on the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from web_browser import image_of, picture
from web_networks import face_networks

from liveportrait.animation.options import SourceOptions
from liveportrait.animation.source import photo
from liveportrait.apps.web.face_constants import face_constants
from liveportrait.face import Face, default_analyzer
from liveportrait.face.crop import crop_to, driving_window, face_square
from liveportrait.face.detector import Detector
from liveportrait.networks.variants import COMPACT

# Constants as the manifest has them.
START = "(await load('constants.js')).setConstants({face: numbers});"
NUMBERS = face_constants()


@pytest.fixture(scope="module")
def analyzer():
    """The program's face analyzer."""
    return default_analyzer()


@pytest.fixture(scope="module")
def portrait():
    """A photograph (512,512,3)."""
    return astronaut()


@pytest.fixture(scope="module")
def face(analyzer, portrait) -> Face:
    """The face in the photograph."""
    return analyzer.detect(portrait)[0]


@pytest.fixture(scope="module")
def noise():
    """A picture (240,321,3) with detail everywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (240, 321, 3), np.uint8)
    return cv2.GaussianBlur(pixels, (3, 3), 0)


def alike(result, expected) -> None:
    """Assert that pictures differ only by rounding."""
    difference = np.abs(image_of(result).astype(int) - expected)
    assert difference.shape == expected.shape
    assert difference.max() <= 1
    assert (difference > 0).mean() < 2e-3


@pytest.mark.parametrize("size", [(160, 120), (107, 80), (321, 120), (77, 51), (20, 9)])
def test_a_picture_is_reduced_as_in_python(web, noise, size):
    script = "const {resizeArea} = await load('face/resampling.js'); return resizeArea(image, ...size);"
    alike(
        web.run(script, image=picture(noise), size=size),
        cv2.resize(noise, size, interpolation=cv2.INTER_AREA),
    )


@pytest.mark.parametrize("side", [80, 160])
def test_blocks_of_pixels_are_averaged_as_in_python(web, noise, side):
    square = noise[:, :240] if side == 80 else np.pad(noise, ((0, 80), (0, 0), (0, 0)))[:, :320]
    script = "const {resizeArea} = await load('face/resampling.js'); return resizeArea(image, side, side);"
    result = image_of(web.run(script, image=picture(square), side=side))
    assert np.array_equal(result, cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("size", [(400, 300), (642, 480), (128, 128)])
def test_a_picture_is_enlarged_as_in_python(web, noise, size):
    script = "const {resizeLinear} = await load('face/resampling.js'); return resizeLinear(image, ...size);"
    alike(
        web.run(script, image=picture(noise), size=size),
        cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR),
    )


@pytest.mark.parametrize("replicate", [False, True])
def test_a_picture_is_rotated_as_in_python(web, noise, replicate):
    """The window reaches outside on all sides."""
    matrix = cv2.getRotationMatrix2D((150.3, 118.8), 31.0, 0.6) + np.array([[0, 0, 9.7], [0, 0, -20.4]])
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    script = """const {invertAffine, warpAffine} = await load('face/resampling.js');
        return warpAffine(image, invertAffine(matrix), 280, 200, replicate);"""
    result = web.run(script, image=picture(noise), matrix=matrix.reshape(-1), replicate=replicate)
    expected = cv2.warpAffine(noise, matrix, (280, 200), flags=cv2.INTER_LINEAR, borderMode=border)
    alike(result, expected)


def two_faces(portrait):
    """The photograph twice, once smaller and rotated, on a larger background (560,800,3)."""
    matrix = cv2.getRotationMatrix2D((224, 127), -25.0, 0.55) + np.array([[0, 0, 430], [0, 0, 250]])
    ground = cv2.warpAffine(portrait, matrix, (800, 560))
    ground[20:420, 10:410] = portrait[:400, :400]
    return ground


def test_boxes_equal_pythons(web, portrait):
    scene = two_faces(portrait)
    script = (
        START
        + """const {Detector} = await load('face/detector.js');
        return new Detector(networks.face_detector).detect(image, 55);"""
    )
    result = web.run(script, face_networks(), numbers=NUMBERS, image=picture(scene))
    expected = list(Detector(threads=1)(scene, 55))
    assert len(result) == len(expected) >= 3
    for found, own in zip(result, expected, strict=True):
        assert found["score"] == pytest.approx(own.score, abs=1e-4)
        np.testing.assert_allclose(found["box"], own.box, atol=0.05)
        np.testing.assert_allclose([found["rightEye"], found["leftEye"]], own.eyes, atol=0.05)


def test_faces_equal_pythons(web, analyzer, portrait):
    scene = two_faces(portrait)
    script = (
        START
        + """const {FaceAnalyzer} = await load('face/analyzer.js');
        return new FaceAnalyzer(networks).detect(image, 55);"""
    )
    result = web.run(script, face_networks(), numbers=NUMBERS, image=picture(scene))
    expected = analyzer.detect(scene, 55)
    assert len(result) == len(expected) == 2
    for found, own in zip(result, expected, strict=True):
        assert found["score"] == pytest.approx(own.score, abs=1e-4)
        np.testing.assert_allclose(found["landmarks"].reshape(-1, 3), own.landmarks, atol=0.05)


def test_a_face_in_a_large_photo_is_measured_as_in_python(web, analyzer, portrait):
    """Its square is larger than what the network takes, and reaches outside the picture."""
    large = cv2.resize(portrait[60:200, 165:285], None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    box = (86.0, 60.0, 634.0, 711.0)
    script = (
        START
        + """const {FaceAnalyzer} = await load('face/analyzer.js');
        return new FaceAnalyzer(networks).within(image, box);"""
    )
    result = web.run(script, face_networks(), numbers=NUMBERS, image=picture(large), box=box)
    expected = analyzer.within(large, box)
    np.testing.assert_allclose(result["landmarks"].reshape(-1, 3), expected.landmarks, atol=0.05)


def test_scores_equal_pythons(web, analyzer, face):
    script = (
        START
        + """const {FaceAnalyzer} = await load('face/analyzer.js');
        return new FaceAnalyzer(networks).blendshapes({landmarks, score: 1});"""
    )
    result = web.run(script, face_networks(), numbers=NUMBERS, landmarks=face.landmarks.reshape(-1))
    np.testing.assert_allclose(result, analyzer.blendshapes(face), atol=1e-6)


def test_an_empty_picture_has_no_face(web):
    script = (
        START
        + """const {FaceAnalyzer} = await load('face/analyzer.js');
        return new FaceAnalyzer(networks).detect(image, 100);"""
    )
    blank = np.full((200, 300, 3), 90, np.uint8)
    assert web.run(script, face_networks(), numbers=NUMBERS, image=picture(blank)) == []


@pytest.mark.parametrize("zoom", [1, 5])
def test_the_crop_equals_pythons(web, face, portrait, zoom):
    """A face that the crop enlarges, and one that it reduces."""
    image = cv2.resize(portrait[:300, 70:370], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
    landmarks = (face.landmarks - [70, 0, 0]).astype(np.float32) * zoom
    script = (
        START
        + """const crop = await load('face/crop.js');
        const window = crop.sourceWindow(landmarks);
        return {square: crop.faceSquare(landmarks), window, side: crop.sideOf(window),
                driving: crop.meanWindow([crop.drivingSquare(landmarks)]).matrix,
                cut: crop.cut(image, window), shown: crop.cropTo(image, window, 96)};"""
    )
    result = web.run(script, numbers=NUMBERS, image=picture(image), landmarks=landmarks.reshape(-1))
    square = face_square(landmarks)
    window = photo.window_of(square, SourceOptions())
    np.testing.assert_allclose(result["square"]["centre"], square.centre, atol=1e-3)
    assert result["square"]["side"] == pytest.approx(square.side)
    assert result["square"]["roll"] == pytest.approx(square.roll)
    assert result["window"]["size"] == window.size
    np.testing.assert_allclose(result["window"]["matrix"].reshape(2, 3), window.matrix, rtol=1e-6)
    np.testing.assert_allclose(
        result["driving"].reshape(2, 3), driving_window([landmarks]).matrix, rtol=1e-6, atol=1e-6
    )
    assert result["side"] == pytest.approx(window.side)
    alike(result["cut"], photo.cut(image, window, COMPACT))
    alike(result["shown"], crop_to(image, window, 96))
