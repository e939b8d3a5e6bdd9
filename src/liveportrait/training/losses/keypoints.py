"""Losses on keypoints and motion alone (face vid2vid, arXiv 2011.15126, appendix; LivePortrait, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from liveportrait.networks.interface import HALF_SIDE, Motion
from liveportrait.training.losses.transforms import Transform

NEAREST = 0.1  # D_t of the keypoint prior: squared distance, crop half side = 1
DEPTH = 0.33  # z_t of the keypoint prior


def equivariance(keypoints: Tensor, moved: Tensor, transform: Transform) -> Tensor:
    """L_E = mean |x − T(x_T)| in the picture plane: keypoints go where the picture goes.

    keypoints (B,K,≥2) of the pictures, moved (B,K,≥2) of `transform.pictures(pictures)`. Face vid2vid writes
    T⁻¹ for the map back; here T is that map (see `transforms`).
    """
    return (keypoints[..., :2] - transform.points(moved[..., :2])).abs().mean()


def consistency(found: Motion, wanted: Motion) -> Tensor:
    """Mean |difference| of R, x_c, δ and log s, summed over the four: one face moved must be read as that face, moved.

    found: as M reads the moved picture; wanted: what it reads from the picture, moved. Ours, for fine-tuning without
    labels: equivariance of the keypoints alone leaves open what is pose, identity or expression.
    """
    parts = [
        (found.rotation - wanted.rotation).abs().mean(),
        (found.canonical - wanted.canonical).abs().mean(),
        (found.expression - wanted.expression).abs().mean(),
        (found.scale.abs().clamp(min=1e-4).log() - wanted.scale.abs().clamp(min=1e-4).log()).abs().mean(),
    ]
    return torch.stack(parts).sum()


def keypoint_prior(
    keypoints: Tensor, guided: Sequence[int] = (), nearest: float = NEAREST, depth: float = DEPTH
) -> Tensor:
    """L_L = Σ_{i≠j} max(0, D_t − |x_i − x_j|²) + |mean z − z_t|: spread out, at one mean depth.

    keypoints (B,K,3). Pairs of two `guided` keypoints are left out of the sum (ours): landmarks hold them, and
    the two lids of an eye must be allowed to meet.
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
    """Wing loss (Feng et al., arXiv 1711.06753) entry by entry: logarithmic near zero, so that small errors pull.

    ω = width, ε = curvature: ω ln(1 + |e|/ε) where |e| < ω, else |e| − (ω − ω ln(1 + ω/ε)).
    """
    error = error.abs()
    offset = width - width * math.log(1 + width / curvature)
    return torch.where(error < width, width * torch.log1p(error / curvature), error - offset)


WING_WIDTH, WING_CURVATURE = 10 / HALF_SIDE, 2 / HALF_SIDE  # the wing paper's 10 and 2 px, of a 256 px crop


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
