"""Detection, landmarks, tracking and blendshapes on photographs that scikit-image ships."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer, default_analyzer

Image = NDArray[np.uint8]

# Annotated by eye: right iris, left iris, corners of the mouth, tip of the chin.
LANDMARKS = (468, 473, 61, 291, 152)
PLACES = np.array([[204, 101], [247, 103], [202, 139], [245, 141], [221, 178]], np.float32)
SMILE_LEFT, JAW_OPEN, BLINK_LEFT = 44, 25, 9


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return default_analyzer()


@pytest.fixture(scope="module")
def astronaut() -> Image:
    return data.astronaut()


@pytest.fixture(scope="module")
def face(analyzer: FaceAnalyzer, astronaut: Image) -> Face:
    return analyzer.detect(astronaut)[0]


def turned(image: Image, degrees: float, zoom: float = 1.0) -> tuple[Image, NDArray[np.float64]]:
    """The picture rotated about the astronaut's nose, and the matrix of the rotation."""
    matrix = cv2.getRotationMatrix2D((224, 127), degrees, zoom)
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1])), matrix


def moved(points: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[:, :2] @ matrix[:, :2].T + matrix[:, 2]


def distance(found: Face, expected: NDArray[np.floating]) -> float:
    """Mean distance of the landmarks, as a fraction of the face's expected height."""
    return float(np.linalg.norm(found.landmarks[:, :2] - expected, axis=1).mean() / np.ptp(expected[:, 1]))


def test_landmarks_are_on_the_face(analyzer: FaceAnalyzer, astronaut: Image) -> None:
    faces = analyzer.detect(astronaut)
    assert len(faces) == 1
    assert faces[0].landmarks.shape == (478, 3) and faces[0].landmarks.dtype == np.float32
    assert faces[0].score > 0.99
    np.testing.assert_allclose(faces[0].landmarks[list(LANDMARKS), :2], PLACES, atol=2.5)
    x0, y0, x1, y1 = faces[0].box
    assert (faces[0].landmarks[:, :2] >= (x0, y0)).all() and (faces[0].landmarks[:, :2] <= (x1, y1)).all()
    assert faces[0].landmarks[4, 2] < faces[0].landmarks[152, 2], "the nose is nearer than the chin"


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_no_face_in_other_photographs(analyzer: FaceAnalyzer, name: str) -> None:
    assert analyzer.detect(getattr(data, name)()) == []


def test_no_face_in_noise_or_nothing(analyzer: FaceAnalyzer) -> None:
    rng = np.random.default_rng(0)
    assert analyzer.detect(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)) == []
    blotches = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert analyzer.detect(np.asarray(cv2.resize(blotches, (320, 240)))) == []
    assert analyzer.detect(np.full((100, 100, 3), 127, np.uint8)) == []
    assert analyzer.detect(np.zeros((1, 1, 3), np.uint8)) == []
    assert analyzer.detect(np.zeros((3, 900, 3), np.uint8)) == []


@pytest.mark.parametrize("degrees", [-30, 30])
def test_rotated_face_is_found(analyzer: FaceAnalyzer, astronaut: Image, face: Face, degrees: int) -> None:
    image, matrix = turned(astronaut, degrees)
    found = analyzer.detect(image, smallest=80)
    assert len(found) == 1
    assert distance(found[0], moved(face.landmarks, matrix)) < 0.03


def test_every_small_face_of_a_wide_shot_is_found(
    analyzer: FaceAnalyzer, astronaut: Image, face: Face
) -> None:
    frame = np.asarray(cv2.resize(data.coffee(), (1920, 1080)))
    side = 512 * 40 / np.ptp(face.landmarks[:, 1])  # the face is 40 px high in it
    small = np.asarray(cv2.resize(astronaut, (round(side), round(side)), interpolation=cv2.INTER_AREA))
    spots = [(3, 5), (611, 100), (1729, 17), (250, 840), (905, 500), (1730, 888)]
    for x, y in spots:
        frame[y : y + len(small), x : x + len(small)] = small
    found = analyzer.detect(frame)
    assert len(found) == len(spots)
    for x, y in spots:
        expected = face.landmarks[:, :2] * len(small) / 512 + (x, y)
        assert min(distance(one, expected) for one in found) < 0.05
    assert len(analyzer.detect(frame, smallest=500)) < len(spots), "the search stops at the size asked for"


