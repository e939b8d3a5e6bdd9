"""The training of the painter: closing open mouths, rendering pairs, drawing patches, resuming a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from liveportrait.errors import UserError
from liveportrait.motion.lifting import MESH_ROWS, lift, mean_landmarks
from liveportrait.networks import COMPACT, build
from liveportrait.networks.compact.painter import PainterSizes
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import LOWER_INNER_LIP, UPPER_INNER_LIP
from liveportrait.training.config import Schedule
from liveportrait.training.data.closing import LOWER, UPPER, close_mouth
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.painter.pairs import render_pairs
from liveportrait.training.painter.patches import CLOSED, PatchSet
from liveportrait.training.painter.run import PainterConfig, train

SIZES = PainterSizes((8, 8, 8))


def faces(openings: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, Motion]:
    """Pictures whose mouths are white inside, with landmarks px and motion."""
    landmarks = np.repeat((mean_landmarks()[None, :, :2] * 60 + 128).astype(np.float32), len(openings), 0)
    for row, opening in enumerate(openings):
        landmarks[row, LOWER[1:-1]] = landmarks[row, UPPER[1:-1]] + np.array([0, opening])
    pictures = np.full((len(openings), 256, 256, 3), 120, np.uint8)
    for picture, points in zip(pictures, landmarks, strict=True):
        top, bottom = points[MESH_ROWS.index(13)], points[MESH_ROWS.index(14)]
        if bottom[1] - top[1] > 4:
            across = slice(round(float(top[0])) - 8, round(float(top[0])) + 8)
            picture[round(float(top[1])) + 1 : round(float(bottom[1])), across] = 250
    count = len(openings)
    rotation = np.repeat(np.eye(3, dtype=np.float32)[None], count, 0)
    motion = lift(landmarks, rotation, np.zeros((count, 52), np.float32), np.zeros(count, np.int64))
    return pictures, landmarks, motion


def corpus(folder: Path) -> Corpus:
    pictures, landmarks, motion = faces((0, 0, 4, 10, 20, 20))
    scores = np.zeros((6, 52), np.float32)
    return Corpus(folder, pictures, landmarks, scores, motion, np.array([0, 0, 0, 0, 0, 1]))


def test_a_closed_mouth_shows_nothing_of_its_inside() -> None:
    pictures, landmarks, motion = faces((20,))
    closed = close_mouth(pictures[0], landmarks[0], motion, 0.25)
    assert closed is not None
    assert pictures[0].max() == 250
    assert closed[0].max() < 200
    points = transform_keypoints(closed[1])[0, [UPPER_INNER_LIP, LOWER_INNER_LIP], 1]
    assert float((points[1] - points[0]).abs()) < 0.01
    assert close_mouth(pictures[0], faces((0,))[1][0], motion, 0.25) is None


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painter")
    networks = build(COMPACT)
    for module in networks.modules().values():
        module.eval().requires_grad_(False)
    render_pairs(networks, corpus(folder), folder / "pairs", seed=0, exact=True)
    return folder / "pairs"


def test_pairs_are_of_both_kinds_and_rendered_once(pairs: Path) -> None:
    made = PatchSet(pairs)
    assert len(made) > 10
    assert 0 < (made.about["kind"] == CLOSED).mean() < 1
    file = next(pairs.iterdir())
    before = file.stat().st_mtime_ns
    render_pairs(build(COMPACT), corpus(pairs.parent), pairs, seed=0, exact=True)
    assert file.stat().st_mtime_ns == before
    first, again = (next(made.batches(3, 4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first.patches.shape == (4, 10, 64, 80)
    with pytest.raises(UserError, match="part 'pairs'"):
        PatchSet(pairs.parent / "nothing")


def test_a_run_trains_and_continues(pairs: Path, tmp_path: Path) -> None:
    made = PatchSet(pairs)

    def config(samples: int) -> PainterConfig:
        return PainterConfig(output=str(tmp_path), sizes=SIZES, schedule=Schedule(samples, 2, 1e-3))

    train(config(4), made, made)
    longer = train(config(8), made, made)
    again = train(config(8), made, made)
    assert all(torch.equal(a, b) for a, b in zip(longer.parameters(), again.parameters(), strict=True))
    assert '"step": 4' in (tmp_path / "mouth_painter.jsonl").read_text()
