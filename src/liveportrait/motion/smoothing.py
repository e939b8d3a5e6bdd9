"""Smooths motion over time, and measures its jitter.

Each number of a motion is smoothed independently, as a stream, by a Kalman (Rauch-Tung-Striebel) smoother;
`MotionSmoother` has one parameter for all. Paths of crop windows are smoothed as a whole, and more strongly, by
`smooth_path`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.networks.geometry import nearest_rotation, transform_keypoints
from liveportrait.networks.interface import HALF_SIDE, NUM_KEYPOINTS, Motion

PROCESS_VARIANCE = 1e-5
_INITIAL_VARIANCE = 1.0
# Time constants at strength 1, seconds. A blink lasts 0.2 s, a nod 0.5 s: expression gets the shorter one.
POSE_SECONDS = 0.25
EXPRESSION_SECONDS = 0.08
USUAL = 0.5  # Hz above which an expression counts as speech
_LAG = 6  # time constants: later frames change a frame by less than e⁻⁶ of themselves

_WIDTHS = (9, 3, 1, 3 * NUM_KEYPOINTS, 3 * NUM_KEYPOINTS)  # columns of a motion's parts, in their order


def observation_variance(time_constant: float) -> float:
    """The observation variance with which a frame's influence falls to 1/e within `time_constant` (> 0) frames.

    The smoother's impulse response is then a^|n|, a = exp(−1/time_constant), with the process variance Q and
    a + 1/a = 2 + Q/R.
    """
    return PROCESS_VARIANCE / (2 * math.cosh(1 / time_constant) - 2)


class StreamSmoother:
    """Smooths a series as it arrives: each row uses all rows before it and at least `lag` rows after it.

    Random-walk model with process variance 1e-5, started at the first row with variance 1; the first row is
    filtered too. Lag 0 is causal: every row is output at once, and the smoothed signal is delayed. A lag of a few time
    constants hardly differs from the full smoother, which does not delay the signal.
    """

    def __init__(self, variance: Tensor | float, lag: int) -> None:
        """`variance`: of the observations (> 0), one number or one per column; a larger one smooths more."""
        self._variance = torch.as_tensor(variance, dtype=torch.float64)
        if not bool((self._variance > 0).all()):
            raise ValueError(f"observation variances must be positive, got {variance}")
        self._lag = lag
        self._rows: list[tuple[Tensor, Tensor]] = []  # mean and variance after each row that is not out yet
        self._last: tuple[Tensor, Tensor] | None = None

    def push(self, rows: Tensor) -> Tensor:
        """Add rows (B,D) float64; returns the smoothed rows (b,D) that are ready, in order; b may be 0."""
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
        if self._lag == 0:
            filtered = [mean for mean, _ in self._rows]
            self._rows.clear()
            return torch.stack(filtered) if filtered else rows
        return self._smoothed(len(self._rows) - self._lag, rows)

    def flush(self) -> Tensor:
        """The remaining rows (b,D). The next `push` starts a new series."""
        self._last = None
        return self._smoothed(len(self._rows), torch.empty(0))

    def _smoothed(self, count: int, like: Tensor) -> Tensor:
        """Remove the first `count` rows, smoothed by all that follow them."""
        if count <= 0:
            return like[:0]
        smoothed = [self._rows[-1][0]]
        for mean, variance in self._rows[-2::-1]:
            smoothed.append(mean + variance / (variance + PROCESS_VARIANCE) * (smoothed[-1] - mean))
        del self._rows[:count]
        return torch.stack(smoothed[::-1][:count])


class MotionSmoother:
    """Smooths a motion as it arrives. Offline it looks ahead and does not delay the motion; live it is causal.

    `strength` 0 (off) to 1: a frame's influence on its neighbours falls to 1/e within strength × 0.25 s for head pose,
    position and scale, and strength × 0.08 s for expression, whatever the frame rate.
    """

    def __init__(self, strength: float, fps: Fraction, live: bool = False) -> None:
        self._smoother: StreamSmoother | None = None
        pose, expression = (strength * seconds * float(fps) for seconds in (POSE_SECONDS, EXPRESSION_SECONDS))
        if strength > 0:
            widths = torch.tensor(_WIDTHS)
            times = [pose, pose, pose, expression, expression]
            variance = torch.tensor([observation_variance(time) for time in times], dtype=torch.float64)
            lag = 0 if live else math.ceil(_LAG * pose)
            self._smoother = StreamSmoother(variance.repeat_interleave(widths), lag)

    def push(self, motion: Motion) -> Motion:
        """Add frames (batch B); returns those that are ready (batch b, possibly 0), in order."""
        if self._smoother is None:
            return motion
        return _from_rows(self._smoother.push(_to_rows(motion)), motion)

    def flush(self, like: Motion) -> Motion:
        """The remaining frames, on the device of `like`. The next `push` starts again."""
        rows = self._smoother.flush() if self._smoother else torch.empty(0)
        return _from_rows(rows.reshape(-1, sum(_WIDTHS)), like)


def smooth_motion(motion: Motion, strength: float, fps: Fraction, starts: Sequence[int] = ()) -> Motion:
    """An entire motion (batch N) smoothed; `starts` are the frames at which a new stretch begins."""
    parts = []
    for part in _between(starts, motion.batch):
        smoother = MotionSmoother(strength, fps)
        stretch = motion.rows(part)
        parts += [smoother.push(stretch), smoother.flush(stretch)]
    return Motion.cat(parts)


def smooth_path(series: NDArray[np.float64], cutoff: float) -> NDArray[np.float64]:
    """Smoothed copy of a path (N,D): slow movement is kept, uniform movement exactly, even at the ends.

    `cutoff` in cycles per frame: an oscillation of that frequency keeps half its amplitude. This is the Whittaker
    smoother (also known as the Hodrick-Prescott filter), with frequency response 1 / (1 + λ (2 sin ω/2)⁴): the path x
    that minimises Σ (x − series)² + λ Σ (second differences of x)².
    """
    from scipy.linalg import solveh_banded  # takes half a second to import, and only video sources need it

    count = len(series)
    if count < 3:
        return series.copy()
    weight = (2 * math.sin(math.pi * min(cutoff, 0.5))) ** -4  # λ
    bands = np.zeros((3, count))  # of I + λ DᵀD with D the second differences, the main diagonal first
    for offset, products in enumerate(([1.0, 4.0, 1.0], [-2.0, -2.0], [1.0])):
        for row, product in enumerate(products):
            bands[offset, row : row + count - 2] += weight * product
    bands[0] += 1.0
    return np.asarray(solveh_banded(bands, series, lower=True))


def usual_expression(motion: Motion, fps: Fraction, starts: Sequence[int] = ()) -> Tensor:
    """An entire motion's expression (N,21,3) in the head's own frame without fast movement such as speech.

    Smiles last; lips that speak move several times a second. `starts` as in `smooth_motion`.
    """
    own = motion.expression @ motion.rotation.transpose(1, 2)
    rows = own.flatten(1).double().cpu().numpy()
    slow = [smooth_path(rows[part], USUAL / float(fps)) for part in _between(starts, motion.batch)]
    return torch.from_numpy(np.concatenate(slow)).to(own).view_as(own)


def jitter(points: Tensor, starts: Sequence[int] = ()) -> float:
    """The jitter of points (N,P,2), as measured by `JitterMeter`; `starts` as in `smooth_motion`."""
    meter = JitterMeter()
    for part in _between(starts, len(points)):
        meter.restart()
        meter.add(points[part])
    return meter.value


def _between(starts: Sequence[int], count: int) -> list[slice]:
    edges = sorted({0, count, *(start for start in starts if start < count)})
    return [slice(begin, end) for begin, end in itertools.pairwise(edges)]


class JitterMeter:
    """Jitter of points from frame to frame, in their own unit; uniform motion gives 0.

    The mean length of the second difference x[t+1] − 2 x[t] + x[t−1] over √(3π): the standard deviation of the
    white noise on each coordinate that would give it.
    """

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0
        self._last = torch.empty(0)

    def add(self, points: Tensor) -> None:
        """Add points (B,P,2) of the next frames."""
        points = torch.cat([self._last, points]) if len(self._last) else points
        self._last = points[-2:]
        if len(points) > 2:
            lengths = (points[2:] - 2 * points[1:-1] + points[:-2]).norm(dim=-1)
            self._sum, self._count = self._sum + float(lengths.sum()), self._count + lengths.numel()

    def restart(self) -> None:
        """Restart at a cut: the next points do not continue those before."""
        self._last = torch.empty(0)

    @property
    def value(self) -> float:
        """The mean over all frames so far; 0 with fewer than three."""
        return self._sum / max(self._count, 1) / math.sqrt(3 * math.pi)


def crop_points(motion: Motion) -> Tensor:
    """A motion's keypoints (B,21,2) in px of the networks' 256 px crop."""
    canonical = torch.nan_to_num(motion.canonical)  # may be unknown in a template
    return HALF_SIDE * transform_keypoints(motion._replace(canonical=canonical))[..., :2].cpu()


def _to_rows(motion: Motion) -> Tensor:
    parts = motion._replace(scale=motion.scale.log())
    return torch.cat([part.detach().reshape(len(part), -1).double().cpu() for part in parts], dim=1)


def _from_rows(rows: Tensor, like: Motion) -> Motion:
    parts = Motion(*rows.split(_WIDTHS, dim=1)).to(like.scale)
    return Motion(
        rotation=nearest_rotation(parts.rotation.reshape(-1, 3, 3)),
        translation=parts.translation,
        scale=parts.scale.exp(),
        canonical=parts.canonical.reshape(-1, NUM_KEYPOINTS, 3),
        expression=parts.expression.reshape(-1, NUM_KEYPOINTS, 3),
    )
