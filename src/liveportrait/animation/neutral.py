"""The most neutral frame of a driver: what relative motion should start from where the first frame makes a face."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.blendshapes import EYE_BLINK, EYE_LOOK, NEUTRAL
from liveportrait.face.pose import head_pose
from liveportrait.motion import KeypointGroups, Template

DEGREES = 30.0  # a head turned this far counts as much as one blendshape at full
OPEN = 0.3  # from this opening on an eye is open
_BUSY = 0.05  # RMS of a template's expression that counts as much as one blendshape at full


def unrest(analyzer: FaceAnalyzer, face: Face) -> float:
    """How far a face is from a neutral one that looks into the camera: 0 at best.

    The sum of the blendshape scores, gaze left out and blinking counted twice, plus the angle of the head over 30°.
    """
    scores = analyzer.blendshapes(face).astype(np.float64)
    scores[[NEUTRAL, *EYE_LOOK]] = 0.0
    scores[list(EYE_BLINK)] *= 2.0
    turn = head_pose(face.landmarks).rotation
    return float(scores.sum()) + float(degrees(torch.from_numpy(turn))) / DEGREES


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
