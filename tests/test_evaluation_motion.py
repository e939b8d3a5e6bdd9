"""Measures of motion, seams, identity and distributions on cases with known figures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from liveportrait import metrics
from liveportrait.face import default_analyzer
from liveportrait.face.canonical import canonical_face
from liveportrait.face.crop import CropWindow
from liveportrait.face.measures import HeadPose
from liveportrait.face.paste import paste_back


def portrait() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:256, 96:352])


def shifted(picture: np.ndarray, across: float, down: float) -> np.ndarray:
    matrix = np.array([[1.0, 0.0, across], [0.0, 1.0, down]])
    return cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def moving_points(frames: int, noise: float) -> np.ndarray:
    """A gliding face of 300 points with white noise of the given standard deviation, (T,300,2) px."""
    rng = np.random.default_rng(0)
    face = rng.uniform(50, 200, (300, 2))
    glide = np.arange(frames)[:, None, None] * np.array([1.5, -0.5])
    return (face + glide + rng.normal(0, noise, (frames, 300, 2))).astype(np.float32)


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_jitter_is_the_noise_and_a_glide_has_none(noise: float) -> None:
    assert metrics.jitter(moving_points(30, 0.0), unit=50) < 1e-4
    assert metrics.jitter(moving_points(30, noise), unit=50) == pytest.approx(noise / 50, rel=0.05)


def test_jitter_leaves_out_frames_without_a_face() -> None:
    tracks = moving_points(30, 0.0)
    tracks[10] = np.nan
    assert metrics.jitter(tracks, unit=50) < 1e-4
    assert np.isnan(metrics.jitter(tracks[:2], unit=50))


def test_shaking_a_rigid_face_is_jitter_but_not_shape_jitter() -> None:
    rng = np.random.default_rng(1)
    still, shaken = moving_points(20, 0.0), []
    for frame in still:
        angle, size = rng.normal(0, 0.05), rng.normal(1, 0.03)
        turn = size * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        shaken.append(frame @ turn + rng.normal(0, 3, 2))
    tracks = np.stack(shaken).astype(np.float32)
    assert metrics.jitter(tracks, unit=50) > 0.05
    assert metrics.jitter(metrics.without_rigid_motion(tracks), unit=50) < 1e-4


def test_scale_wobble_is_what_remains_beside_the_driver() -> None:
    rng = np.random.default_rng(2)
    driver = np.linspace(8, 12, 400)
    assert metrics.scale_wobble(0.7 * driver, driver) == pytest.approx(0, abs=1e-6)
    swaying = 0.7 * driver * np.exp(rng.normal(0, 0.02, 400))
    assert metrics.scale_wobble(swaying, driver) == pytest.approx(2, rel=0.1)


def test_displacement_of_a_shifted_picture_is_the_shift() -> None:
    source = portrait()
    region = metrics.shoulder_region(256, [])
    assert metrics.displacement(source, source, region) == pytest.approx(0, abs=0.01)
    moved = metrics.displacement(source, shifted(source, 4, 3), region)
    assert moved == pytest.approx(5 / 256 * 100, rel=0.15)
    plain = np.full((256, 256, 3), 90, np.uint8)
    assert np.isnan(metrics.displacement(plain, plain, region))


def test_background_regions_exclude_the_face() -> None:
    landmarks = default_analyzer().detect(portrait())[0].landmarks
    background, shoulders = metrics.background_region(256, [landmarks]), metrics.shoulder_region(256, [])
    assert background[4, 4] and background[120, 250] and not background[250, 250]
    assert shoulders[250, 128] and not shoulders[200, 128] and not (background & shoulders).any()
    low = landmarks + np.float32([0, 256 - landmarks[152, 1], 0])  # the chin on the lower border
    column, row = int(low[152, 0]), 254
    assert shoulders[row, column] and not metrics.shoulder_region(256, [low])[row, column]


@pytest.mark.parametrize("roll", [0.0, 0.3])
def test_seam_energy_of_a_brighter_paste_is_the_slope_of_the_soft_edge(roll: float) -> None:
    original = np.full((300, 300, 3), 100, np.uint8)
    turn = cv2.getRotationMatrix2D((150, 150), np.degrees(roll), 1.0)
    turn[:, 2] -= 75
    window = CropWindow(turn.astype(np.float32), 150)
    seam = metrics.Seam(original, window)
    assert seam.energy(original) == 0
    step, edge = 40, 150 / 32  # the mask falls off over 1/32 of the window
    pasted = paste_back(np.full((150, 150, 3), 100 + step, np.uint8), window, original)
    # The band is about a pixel wider on both sides than the fall-off itself.
    assert 0.6 * step / edge < seam.energy(pasted) <= step / edge
    unchanged = paste_back(np.full((150, 150, 3), 100, np.uint8), window, original)
    assert abs(seam.energy(unchanged)) < 0.5  # pasting truncates fractions of a grey level


def test_gaze_follows_the_eyeball_model() -> None:
    mesh = canonical_face().vertices * 10  # px
    landmarks = np.concatenate([mesh, np.zeros((10, 3), np.float32)])
    upright = HeadPose(np.eye(3, dtype=np.float32), 10.0, np.zeros(3, np.float32))
    for iris, corners in ((468, (33, 133)), (473, (362, 263))):
        middle, width = mesh[list(corners)].mean(0), np.linalg.norm(np.diff(mesh[list(corners), :2], axis=0))
        landmarks[iris] = middle + np.float32([width / 6, 0, 0])  # sin θ = 3 / 6
    across, down = metrics.gaze_angles(landmarks, upright)
    assert across == pytest.approx(30, abs=0.1) and down == pytest.approx(0, abs=0.1)
    # A head on its side has the same gaze relative to the head
    turn = np.float32([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    turned = metrics.gaze_angles(landmarks @ turn, upright._replace(rotation=turn))
    assert turned == pytest.approx([across, down], abs=0.1)


def test_frechet_distance_of_equal_sets_is_zero_and_of_a_shift_its_square() -> None:
    rng = np.random.default_rng(3)
    for count in (40, 400):  # fewer and more rows than dimensions
        a = rng.normal(0, 1, (count, 60)).astype(np.float32)
        assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
        assert metrics.frechet_distance(a, a + np.float32(0.5)) == pytest.approx(60 * 0.25, rel=1e-4)
        # Scaled by 2, the square root of the product of the covariances is 2 Σ, which leaves tr Σ.
        centred = a - a.mean(0)
        assert metrics.frechet_distance(centred, 2 * centred) == pytest.approx(
            np.trace(np.cov(centred.T)), rel=1e-4
        )
    assert np.isnan(metrics.frechet_distance(a[:1], a))


def test_fewer_rows_make_the_frechet_distance_of_one_distribution_larger() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(0, 1, (2000, 50)).astype(np.float32)
    few, many = (
        metrics.frechet_distance(rows[:50], rows[50:100]),
        metrics.frechet_distance(rows[:1000], rows[1000:]),
    )
    assert few > 5 * many


def test_identity_measures() -> None:
    rng = np.random.default_rng(5)
    people = (rng.normal(0, 0.1, (30, 128)) + 0.3).astype(np.float32)  # embeddings share a large mean
    centre = people.mean(0)
    assert metrics.centred_cosine(people[0], people[0], centre) == pytest.approx(1)
    others = [metrics.centred_cosine(people[0], other, centre) for other in people[1:]]
    assert abs(np.mean(others)) < 0.1
    moved = people[0] + np.eye(128, dtype=np.float32)[3] * 0.25
    assert metrics.identity_distance(moved, people[0]) == pytest.approx(0.25, abs=1e-5)


def test_a_clip_that_fades_in_is_not_well_exposed() -> None:
    clip = np.stack([portrait()] * 5)
    assert metrics.is_well_exposed(clip)
    faded = clip.copy()
    faded[0] = clip[0] // 2 + 127
    assert not metrics.is_well_exposed(faded)
