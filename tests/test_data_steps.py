"""The steps of preparation one by one, on data with known answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest
from prepare_samples import scene, talking
from skimage.data import coffee

from liveportrait.data.preparation.clips import (
    ClipWindow,
    Dropped,
    PreparedClip,
    TrackDivider,
    divide_by_window,
    fit_window,
    inside,
)
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.quality import (
    FaceMeasures,
    faded_ends,
    jitter,
    measure_region,
    quality,
    shape_motion,
)
from liveportrait.data.preparation.samples import merge_adjacent
from liveportrait.data.preparation.tracks import FaceTrack, TrackCollector, at_rate
from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.face import Face
from liveportrait.face.analyzer import OpenVinoFaceAnalyzer
from liveportrait.face.canonical import canonical_face
from liveportrait.media.cuts import FACE_REGION, CutFinder, region_change

OPTIONS = PrepareOptions()
GOOD = FaceMeasures(sharpness=0.2, brightness=120, contrast=50, lost=0)


def mesh(x: float = 320, y: float = 240, size: float = 9, spread: float = 0.0, seed: int = 0) -> np.ndarray:
    """The canonical face as landmarks (478,3) px, centred at (x, y), `size` px per centimetre."""
    vertices = canonical_face().vertices - canonical_face().vertices.mean(0)
    points = np.concatenate([vertices, np.zeros((10, 3), np.float32)]) * size + [x, y, 0]
    return (points + np.random.default_rng(seed).normal(0, spread, points.shape)).astype(np.float32)


# cuts


def test_a_cut_is_distinguished_from_motion_flicker_and_light() -> None:
    other = np.ascontiguousarray(coffee()[:300, :400])
    shot = talking(12)
    frames = [
        *shot,
        *(np.full_like(shot[0], 0) + frame // 2 + 60 for frame in shot[6:]),
        *[other] * 4,
        *shot[:4],
    ]
    frames[12:18] = [(frame * (1 - 0.1 * k)).astype(np.uint8) for k, frame in enumerate(shot[6:])]
    detector = CutFinder(FACE_REGION)
    cuts = [k + 1 for k in range(len(frames) - 1) if detector.is_cut(region_change(frames[k], frames[k + 1]))]
    assert cuts == [18, 22]


def test_fast_motion_is_not_a_cut() -> None:
    detector = CutFinder(FACE_REGION)
    assert not any(detector.is_cut(region_change(scene(20.0 * k), scene(20.0 * (k + 1)))) for k in range(4))


# rate


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (Fraction(50), [0, 2, 4, 6, 8]),
        (Fraction(25), list(range(10))),
        (Fraction(30000, 1001), [0, 1, 2, 3, 4, 5, 7, 8, 9]),
        (Fraction(20), [0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9]),
    ],
)
def test_resampling_uses_the_nearest_earlier_frame(source: Fraction, wanted: list[int]) -> None:
    frames = [np.full((1, 1, 3), number, np.uint8) for number in range(10)]
    shown = [int(frame[0, 0, 0]) for frame in at_rate(frames, source, 25)]
    assert shown == wanted


# tracking


class FakeAnalyzer(OpenVinoFaceAnalyzer):
    """Finds the faces that a script places in the frames; a frame's first pixel is its number."""

    def __init__(self, script: dict[int, list[np.ndarray]]) -> None:
        self.script = script

    def _faces(self, image: np.ndarray) -> list[Face]:
        return [Face(points, 0.9) for points in self.script.get(int(image[0, 0, 0]), [])]

    def detect(self, image: np.ndarray, smallest: float | None = None) -> list[Face]:
        return self._faces(image)

    def track(self, image: np.ndarray, previous: Face) -> Face | None:
        def gap(face: Face) -> float:
            return float(np.linalg.norm(face.landmarks.mean(0) - previous.landmarks.mean(0)))

        return min(self._faces(image), key=gap, default=None)

    def blendshapes(self, face: Face) -> np.ndarray:
        return np.zeros(52, np.float32)

    def identity(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        return np.zeros(128, np.float32)


def numbered(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    ground = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    for number in range(count):
        frame = ground.copy()
        frame[0, 0] = number
        yield frame


def follow(
    script: dict[int, list[np.ndarray]], count: int, options: PrepareOptions = OPTIONS
) -> TrackCollector:
    collector = TrackCollector(FakeAnalyzer(script), options)
    collector.tracks = list(collector.collect(numbered(count)))  # type: ignore[attr-defined]
    return collector


def test_people_who_come_and_go_have_their_own_tracks() -> None:
    left, right = mesh(160, 200), mesh(480, 200)
    script = {k: [left, right] if 10 <= k < 30 else [left] for k in range(60)}
    tracks = follow(script, 60).tracks  # type: ignore[attr-defined]
    spans = sorted(
        (track.start, len(track.faces), float(track.last.landmarks[:, 0].mean())) for track in tracks
    )
    assert [span[:2] for span in spans] == [(0, 60), (12, 18)]
    assert spans[0][2] < 320 < spans[1][2]


def test_a_face_that_jumps_starts_another_track() -> None:
    script = {k: [mesh(200, 200) if k < 20 else mesh(300, 200)] for k in range(40)}
    tracks = follow(script, 40).tracks  # type: ignore[attr-defined]
    assert [(track.start, len(track.faces)) for track in tracks] == [(0, 20), (20, 20)]


def test_long_tracks_are_divided_without_losing_a_frame() -> None:
    options = PrepareOptions(max_seconds=2.0)
    tracks = follow({k: [mesh()] for k in range(120)}, 120, options).tracks  # type: ignore[attr-defined]
    assert [(track.start, len(track.faces)) for track in tracks] == [(0, 50), (50, 50), (100, 20)]


def test_small_faces_are_recorded_but_not_tracked() -> None:
    collector = follow({k: [mesh(size=3)] for k in range(30)}, 30)
    assert not collector.tracks and collector.small  # type: ignore[attr-defined]


# clips


def track_of(frames: int, start: int = 0) -> FaceTrack:
    track = FaceTrack(start, Face(mesh(), 1.0))
    for k in range(frames):
        points = mesh(320 + 5 * np.sin(k / 9), 240)
        points[[13, 14, 78, 308], 1] += 4 * np.sin(k / 3)
        track.faces.append(Face(points, 1.0))
        track.measures.append(GOOD)
        track.differences.append(1.0)
        if k % 25 == 0:
            track.embeddings.append((k, np.zeros(128, np.float32)))
    return track


def divided(
    track: FaceTrack, options: PrepareOptions = OPTIONS
) -> tuple[list[PreparedClip], dict[str, tuple[float, float]]]:
    divider = TrackDivider((640, 480), FakeAnalyzer({}), options)
    divider.add(track)
    return divider.clips, {d.reason: (d.start_s or 0.0, d.end_s or 0.0) for d in divider.dropped}


def test_a_good_track_gives_one_clip() -> None:
    clips, dropped = divided(track_of(100, start=50))
    assert [(clip.start, clip.frames) for clip in clips] == [(50, 100)]
    assert not dropped
    assert clips[0].labels["lmk"].shape == (100, 111, 2)


def test_another_person_in_the_same_place_starts_another_clip() -> None:
    track = track_of(200)
    track.embeddings = [(k, e + 0.1 * (k >= 100)) for k, e in track.embeddings]  # 1.13 apart
    clips, dropped = divided(track)
    assert [(clip.start, clip.frames) for clip in clips] == [(0, 76), (100, 100)]
    assert dropped["identity changes"] == (76 / 25, 100 / 25)
    assert np.abs(clips[0].embedding).max() < 1e-6 and np.abs(clips[1].embedding - 0.1).max() < 1e-6


def test_one_odd_embedding_changes_nothing() -> None:
    track = track_of(200)
    track.embeddings[4] = (100, np.full(128, 0.1, np.float32))
    assert len(divided(track)[0]) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (GOOD._replace(brightness=15), "dark"),
        (GOOD._replace(brightness=240), "washed out"),
        (GOOD._replace(contrast=5), "flat"),
    ],
)
def test_badly_lit_frames_divide_a_clip(bad: FaceMeasures, reason: str) -> None:
    track = track_of(200)
    track.measures[90:110] = [bad] * 20
    clips, dropped = divided(track)
    assert [(clip.start, clip.frames) for clip in clips] == [(0, 90), (110, 90)]
    assert dropped[reason] == (90 / 25, 110 / 25)
    track = track_of(200)
    track.measures[90:92] = [bad] * 2
    assert len(divided(track)[0]) == 1, "a flicker"


