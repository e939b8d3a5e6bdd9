"""The labelled faces that E learns from: landmarks without head pose and their scores, in pairs of one person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.data.shards import Sample, is_held_out, read_shard
from liveportrait.errors import UserError
from liveportrait.motion.lifting import (
    FRONTAL,
    KEYPOINTS,
    RIDGE,
    FlatFaces,
    flattened,
    label_turns,
    mean_landmarks,
)
from liveportrait.networks.expression import SCORES
from liveportrait.networks.interface import HALF_SIDE
from liveportrait.training.data.batches import generator
from liveportrait.types import Array

MAX_OFFSET = 1.0  # of a landmark from the mean face's: larger ones are mistakes
# Indices of blendshapes that mirror each other.
SCORE_PAIRS = (
    (1, 2), (4, 5), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22), (24, 26), (28, 29),
    (30, 31), (33, 39), (34, 35), (36, 37), (44, 45), (46, 47), (48, 49), (50, 51),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LabelledFaces:
    """N frontal or nearly frontal faces, in groups of one person each: the frames of a clip, or their pictures."""

    landmarks: Array  # (N,111,2) flat, see `lifting.flattened`
    scores: Array  # (N,52)
    groups: tuple[NDArray[np.int64], ...]  # row indices, at least two per group

    def pairs(self, seed: int, size: int, start: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Endless batches of pairs from batch number `start`: landmarks and scores of one face, then of the other.

        A clip is drawn in proportion to the square root of its length. Half of each batch is mirrored.
        """
        odds = np.sqrt([len(group) for group in self.groups])
        odds /= odds.sum()
        while True:
            rng = generator(seed, start, 0)
            chosen = [self.groups[number] for number in rng.choice(len(odds), size, p=odds)]
            rows = np.array([rng.choice(group, 2, replace=False) for group in chosen])
            parts = []
            for column in rows.T:
                landmarks, scores = self.landmarks[column].copy(), self.scores[column].copy()
                landmarks[::2], scores[::2] = mirrored(landmarks[::2], scores[::2])
                parts += [torch.from_numpy(landmarks), torch.from_numpy(scores)]
            yield tuple(parts)
            start += 1

    def ridge(self) -> Array:
        """Ridge regression (52,222) from scores to landmarks, both relative to their group's mean."""
        scores, moved = (
            np.concatenate([part[rows] - part[rows].mean(0) for rows in self.groups])
            for part in (self.scores, self.landmarks.reshape(len(self.landmarks), -1))
        )
        return np.linalg.solve(scores.T @ scores + RIDGE * np.eye(SCORES), scores.T @ moved).astype(
            np.float32
        )


def mirrored(landmarks: Array, scores: Array) -> tuple[Array, Array]:
    """Landmarks (N,111,2) and scores (N,52) of left-right mirrored faces."""
    turned = landmarks[:, _mirror_rows()] * np.array([-1, 1], np.float32)
    order = np.arange(SCORES)
    for left, right in SCORE_PAIRS:
        order[[left, right]] = right, left
    return turned, scores[:, order]


@cache
def _mirror_rows() -> NDArray[np.int64]:
    """Index (111,) of each landmark's mirror image: the nearest one on the mirrored mean face, which is symmetric."""
    mean = mean_landmarks()
    across = mean * np.array([-1, 1, 1], np.float32)
    return np.asarray(((across[:, None] - mean[None]) ** 2).sum(-1).argmin(1), np.int64)


def read_faces(shards: Sequence[Path], one_in: int, held_out: bool = False) -> LabelledFaces:
    """The measured faces of the training identities, or of the held-out ones (one in `one_in`).

    Broken samples are skipped. Raises `UserError` if no two faces of one person are left.
    """
    landmarks, scores = [], []
    groups: dict[str, list[int]] = {}
    count = 0
    for shard in shards:
        for sample in read_shard(shard, lambda _: None):
            if is_held_out(sample.identity, one_in) != held_out:
                continue
            flat, rows = _usable_faces(sample)
            landmarks.append(flat.landmarks[rows])
            scores.append(sample.blendshapes[sample.measured][rows])
            name = f"{shard.name}/{sample.key}" if sample.is_video else sample.identity
            groups.setdefault(name, []).extend(range(count, count + len(rows)))
            count += len(rows)
    kept = tuple(np.array(rows) for rows in groups.values() if len(rows) > 1)
    if not kept:
        raise UserError(
            f"no two labelled faces of one person in {len(shards)} shards: check the list of shards"
        )
    return LabelledFaces(np.concatenate(landmarks), np.concatenate(scores), kept)


def _usable_faces(sample: Sample) -> tuple[FlatFaces, NDArray[np.int64]]:
    """The measured faces of a sample, and the indices of those that can be used."""
    points = (sample.landmarks[sample.measured] / HALF_SIDE - 1).astype(np.float32)
    flat = flattened(points, label_turns(sample.rotation[sample.measured]))
    serves = (flat.trust > FRONTAL) & (np.abs(flat.landmarks).max((1, 2), initial=0) < MAX_OFFSET)
    return flat, np.flatnonzero(serves)


def keypoint_change(first: Tensor, second: Tensor) -> Tensor:
    """Displacement (B,21,2) of the keypoints from the first flat landmarks (B,111,2) to the second."""
    return (second - first)[:, list(KEYPOINTS)]
