"""Losses on keypoints and motion alone (face vid2vid, arXiv 2011.15126, appendix; LivePortrait, section 3.2).

The weights of the compact M's losses against lifted labels are in `MotionWeights`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import HALF_SIDE, Motion
from liveportrait.networks.keypoints import (
    CHIN,
    FOREHEAD,
    INNER_BROWS,
    INNER_LIPS,
    IRISES,
    JAW,
    LEFT_IRIS,
    LEFT_LIDS,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LIDS,
    LOWER_OUTER_LIP,
    MOUTH_CORNERS,
    NOSE_TIP,
    OUTER_BROWS,
    OUTER_LIPS,
    RIGHT_IRIS,
    RIGHT_LIDS,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_OUTER_LIP,
    per_keypoint,
)
from liveportrait.training.config import LossWeights
from liveportrait.training.losses.transforms import Transform

MIN_SQUARED_DISTANCE = 0.1  # D_t of the keypoint prior: squared distance, crop half side = 1
DEPTH = 0.33  # z_t of the keypoint prior
WING_WIDTH, WING_CURVATURE = 10 / HALF_SIDE, 2 / HALF_SIDE  # the wing paper's 10 and 2 px, of a 256 px crop
# Weight of each keypoint: those that open and close count most, the jaw line and forehead least.
IMPORTANCE = per_keypoint(
    {
        LIDS: 3,
        IRISES: 2,
        INNER_BROWS: 1.5,
        OUTER_BROWS: 1,
        MOUTH_CORNERS: 2,
        INNER_LIPS: 3,
        OUTER_LIPS: 2,
        (CHIN,): 1.5,
        (NOSE_TIP, *JAW, FOREHEAD): 1,
    }
)
# Keypoint pairs whose distance is an expression: lids, inner lips, mouth width, iris to lids, outer lips.
OPENINGS = (
    RIGHT_LIDS,
    LEFT_LIDS,
    INNER_LIPS,
    MOUTH_CORNERS,
    (RIGHT_IRIS, RIGHT_UPPER_LID),
    (LEFT_IRIS, LEFT_UPPER_LID),
    (RIGHT_IRIS, RIGHT_LOWER_LID),
    (LEFT_IRIS, LEFT_LOWER_LID),
    (UPPER_OUTER_LIP, LOWER_OUTER_LIP),
)
LID_OPENINGS = [OPENINGS.index(RIGHT_LIDS), OPENINGS.index(LEFT_LIDS)]
LIP_OPENINGS = [OPENINGS.index(INNER_LIPS)]


@dataclass(frozen=True)
class MotionWeights(LossWeights):
    """Weights of the terms of `motion_losses`."""

    keypoints: float = 10.0
    heatmaps: float = 4.0
    rotation: float = 3.0
    scale: float = 2.0
    translation: float = 4.0
    canonical: float = 2.0
    expression: float = 4.0
    openings: float = 10.0


def equivariance(keypoints: Tensor, moved: Tensor, transform: Transform) -> Tensor:
    """L_E = mean |x − T(x_T)| in the picture plane: keypoints go where the picture goes.

    keypoints (B,K,≥2) of the pictures, moved (B,K,≥2) of `transform.pictures(pictures)`. Face vid2vid writes
    T⁻¹ for the map back; here T is that map (see `transforms`).
    """
    return (keypoints[..., :2] - transform.points(moved[..., :2])).abs().mean()


def consistency(found: Motion, wanted: Motion) -> Tensor:
    """Mean |difference| of R, x_c, δ and log s, summed over the four: M must read a moved picture as the moved motion.

    found: M's motion of the moved picture; wanted: its motion of the original, moved. Ours, for fine-tuning without
    labels: equivariance of the keypoints alone does not separate pose, identity and expression.
    """
    parts = [
        (found.rotation - wanted.rotation).abs().mean(),
        (found.canonical - wanted.canonical).abs().mean(),
        (found.expression - wanted.expression).abs().mean(),
        (found.scale.abs().clamp(min=1e-4).log() - wanted.scale.abs().clamp(min=1e-4).log()).abs().mean(),
    ]
    return torch.stack(parts).sum()


def keypoint_prior(
    keypoints: Tensor, guided: Sequence[int] = (), nearest: float = MIN_SQUARED_DISTANCE, depth: float = DEPTH
) -> Tensor:
    """L_L = Σ_{i≠j} max(0, D_t − |x_i − x_j|²) + |mean z − z_t|: spread out, at one mean depth.

    keypoints (B,K,3). Pairs of two `guided` keypoints are left out of the sum (ours): landmarks keep them in place,
    and the two lids of an eye must be able to meet.
    """
    squared = (keypoints[:, :, None] - keypoints[:, None]).square().sum(-1)  # (B,K,K)
    counted = ~torch.eye(keypoints.shape[1], dtype=torch.bool, device=keypoints.device)
    held = torch.zeros_like(counted[0])
    held[list(guided)] = True
    counted = counted & ~(held[:, None] & held)
    crowded = ((nearest - squared).clamp(min=0) * counted).sum((1, 2)).mean()
    return crowded + (keypoints[..., 2].mean(1) - depth).abs().mean()


def head_pose(rotation: Tensor, label: Tensor) -> Tensor:
    """L_H = Σ |R − R̄| over the nine entries, rotations (B,3,3).

    A small turn by θ radians about one axis costs 2θ. Unlike Euler angles the entries have no jumps. The label
    takes the place of face vid2vid's pretrained pose estimator.
    """
    return (rotation - label).abs().sum((1, 2)).mean()


def deformation_prior(expression: Tensor) -> Tensor:
    """L_Δ = ‖δ‖₁ of each keypoint, mean over keypoints: what the head pose can explain is not expression."""
    return expression.abs().sum(-1).mean()


def wing(error: Tensor, width: float = 0.05, curvature: float = 0.01) -> Tensor:
    """Elementwise wing loss (Feng et al., arXiv 1711.06753): logarithmic near zero, so that small errors still count.

    ω = width, ε = curvature: ω ln(1 + |e|/ε) where |e| < ω, else |e| − (ω − ω ln(1 + ω/ε)).
    """
    error = error.abs()
    offset = width - width * math.log(1 + width / curvature)
    return torch.where(error < width, width * torch.log1p(error / curvature), error - offset)


def landmark_guide(
    source: Tensor, driving: Tensor, source_landmarks: Tensor, driving_landmarks: Tensor
) -> Tensor:
    """L_guide = 1/(2N) Σ_i [wing(l_s,i − x_s,i,1:2) + wing(l_d,i − x_d,i,1:2)] (paper, section 3.2).

    Guided keypoints (B,N,≥2) and their landmarks (B,N,2). Wing of a point is the sum over x and y.
    """
    pairs = ((source, source_landmarks), (driving, driving_landmarks))
    costs = [
        wing(found[..., :2] - wanted[..., :2], WING_WIDTH, WING_CURVATURE).sum(-1).mean()
        for found, wanted in pairs
    ]
    return torch.stack(costs).mean()


def openings(motion: Motion) -> Tensor:
    """In-plane vectors (B,9,2) between paired keypoints, independent of the head's size."""
    local = (motion.canonical @ motion.rotation + motion.expression)[..., :2]
    first, second = zip(*OPENINGS, strict=True)
    return local[:, list(first)] - local[:, list(second)]


def motion_losses(predicted: Motion, coarse: Tensor, label: Motion) -> dict[str, Tensor]:
    """The unweighted terms. `coarse` (B,21,2) are the keypoints read from the heatmaps alone."""
    importance = coarse.new_tensor(IMPORTANCE)[:, None]
    axes = coarse.new_tensor([1.0, 1.0, 0.5])  # depth is inferred, not measured
    truth = transform_keypoints(label)
    found = transform_keypoints(predicted)
    expression = (predicted.expression - label.expression).abs() * importance * axes
    return {
        "keypoints": (wing(found - truth) * importance * axes).mean(),
        "heatmaps": (wing(coarse - truth[..., :2]) * importance).mean(),
        "rotation": (predicted.rotation - label.rotation).abs().mean(),
        "scale": (predicted.scale.log() - label.scale.log()).abs().mean(),
        "translation": (predicted.translation - label.translation)[:, :2].abs().mean(),
        "canonical": (predicted.canonical - label.canonical).abs().mean(),
        "expression": expression.mean(),
        "openings": (openings(predicted) - openings(label)).abs().mean(),
    }
