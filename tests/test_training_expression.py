"""The training of E: it learns how synthetic people move, and ends up in the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from liveportrait import weights
from liveportrait.networks.expression import LANDMARKS, SCORES
from liveportrait.training.config import Schedule
from liveportrait.training.expression import ExpressionConfig, explained_variance, export, new_network, train
from liveportrait.training.expression_faces import LabelledFaces, mirrored


@pytest.fixture
def people() -> tuple[LabelledFaces, LabelledFaces]:
    """Training and held-out people with 6 frames each, moved by scores with a mirror-symmetric effect."""
    rng = np.random.default_rng(0)
    effect = rng.normal(0, 0.1, (SCORES, LANDMARKS, 2)).astype(np.float32)
    other_side = mirrored(effect, np.eye(SCORES, dtype=np.float32))
    effect = (effect + other_side[0][other_side[1].argmax(1)]) / 2

    def made(count: int) -> LabelledFaces:
        who = np.repeat(rng.normal(0, 0.05, (count, LANDMARKS, 2)), 6, axis=0)
        scores = rng.random((6 * count, SCORES)).astype(np.float32)
        landmarks = who + np.einsum("ns,slc->nlc", scores, effect)
        rows = tuple(np.split(np.arange(6 * count), count))
        return LabelledFaces(landmarks.astype(np.float32), scores, rows)

    return made(40), made(8)


def test_mirroring_twice_is_the_identity(people):
    faces, _ = people
    landmarks, scores = mirrored(*mirrored(faces.landmarks, faces.scores))
    assert np.array_equal(landmarks, faces.landmarks) and np.array_equal(scores, faces.scores)


def test_components_have_unit_variance_and_nothing_moves_at_first(people):
    faces, _ = people
    network = new_network(ExpressionConfig().sizes, faces)
    landmarks, scores = torch.from_numpy(faces.landmarks), torch.from_numpy(faces.scores)
    code = network.code(landmarks)
    torch.testing.assert_close(code.T.cov(), torch.eye(code.shape[1]), atol=0.05, rtol=0)
    assert not network(landmarks, scores, scores.flip(0)).any()


def test_e_learns_how_faces_move_and_is_written_with_the_weights(people, tmp_path: Path):
    pytest.importorskip("torch.utils.tensorboard")
    faces, held_out = people
    config = ExpressionConfig(output=str(tmp_path / "run"), schedule=Schedule(12_800, 64, 5e-3))
    network = train(config, faces, held_out)
    figures = explained_variance(network, faces, held_out)
    assert figures["E"] > 0.5
    scores = torch.from_numpy(held_out.scores)
    assert not network(torch.from_numpy(held_out.landmarks), scores, scores).any()
    folder = export(config, "compact", network)
    again = weights.load(folder)
    assert again.expression is not None and again.stitching is not None
    torch.testing.assert_close(again.expression.basis, network.basis, atol=2e-3, rtol=2e-3)
    assert dataclasses.asdict(again.variant)["expression"] == dataclasses.asdict(config.sizes)