def test_each_kind_of_bad_clip_has_its_reason() -> None:
    def reason(change_track, options: PrepareOptions = OPTIONS) -> set[str]:
        track = track_of(100)
        change_track(track)
        clips, dropped = divided(track, options)
        assert not clips
        return set(dropped)

    def set_all(name: str, value: object):
        return lambda track: getattr(track, name).__setitem__(slice(None), [value] * 100)

    assert reason(set_all("measures", GOOD._replace(sharpness=0.005))) == {"blurred"}
    assert reason(set_all("faces", Face(mesh(), 0.6))) == {"covered"}
    assert reason(set_all("faces", Face(mesh(), 1.0))) == {"static"}
    assert reason(set_all("differences", 0.0)) == {"repeated frames"}
    assert reason(lambda track: track.faces.__delitem__(slice(30, None))) == {"short"}
    assert reason(lambda track: None, PrepareOptions(min_face=200)) == {"small face"}
    soft = set_all("measures", GOOD._replace(sharpness=0.03))
    assert reason(soft, PrepareOptions(min_quality=0.9)) == {"low quality"}

    def tremble(track: FaceTrack) -> None:
        track.faces[:] = [Face(mesh(320 + 12 * (-1) ** k, spread=1, seed=k), 1.0) for k in range(100)]

    assert reason(tremble) == {"unstable"}


