"""Labels, identities, duplicates and inputs of preparation, on data with known answers."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from prepare_samples import talking
from synthetic_shards import turn

from liveportrait.data.preparation import matches
from liveportrait.data.preparation.labels import FIELD_OF_VIEW, camera_pose
from liveportrait.data.preparation.matches import (
    aligned_face,
    cluster,
    difference_hash,
    duplicates,
    hash_distance,
)
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.run import find_inputs, fingerprint
from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.errors import UserError
from liveportrait.face import FaceAnalyzer, default_analyzer
from liveportrait.face.canonical import canonical_face
from liveportrait.motion.lifting import AXES, MESH_ROWS

OPTIONS = PrepareOptions()


# labels


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (0.5, 0.1, -0.2), (-0.4, 0.3, 0.3)])
def test_camera_pose_inverts_a_perspective_camera(pose: tuple[float, float, float]) -> None:
    rotation, place = turn(*pose).astype(np.float64), np.array([4.0, -3.0, -40.0])
    seen = (canonical_face().vertices @ AXES) @ rotation.T + place
    zoom = PICTURE_SIDE / 2 / math.tan(FIELD_OF_VIEW / 2) / -seen[:, 2]
    # The landmark network gives depth at the scale of the picture, as a weak-perspective camera would.
    depth = -(seen[:, 2] - seen[:, 2].mean()) * zoom.mean()
    points = np.stack(
        [PICTURE_SIDE / 2 + seen[:, 0] * zoom, PICTURE_SIDE / 2 - seen[:, 1] * zoom, depth], axis=1
    )
    found = camera_pose(points.astype(np.float32), PICTURE_SIDE)
    gap = np.degrees(np.arccos(np.clip((np.trace(found.rotation.T @ rotation) - 1) / 2, -1, 1)))
    assert gap < 1.0
    assert np.abs(found.translation - place).max() < 1.5


# identities


def naive_average_linkage(points: np.ndarray, threshold: float) -> set[frozenset[int]]:
    groups = [[k] for k in range(len(points))]
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    while len(groups) > 1:
        means = [
            (gaps[np.ix_(a, b)].mean(), i, i + 1 + j)
            for i, a in enumerate(groups)
            for j, b in enumerate(groups[i + 1 :])
        ]
        gap, i, j = min(means)
        if gap > threshold:
            break
        groups[i] += groups.pop(j)
    return {frozenset(group) for group in groups}


@pytest.mark.parametrize("seed", range(6))
def test_clusters_are_those_of_average_linkage(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches, "BLOCK", 7)  # several blocks
    rng = np.random.default_rng(seed)
    points = (rng.normal(0, 1, (8, 5))[rng.integers(0, 8, 40)] + rng.normal(0, 0.35, (40, 5))).astype(
        np.float32
    )
    numbers = cluster(points, threshold=1.2)
    found = {frozenset(np.flatnonzero(numbers == n).tolist()) for n in np.unique(numbers)}
    assert found == naive_average_linkage(points.astype(np.float64), 1.2)
    assert 1 < len(found) < 40
    first = [int(np.flatnonzero(numbers == n)[0]) for n in range(len(found))]
    assert first == sorted(first)


# duplicates


def hashes_of(frames: list[np.ndarray], analyzer: FaceAnalyzer) -> np.ndarray:
    rows = []
    for frame in frames:
        points = analyzer.detect(frame, 60)[0].landmarks[list(MESH_ROWS), :2]
        rows.append(difference_hash(aligned_face(frame, points)))
    return np.stack(rows)


def test_a_copy_is_a_duplicate_but_another_take_is_not() -> None:
    analyzer = default_analyzer()
    take, other = talking(10), talking(10, seed=5)
    copy = [
        cv2.resize(frame[20:, 30:], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA) for frame in take[2:9]
    ]
    copy = [(0.9 * frame + 12).astype(np.uint8) for frame in copy]
    rows = [hashes_of(frames, analyzer) for frames in (take, copy, other)]
    assert hash_distance(rows[0], rows[1]) < OPTIONS.duplicate_bits
    assert hash_distance(rows[1], rows[0]) == hash_distance(rows[0], rows[1])
    assert hash_distance(rows[0], rows[1]) < 0.7 * hash_distance(rows[0], rows[2])


def test_the_most_valuable_of_duplicates_is_kept() -> None:
    rng = np.random.default_rng(0)
    clip, other = rng.integers(0, 256, (2, 12, 32), dtype=np.uint8)
    picture = clip[5:6].copy()
    picture[0, 0] ^= 0b111
    rows = [picture, clip[2:], clip, other, picture, other[:1]]
    worth = [0.5, 3.0, 4.0, 1.0, 0.9, 0.2]
    assert duplicates(rows, worth, ["a"] * 6, bits=16) == {1: 2, 4: 2, 0: 2, 5: 3}
    assert duplicates(rows, worth, list("abcdef"), bits=16) == {}
    assert duplicates([picture] * 3, [1.0, 1.0, 1.0], ["a"] * 3, bits=0) == {1: 0, 2: 0}


# inputs


def test_inputs_are_found_once_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/z.png", "a/.secret.png", ".git/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "list.txt").write_text("a/z.png\nb.mp4\n")
    found = find_inputs([tmp_path / "a", tmp_path / "list.txt", tmp_path / "b.mp4"])
    assert [entry.name for entry in found] == ["z.png", "b.mp4"]


def test_fingerprints_depend_on_content_not_names(tmp_path: Path) -> None:
    large = bytes(3_500_000)
    for name, data in (("a", large), ("b", large), ("c", large[:-1] + b"1"), ("d", large + b"\0")):
        (tmp_path / name).write_bytes(data)
    prints = [fingerprint(tmp_path / name) for name in "abcd"]
    assert prints[0] == prints[1] and len(set(prints)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"max_seconds": 1.0},
        {"window": 1.0},
        {"darkest": 300.0},
        {"crf": 60},
        {"min_quality": float("nan")},
        {"domain": "plants"},
    ],
)
def test_impossible_options_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong)).replace("_", "-")):
        PrepareOptions(**wrong)
