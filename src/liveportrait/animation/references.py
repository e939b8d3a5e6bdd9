"""Which frame of a driver relative motion starts from, where the first one makes a face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.blendshapes import EYE_BLINK, EYE_LOOK, NEUTRAL
from liveportrait.face.pose import head_pose
from liveportrait.face.ratios import lip_ratio
from liveportrait.motion import KeypointGroups, Template

Scores = NDArray[np.float32]

DEGREES = 30.0  # a head turned this far counts as much as one blendshape at full
OPEN = 0.3  # from this opening on an eye is open
DIFFERENCE = 2.0  # how much more a difference from the source's face counts than a face that is made at all
LIPS = 6.0  # how much a difference in the opening of the lips counts, beside one of a score
LOOK_EVERY = 3  # frames; a face changes little in between
_BUSY = 0.05  # RMS of a template's expression that counts as much as one blendshape at full


class Look(NamedTuple):
    """The face in one frame of a driver."""

    frame: int
    scores: Scores  # (53,) see `scores_of`


def scores_of(analyzer: FaceAnalyzer, face: Face) -> Scores:
    """What a face does (53,): blendshape scores, gaze left out and blinking twice, and the opening of the lips.

    Scores know little of the lips: in speech they part much more often than the jaw opens.
    """
    scores = analyzer.blendshapes(face).astype(np.float32)
    scores[[NEUTRAL, *EYE_LOOK]] = 0.0
    scores[list(EYE_BLINK)] *= 2.0
    return np.append(scores, LIPS * lip_ratio(face.landmarks)).astype(np.float32)


def unrest(analyzer: FaceAnalyzer, face: Face) -> float:
    """How far a face is from a neutral one that looks into the camera: 0 at best.

    The sum of its scores, plus the angle of the head over 30°.
    """
    turn = head_pose(face.landmarks).rotation
    return float(scores_of(analyzer, face).sum()) + float(degrees(torch.from_numpy(turn))) / DEGREES


def most_alike(looks: Sequence[Look], own: Scores | None) -> int:
    """The frame in which a driver looks most like a source with these scores, and rather calm; calmest without them.

    An expression is then transferred from where it means the same on both faces: a driver who begins with an open
    mouth does not ask closed lips to close further. Of what differs a calm face is the smaller mistake.
    """
    wanted = np.zeros_like(looks[0].scores) if own is None else own

    def cost(look: Look) -> float:
        return float(DIFFERENCE * np.abs(look.scores - wanted).sum() + look.scores.sum())

    return min(looks, key=cost).frame


def calmest(template: Template, groups: KeypointGroups) -> int:
    """The most neutral frame of a template, by what it knows.

    The angle of the head over 30°, the RMS of the expression's distance from the layout's face at rest over 0.05,
    and how far the narrower eye is below an opening of 0.3, over that.
    """
    motion = template.motion
    rest = motion.expression - groups.neutral_expression()
    score = rest.square().mean((1, 2)).sqrt() / _BUSY + degrees(motion.rotation) / DEGREES
    if template.eye_ratios is not None:
        score = score + (OPEN - template.eye_ratios.amin(1)).clamp(min=0) / OPEN
    return int(score.argmin())


def degrees(rotation: Tensor) -> Tensor:
    """The angles (...) by which rotations (...,3,3) turn, degrees."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()