def test_adjacent_pieces_with_the_same_reason_are_merged() -> None:
    pieces = [
        Dropped("short", "0.1 s", 1.1, 1.2),
        Dropped("short", "0.1 s", 1.0, 1.1),
        Dropped("dark", "9", 1.2, 2.0),
    ]
    pieces += [Dropped("short", "0.3 s", 2.0, 2.3), Dropped("dark", "8", 2.5, 2.6)]
    spans = [(piece.reason, piece.start_s, piece.end_s) for piece in merge_adjacent(pieces, 0.04)]
    assert spans == [("short", 1.0, 1.2), ("dark", 1.2, 2.0), ("short", 2.0, 2.3), ("dark", 2.5, 2.6)]


# windows


def boxes(centres: list[tuple[float, float]], side: float = 100) -> np.ndarray:
    return np.array(
        [(x - side / 2, y - side / 2, x + side / 2, y + side / 2) for x, y in centres], np.float32
    )


def test_the_window_is_fixed_square_and_of_the_given_size() -> None:
    window = fit_window(boxes([(320, 240)] * 3), (640, 480), OPTIONS)
    assert window is not None and window.side == 225
    assert 320 - (window.x + window.side / 2) == pytest.approx(0, abs=1)
    assert 240 - (window.y + window.side / 2) == pytest.approx(9, abs=1)


def test_near_the_edge_the_window_is_moved_then_shrunk_then_refused() -> None:
    near = fit_window(boxes([(100, 240)] * 3), (640, 480), OPTIONS)
    assert near is not None and near.x == 0 and near.side == 225
    nearer = fit_window(boxes([(65, 240)] * 3), (640, 480), OPTIONS)
    assert nearer is not None and nearer.x == 0 and 142 <= nearer.side < 225
    assert fit_window(boxes([(40, 240)] * 3), (640, 480), OPTIONS) is None


