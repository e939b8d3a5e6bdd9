"""One knob for smoothing motion over time, and a measure of how much a motion trembles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from liveportrait.motion.kalman import StreamSmoother, nearest_rotation, observation_variance
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import HALF_SIDE, NUM_KEYPOINTS, Motion

# Time constants at strength 1, seconds. A blink lasts 0.2 s, a nod 0.5 s: expression is held on a shorter lead.
POSE_SECONDS = 0.25
EXPRESSION_SECONDS = 0.08
_LAG = 6  # time constants: what comes later changes a frame by less than e⁻⁶ of itself

_WIDTHS = (9, 3, 1, 3 * NUM_KEYPOINTS, 3 * NUM_KEYPOINTS)  # columns of a motion's parts, in their order


class MotionSmoother:
    """A motion smoothed as it comes in. Offline it looks ahead and delays nothing in what it finds; live it is causal.

    `strength` 0 (off) to 1: every frame's influence on its neighbours falls to 1/e within strength × 0.25 s for head
    pose, position and scale, and strength × 0.08 s for expression, whatever the frame rate.
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
        """Take frames (batch B); those that are ready (batch b, maybe 0), in order."""
        if self._smoother is None:
            return motion
        return _from_rows(self._smoother.push(_to_rows(motion)), motion)

    def flush(self, like: Motion) -> Motion:
        """The frames held back; what is pushed afterwards starts anew. `like` says where the result shall be."""
        rows = self._smoother.flush() if self._smoother else torch.empty(0)
        return _from_rows(rows.reshape(-1, sum(_WIDTHS)), like)


def smooth_motion(motion: Motion, strength: float, fps: Fraction, starts: Sequence[int] = ()) -> Motion:
    """A whole motion (batch N) smoothed; `starts` names the frames at which something new begins."""
    parts = []
    for part in _between(starts, len(motion.scale)):
        smoother = MotionSmoother(strength, fps)
        stretch = Motion(*(value[part] for value in motion))
        parts += [smoother.push(stretch), smoother.flush(stretch)]
    return Motion(*(torch.cat(each) for each in zip(*parts, strict=True)))


def jitter(points: Tensor, starts: Sequence[int] = ()) -> float:
    """How much points (N,P,2) tremble, as `JitterMeter` tells; `starts` as in `smooth_motion`."""
    meter = JitterMeter()
    for part in _between(starts, len(points)):
        meter.restart()
        meter.add(points[part])
    return meter.value


def _between(starts: Sequence[int], count: int) -> list[slice]:
    edges = sorted({0, count, *(start for start in starts if start < count)})
    return [slice(begin, end) for begin, end in itertools.pairwise(edges)]


class JitterMeter:
    """How much points tremble from frame to frame, in their own unit; uniform motion gives 0.

    The mean length of the second difference x[t+1] − 2 x[t] + x[t−1] over √(3π): the standard deviation of the
    white noise on each coordinate that would give it.
    """

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0
        self._last = torch.empty(0)

    def add(self, points: Tensor) -> None:
        """Points (B,P,2) of frames that follow those before."""
        points = torch.cat([self._last, points]) if len(self._last) else points
        self._last = points[-2:]
        if len(points) > 2:
            lengths = (points[2:] - 2 * points[1:-1] + points[:-2]).norm(dim=-1)
            self._sum, self._count = self._sum + float(lengths.sum()), self._count + lengths.numel()

    def restart(self) -> None:
        """What follows does not continue what came before: a cut."""
        self._last = torch.empty(0)

    @property
    def value(self) -> float:
        """The mean over all frames so far; 0 with fewer than three."""
        return self._sum / max(self._count, 1) / math.sqrt(3 * math.pi)


def crop_points(motion: Motion) -> Tensor:
    """A motion's keypoints (B,21,2) in px of the networks' 256 px crop."""
    canonical = torch.nan_to_num(motion.canonical)  # a template may not know it
    return HALF_SIDE * transform_keypoints(motion._replace(canonical=canonical))[..., :2].cpu()


def _to_rows(motion: Motion) -> Tensor:
    parts = motion._replace(scale=motion.scale.log())
    return torch.cat([part.detach().reshape(len(part), -1).double().cpu() for part in parts], dim=1)


def _from_rows(rows: Tensor, like: Motion) -> Motion:
    parts = Motion(*(part.to(like.scale) for part in rows.split(_WIDTHS, dim=1)))
    return Motion(
        rotation=nearest_rotation(parts.rotation.reshape(-1, 3, 3)),
        translation=parts.translation,
        scale=parts.scale.exp(),
        canonical=parts.canonical.reshape(-1, NUM_KEYPOINTS, 3),
        expression=parts.expression.reshape(-1, NUM_KEYPOINTS, 3),
    )
