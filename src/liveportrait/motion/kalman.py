"""Smoothing over time: Kalman smoothers (Rauch-Tung-Striebel) of every scalar by itself, whole or as a stream."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OBSERVATION_VARIANCE = 3e-7
PROCESS_VARIANCE = 1e-5
_INITIAL_VARIANCE = 1.0


def observation_variance(time_constant: float) -> float:
    """The observation variance with which a frame's influence falls to 1/e within `time_constant` (> 0) frames.

    The smoother's answer to a single frame is then a^|n|, a = exp(−1/time_constant), with the process variance
    Q and a + 1/a = 2 + Q/R.
    """
    return PROCESS_VARIANCE / (2 * math.cosh(1 / time_constant) - 2)


class StreamSmoother:
    """A series smoothed as it comes in: each row by all that lies before it and at least `lag` rows after it.

    Random-walk model with process variance 1e-5, started at the first row with variance 1; the first row is
    filtered too. Lag 0 is causal: every row comes out at once, and what it shows comes late. None holds all back
    to the end: the full smoother, which delays nothing in what it shows. A lag of a few time constants hardly
    differs from that.
    """

    def __init__(self, variance: Tensor | float, lag: int | None) -> None:
        """`variance`: of the observations (> 0), one number or one a column; larger smooths more."""
        self._variance = torch.as_tensor(variance, dtype=torch.float64)
        if not bool((self._variance > 0).all()):
            raise ValueError(f"observation variances must be positive, got {variance}")
        self._lag = lag
        self._rows: list[tuple[Tensor, Tensor]] = []  # mean and variance after each row that is not out yet
        self._last: tuple[Tensor, Tensor] | None = None

    def push(self, rows: Tensor) -> Tensor:
        """Take rows (B,D) float64; the smoothed rows (b,D) that are ready, in order; b may be 0."""
        for row in rows:
            if self._last is None:
                variance = _INITIAL_VARIANCE * self._variance / (_INITIAL_VARIANCE + self._variance)
                self._last = row, variance
            else:
                mean, variance = self._last
                predicted = variance + PROCESS_VARIANCE
                gain = predicted / (predicted + self._variance)
                self._last = mean + gain * (row - mean), (1.0 - gain) * predicted
            self._rows.append(self._last)
        if self._lag is None:
            return rows[:0]
        if self._lag == 0:
            filtered = [mean for mean, _ in self._rows]
            self._rows.clear()
            return torch.stack(filtered) if filtered else rows
        return self._smoothed(len(self._rows) - self._lag, rows)

    def flush(self) -> Tensor:
        """The rows (b,D) that are still held back. What is pushed afterwards starts a new series."""
        self._last = None
        return self._smoothed(len(self._rows), torch.empty(0))

    def _smoothed(self, count: int, like: Tensor) -> Tensor:
        """Takes out the first `count` rows, smoothed by all that follow them."""
        if count <= 0:
            return like[:0]
        smoothed = [self._rows[-1][0]]
        for mean, variance in self._rows[-2::-1]:
            smoothed.append(mean + variance / (variance + PROCESS_VARIANCE) * (smoothed[-1] - mean))
        del self._rows[:count]
        return torch.stack(smoothed[::-1][:count])


def smooth(series: Tensor, variance: float = OBSERVATION_VARIANCE) -> Tensor:
    """Smoothed copy (N,...) float32 of a series (N,...) over its first axis: the full `StreamSmoother`."""
    smoother = StreamSmoother(variance, lag=None)
    smoother.push(series.double())
    return smoother.flush().float()


def smooth_rotations(series: Tensor, variance: float = OBSERVATION_VARIANCE) -> Tensor:
    """Smoothed rotations (N,3,3): each component smoothed, then the nearest rotation taken.

    The published program leaves the smoothed matrices as they are, slightly sheared.
    """
    return nearest_rotation(smooth(series, variance))


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations (...,3,3) nearest to matrices (...,3,3) in the Frobenius norm (Kabsch, by SVD)."""
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.ones_like(matrices[..., 0])
    sign[..., 2] = torch.linalg.det(u @ vt)
    return (u * sign[..., None, :]) @ vt


def smooth_path(series: NDArray[np.float64], cutoff: float) -> NDArray[np.float64]:
    """Smoothed copy of a path (N,D): slow movement is kept, uniform movement exactly, the ends included.

    `cutoff` in cycles a frame: a swing of that frequency keeps half its amplitude. The smoother of the
    local-linear-trend model, whose answer to the frequency ω is 1 / (1 + λ (2 sin ω/2)⁴) (also known as the
    Whittaker or Hodrick-Prescott filter).
    """
    ratio = (2 * math.sin(math.pi * min(cutoff, 0.5))) ** -4  # λ: observation over slope variance
    step = np.array([[1.0, 1.0], [0.0, 1.0]])  # of the state: level, slope
    state = np.stack([series[0], np.zeros_like(series[0])])  # (2,D)
    spread = np.eye(2) * ratio * 1e6  # nothing is known before the first frame
    filtered: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for number, row in enumerate(series):
        if number:
            state, spread = step @ state, step @ spread @ step.T
            spread[1, 1] += 1.0
        gain = spread[:, 0] / (spread[0, 0] + ratio)
        state = state + gain[:, None] * (row - state[0])
        spread = spread - np.outer(gain, spread[0])
        filtered.append((state, spread))
    result = np.empty_like(series)
    for number in range(len(series) - 1, -1, -1):
        before, spread = filtered[number]
        if number < len(series) - 1:
            predicted = step @ spread @ step.T
            predicted[1, 1] += 1.0
            state = before + spread @ step.T @ np.linalg.solve(predicted, state - step @ before)
        result[number] = state[0]
    return result