def test_a_face_that_changes_place_gets_a_window_per_place() -> None:
    path = [(200, 240)] * 80 + [(200 + 10 * k, 240) for k in range(20)] + [(400, 240)] * 90
    parts = list(divide_by_window(boxes(path), (640, 480), OPTIONS))
    assert len(parts) == 2
    for start, end, window in parts:
        assert window is not None and end - start >= 80
        assert inside(boxes(path)[start:end], window).all()


def test_points_follow_pixels_into_the_crop() -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[120:124, 80:84] = 255
    window = ClipWindow(40, 60, 128)
    crop = cv2.resize(picture[60:188, 40:168], (PICTURE_SIDE, PICTURE_SIDE), interpolation=cv2.INTER_LINEAR)
    y, x = np.argwhere(crop[..., 0] > 128).mean(0)
    assert np.abs(window.to_crop(np.array([[81.5, 121.5, 7]], np.float32)) - [[x, y, 14]]).max() < 0.01


# quality


def test_sharper_larger_better_lit_and_calmer_faces_score_higher() -> None:
    def score(
        measures: FaceMeasures = GOOD, height: float = 120, presence: float = 1.0, shake: float = 0.0
    ) -> float:
        heights, scores = np.full(9, height, np.float32), np.full(9, presence, np.float32)
        return quality([measures] * 9, heights, scores, shake).score

    assert score() == pytest.approx(1.0)
    worse = [
        score(GOOD._replace(sharpness=0.03)),
        score(height=80),
        score(GOOD._replace(contrast=20)),
        score(GOOD._replace(lost=0.1)),
        score(presence=0.8),
        score(shake=0.02),
    ]
    assert all(0 < value < 0.95 for value in worse)
    assert score(GOOD._replace(sharpness=0.01)) == 0


def test_blur_lowers_sharpness_whatever_the_size_and_light() -> None:
    box = (110.0, 60.0, 250.0, 200.0)
    sharp = scene()
    for picture in (
        sharp,
        sharp // 2 + 30,
        cv2.resize(sharp, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    ):
        zoom = picture.shape[1] / sharp.shape[1]
        place = tuple(zoom * edge for edge in box)
        seen = measure_region(picture, place)
        soft = measure_region(cv2.GaussianBlur(picture, (0, 0), 3 * zoom), place)
        assert soft.sharpness < OPTIONS.min_sharpness < seen.sharpness / 2


def test_fades_are_cut_off_but_ordinary_changes_are_not() -> None:
    steady = np.full(100, 40.0, np.float32)
    assert faded_ends(steady) == (0, 100)
    wavering = steady * (1 + 0.1 * np.sin(np.arange(100) / 5)).astype(np.float32)
    assert faded_ends(wavering) == (0, 100)
    faded = steady.copy()
    faded[:20] *= np.linspace(0, 1, 20)
    faded[-10:] *= np.linspace(1, 0, 10)
    first, end = faded_ends(faded)
    assert 18 <= first <= 20 and 90 <= end <= 92


def test_a_still_picture_has_no_shape_motion_however_the_camera_moves() -> None:
    turned = []
    for k in range(20):
        angle = 0.02 * k
        spin = np.array(
            [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
        )
        turned.append(mesh(size=9 + 0.1 * k) @ spin.T + [3 * k, -k, 0])
    assert shape_motion(np.array(turned, np.float32)) < 1e-4
    talks = np.stack([face.landmarks for face in track_of(40).faces])
    assert shape_motion(talks) > OPTIONS.min_motion
    assert jitter(talks) < 0.005 < jitter(np.stack([mesh(320 + 5 * (-1) ** k) for k in range(9)]))
