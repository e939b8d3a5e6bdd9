"""Smoothing of motion over time: a Kalman (Rauch-Tung-Striebel) smoother on every scalar by itself."""

from __future__ import annotations

import torch
from torch import Tensor

OBSERVATION_VARIANCE = 3e-7
PROCESS_VARIANCE = 1e-5
_INITIAL_VARIANCE = 1.0


def smooth(series: Tensor, observation_variance: float = OBSERVATION_VARIANCE) -> Tensor:
    """Smoothed copy (N,...) float32 of a series (N,...) over its first axis.

    Random-walk model with process variance 1e-5, started at the first observation with variance 1; the
    first observation is filtered too. A larger `observation_variance` (> 0) smooths more.
    """
    if observation_variance <= 0:
        raise ValueError(f"observation_variance is {observation_variance}, it must be positive")
    values = series.double()
    means = [values[0]]
    variances = [_INITIAL_VARIANCE * observation_variance / (_INITIAL_VARIANCE + observation_variance)]
    for value in values[1:]:
        predicted = variances[-1] + PROCESS_VARIANCE
        gain = predicted / (predicted + observation_variance)
        means.append(means[-1] + gain * (value - means[-1]))
        variances.append((1.0 - gain) * predicted)
    smoothed = [means[-1]]
    for mean, variance in zip(means[-2::-1], variances[-2::-1], strict=True):
        smoothed.append(mean + variance / (variance + PROCESS_VARIANCE) * (smoothed[-1] - mean))
    return torch.stack(smoothed[::-1]).float()


def smooth_rotations(series: Tensor, observation_variance: float = OBSERVATION_VARIANCE) -> Tensor:
    """Smoothed rotations (N,3,3): each component smoothed, then the nearest rotation taken.

    The published program leaves the smoothed matrices as they are, slightly sheared.
    """
    return nearest_rotation(smooth(series, observation_variance))


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations (...,3,3) nearest to matrices (...,3,3) in the Frobenius norm (Kabsch, by SVD)."""
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.ones_like(matrices[..., 0])
    sign[..., 2] = torch.linalg.det(u @ vt)
    return (u * sign[..., None, :]) @ vt