def test_largest_face_comes_first(analyzer: FaceAnalyzer, astronaut: Image) -> None:
    head = astronaut[:256, 96:352]
    shrunk = np.asarray(cv2.resize(head, (128, 128), interpolation=cv2.INTER_AREA))
    frame = np.full((300, 500, 3), 127, np.uint8)
    frame[20:148, 20:148] = shrunk
    frame[20:276, 220:476] = head
    near, far = analyzer.detect(frame)
    assert near.box[0] > 220 and far.box[2] < 148


def test_a_face_that_fills_the_picture_is_found(analyzer: FaceAnalyzer, astronaut: Image, face: Face) -> None:
    x0, y0, x1, y1 = (round(side) for side in face.box)
    tight = np.ascontiguousarray(astronaut[y0 + 10 : y1 - 10, x0 + 5 : x1 - 5])
    tight = np.asarray(cv2.resize(tight, None, fx=3, fy=3))
    found = analyzer.detect(tight, smallest=100)
    assert len(found) == 1
    assert distance(found[0], (face.landmarks[:, :2] - (x0 + 5, y0 + 10)) * 3 + 1) < 0.05


def test_large_picture_gives_the_same_face(analyzer: FaceAnalyzer, astronaut: Image, face: Face) -> None:
    """Including when a large face is shrunk first to prevent aliasing."""
    large = np.asarray(cv2.resize(astronaut, None, fx=6.5, fy=6.5, interpolation=cv2.INTER_CUBIC))
    found = analyzer.detect(large, smallest=400)
    assert len(found) == 1
    assert distance(found[0], (face.landmarks[:, :2] + 0.5) * 6.5 - 0.5) < 0.02


def test_track_follows_a_moving_face_and_notices_its_loss(
    analyzer: FaceAnalyzer, astronaut: Image, face: Face
) -> None:
    previous = face
    for step in range(1, 6):
        frame, matrix = turned(astronaut, 4 * step, 1 + 0.03 * step)
        matrix[:, 2] += (8 * step, 5 * step)
        frame = np.asarray(cv2.warpAffine(astronaut, matrix, (512, 512)))
        current = analyzer.track(frame, previous)
        assert current is not None
        assert distance(current, moved(face.landmarks, matrix)) < 0.04
        previous = current
    assert analyzer.track(np.asarray(cv2.resize(data.coffee(), (512, 512))), previous) is None
    gone = Face(previous.landmarks + np.float32(5000), 1.0)
    assert analyzer.track(astronaut, gone) is None


def test_tracking_a_detected_face_does_not_move_it(
    analyzer: FaceAnalyzer, astronaut: Image, face: Face
) -> None:
    again = analyzer.track(astronaut, face)
    assert again is not None
    assert distance(again, face.landmarks[:, :2]) < 0.01


def test_blendshapes_name_the_expression(analyzer: FaceAnalyzer, face: Face) -> None:
    scores = analyzer.blendshapes(face)
    assert scores.shape == (52,) and (scores >= 0).all() and (scores <= 1).all()
    assert scores[SMILE_LEFT] > 0.5 and scores[SMILE_LEFT + 1] > 0.5
    assert scores[JAW_OPEN] < 0.2 and scores[BLINK_LEFT] < 0.3
    elsewhere = Face(face.landmarks * 3 + np.float32(100), 1.0)
    np.testing.assert_allclose(analyzer.blendshapes(elsewhere), scores, atol=1e-3)


def test_threads_can_share_an_analyzer(analyzer: FaceAnalyzer, astronaut: Image, face: Face) -> None:
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    expected = analyzer.detect(mirrored, smallest=80)[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: analyzer.detect(i, smallest=80)[0], [astronaut, mirrored] * 4))
    for index, one in enumerate(found):
        np.testing.assert_array_equal(one.landmarks, (expected if index % 2 else face).landmarks)


def test_nothing_is_sent_anywhere(astronaut: Image) -> None:
    """OpenVINO has a telemetry package: reading and compiling networks must not trigger it."""
    watched = {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn"}
    seen: list[str] = []
    watching = True

    def hook(event: str, _: object) -> None:
        if watching and event in watched:
            seen.append(event)

    sys.addaudithook(hook)
    default_analyzer().detect(astronaut, smallest=80)
    watching = False
    assert seen == []


def test_bad_arguments_are_refused(analyzer: FaceAnalyzer, astronaut: Image) -> None:
    with pytest.raises(ValueError, match="uint8"):
        analyzer.detect(astronaut[:, :, 0])
    with pytest.raises(ValueError, match="float64"):
        analyzer.detect(astronaut / 255)
    with pytest.raises(UserError, match="smallest face"):
        analyzer.detect(astronaut, smallest=0)
    with pytest.raises(UserError, match="-1 threads"):
        default_analyzer(threads=-1)
