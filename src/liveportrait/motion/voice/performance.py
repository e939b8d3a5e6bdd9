"""A voice's motion on the mean face, which makes it a driver, or a template, like any other.

V predicts how blendshapes change from rest, how far the lips part and how the head moves. E applies the blendshapes to
the mean face; the portrait then adapts the change to itself as with any driver (`motion.expression`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from liveportrait.engine import Engine
from liveportrait.face.canonical import EYE_BLINK
from liveportrait.motion.expression import E_GAIN
from liveportrait.motion.framing import IN_CROP, neck_in_head
from liveportrait.motion.lifting import canonical_points, rigid_radius
from liveportrait.networks.expression import LANDMARKS, SCORES
from liveportrait.networks.geometry import rotation_matrix, without_depth
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion
from liveportrait.types import Array

OPEN_EYE = 0.35  # height over width


class Performance(NamedTuple):
    """The motion of a speaking face in N frames."""

    scores: Tensor  # (N,52) blendshapes, as change from rest
    lips: Tensor  # (N,) opening of the lips, height over width, 0 if closed
    angles: Tensor  # (N,3) degrees of head rotation: pitch, yaw, roll
    shift: Tensor  # (N,3) of the neck, in half sides of the crop: right, down; depth is not used

    @classmethod
    def at_rest(cls, count: int) -> Performance:
        """A face at rest in `count` frames."""
        return cls(
            torch.zeros(count, SCORES), torch.zeros(count), torch.zeros(count, 3), torch.zeros(count, 3)
        )

    def since(self, first: int) -> Performance:
        """The frames from number `first` on."""
        return Performance(*(part[first:] for part in self))


class MeanFaceMotion(NamedTuple):
    """A performance by the mean face, as a driver's motion."""

    motion: Motion  # batch N
    ratios: Tensor  # (N,3) openings of left eye, right eye and lips
    scores: Tensor  # (N,52) blendshapes


def animate_mean_face(engine: Engine, performance: Performance) -> MeanFaceMotion:
    """The mean face in N frames of a performance, in the usual crop of a driver.

    The weights must have E, and landmarks as keypoints.
    """
    count = len(performance.lips)
    scores, lips, angles, shift = (part.to(engine.device).float() for part in performance)
    own, mean = scores.new_zeros(1, SCORES), scores.new_zeros(1, LANDMARKS, 2)
    wanted = scores.clamp(0, 1)
    planar = E_GAIN * engine.express(mean, own, wanted)
    local = torch.cat([planar, torch.zeros_like(planar[..., :1])], dim=-1)
    rotation = rotation_matrix(*angles.unbind(1))
    scale = IN_CROP * rigid_radius()
    neck = scores.new_tensor(neck_in_head())
    turned = scale * (neck - neck @ rotation)
    canonical = scores.new_tensor(_canonical())
    motion = Motion(
        rotation=rotation,
        translation=without_depth(turned + shift),
        scale=scores.new_full((count, 1), scale),
        canonical=canonical.expand(count, NUM_KEYPOINTS, 3).clone(),
        expression=local @ rotation,
    )
    eyes = OPEN_EYE * (1 - wanted[:, list(EYE_BLINK)])
    return MeanFaceMotion(motion, torch.cat([eyes, lips[:, None].clamp(min=0)], dim=1), wanted)


@cache
def _canonical() -> Array:
    """The mean face's keypoints (21,3)."""
    return canonical_points()[0]
