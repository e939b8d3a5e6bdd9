"""Separates what a driver's camera does from what the driver does.

Heads turn about a point in the neck, which stays with the body. The movement of that point in the frame, and the size
of the head, are the driver's framing. A window glides with it (`gliding`), which removes pans, zooms and walking. What
remains is the head's movement on the body; it is softly bounded, which leaves nods and small shifts unchanged.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.face.choice import DRIVING_SCALE
from liveportrait.motion.landmarks import SeenHeads
from liveportrait.motion.lifting import rigid_radius
from liveportrait.networks.interface import Motion

# The pivot of heads, cm from the middle of their rigid points (x right, y down, z away): the point that moves least in
# 321 clips of 190 people talking. It travels 0.6 times as far as the middle of the face.
NECK = (0.0, 6.3, 8.9)
FACE = 15.8  # cm, side of a face's box, mean over the same clips
IN_CROP = 2 / DRIVING_SCALE / FACE  # half sides of a driver's crop per centimetre

THIRD = 1 / 3  # of a face: bound on how far a head moves on its body
SMALLEST, LARGEST = 0.85, 1.2  # bounds on the change of its size
FREE = 0.5  # share of a bound up to which nothing changes


def neck_in_head() -> tuple[float, float, float]:
    """The pivot of heads in the head's own frame, in the unit of keypoints, see `lifting.rigid_radius`."""
    x, y, z = (cm / rigid_radius() for cm in NECK)
    return x, y, z


def framing_path(heads: SeenHeads) -> NDArray[np.float64]:
    """The framing (N,3) of heads in N frames: x and y of the neck, px, and the logarithm of the face's size, px."""
    lever = np.asarray(NECK, np.float64) @ heads.keypoints.rotation.astype(np.float64)
    scale = heads.scale.astype(np.float64)[:, None]
    return np.concatenate([heads.centre + scale * lever[:, :2], np.log(FACE * scale)], axis=1)


def bounded(value: Tensor, bound: Tensor | float) -> Tensor:
    """A value v ≥ 0 softly limited to a bound b: unchanged up to b/2, then b/2 (1 + tanh((2 v − b) / b))."""
    free = FREE * torch.as_tensor(bound).to(value)
    rest = torch.as_tensor(bound).to(value) - free
    return torch.where(value <= free, value, free + rest * torch.tanh((value - free) / rest))


def steadied(motion: Motion, reference: Motion, home: Motion, crop_scale: float = DRIVING_SCALE) -> Motion:
    """A driver's motion (batch N) with position and size bounded relative to a reference.

    `reference` (batch 1 or N) is the frame of the same scene that they start from; `home` (batch 1) has the position
    and size that they start at; `crop_scale`: the crop's side over the face's. The position is that of the neck, so
    that turning the head is not restricted.
    """
    neck = motion.scale.new_tensor(NECK) * (IN_CROP * DRIVING_SCALE / crop_scale)
    growth = motion.scale / reference.scale  # (N,1)
    moved = motion.translation - reference.translation
    moved = moved + growth * (neck @ motion.rotation) - neck @ reference.rotation
    way = moved[:, :2].norm(dim=1, keepdim=True)
    moved = moved * bounded(way, THIRD * FACE * IN_CROP) / way.clamp(min=1e-9)
    grown = bounded_growth(growth)
    translation = home.translation + neck @ home.rotation + moved - grown * (neck @ motion.rotation)
    depth = motion.translation[:, 2:]  # not used
    return motion._replace(
        translation=torch.cat([translation[:, :2], depth], dim=1), scale=home.scale * grown
    )


def bounded_growth(growth: Tensor) -> Tensor:
    """A change of size (N,1), bounded between 0.85 and 1.2."""
    change = growth.log()
    bound = torch.where(change < 0, -math.log(SMALLEST), math.log(LARGEST))
    return (bounded(change.abs(), bound) * change.sign()).exp()
