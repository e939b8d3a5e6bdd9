"""Scores of what a face does, and the frame of a driver that suits a source by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from liveportrait.face.analyzer import Face, FaceAnalyzer
from liveportrait.face.blendshapes import EYE_BLINK, EYE_LOOK, NEUTRAL
from liveportrait.face.pose import head_pose
from liveportrait.face.ratios import lip_ratio
from liveportrait.face.runtime import Array

TURN = 30.0  # degrees: a head turned this far counts as much as one blendshape at full
DIFFERENCE = 2.0  # how much more a difference from the source's face counts than a face that is made at all
LIPS = 6.0  # how much a difference in the opening of the lips counts, beside one of a score


class Look(NamedTuple):
    """The face in one frame of a driver."""

    frame: int
    scores: Array  # (53,) see `face_scores`


def face_scores(analyzer: FaceAnalyzer, face: Face) -> Array:
    """Scores (53,): 52 blendshapes, gaze left out and blinking twice, and the opening of the lips times 6.

    Blendshapes know little of the lips: in speech they part much more often than the jaw opens.
    """
    scores = analyzer.blendshapes(face).astype(np.float32)
    scores[[NEUTRAL, *EYE_LOOK]] = 0.0
    scores[list(EYE_BLINK)] *= 2.0
    return np.append(scores, LIPS * lip_ratio(face.landmarks)).astype(np.float32)


def neutral_distance(analyzer: FaceAnalyzer, face: Face) -> float:
    """Distance of a face from a neutral one that looks into the camera: 0 at best.

    The sum of its scores, plus the angle of the head over 30°.
    """
    turn = torch.from_numpy(head_pose(face.landmarks).rotation)
    return float(face_scores(analyzer, face).sum()) + float(turn_degrees(turn)) / TURN


def most_similar_frame(looks: Sequence[Look], source: Array | None) -> int:
    """The frame in which a driver looks most like a source with these scores; the most neutral one without them.

    An expression is then transferred from where it means the same on both faces: a driver who begins with an open
    mouth does not ask closed lips to close further. Of what differs a calm face is the smaller mistake.
    """
    wanted = np.zeros_like(looks[0].scores) if source is None else source

    def cost(look: Look) -> float:
        return float(DIFFERENCE * np.abs(look.scores - wanted).sum() + look.scores.sum())

    return min(looks, key=cost).frame


def turn_degrees(rotation: Tensor) -> Tensor:
    """The angles (...) by which rotations (...,3,3) turn, degrees."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()
