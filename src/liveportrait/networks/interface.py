"""The interface of F, M, W and G: the same for every variant, tensors in and tensors out.

====================  =====================================================================
F  appearance         image (B,3,256,256) RGB in [0, 1]        -> Features
M  motion             image (B,3,256,256) RGB in [0, 1]        -> Motion
W  warping            Features, source Pose, driving Pose      -> Warped
G  generator          Warped                                   -> image (B,3,S,S) RGB in [0, 1]
====================  =====================================================================

Frames are rendered to `Layers` (`networks/renderer.py`): the result of W and G, before the picture is composed.

Features and Warped are dictionaries of tensors whose first axis is the batch. Their contents are private to the variant
that made them; nothing outside this package looks inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_KEYPOINTS = 21
CROP_SIDE = 256  # px of the square crop that F and M see
HALF_SIDE = CROP_SIDE // 2  # px for one unit of the crop's coordinates

Features = dict[str, Tensor]
Warped = dict[str, Tensor]
Rows = slice | Sequence[int] | NDArray[np.int64] | NDArray[np.bool_] | Tensor


class _Batched(tuple[Tensor, ...]):
    """A record of tensors that share their first axis, the batch."""

    __slots__ = ()

    @property
    def batch(self) -> int:
        """Length of the batch axis. (`len` counts the fields, as for any tuple.)"""
        return self[0].shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The record with a function applied to every tensor."""
        return type(self)(*map(change, self))

    def rows(self, index: Rows) -> Self:
        """The rows selected by a slice, numbers, or one bool per row. The batch axis stays."""
        return self.map(lambda part: part[index])

    def to(self, place: torch.device | str | Tensor) -> Self:
        """The record moved to a device, or to the device and dtype of a tensor."""
        return self.map(lambda part: part.to(place))

    def expand(self, count: int) -> Self:
        """A record of batch 1 repeated `count` times without copies; one of batch `count` unchanged."""
        return self.map(lambda part: part.expand(count, *part.shape[1:]))

    @classmethod
    def cat(cls, parts: Iterable[Self]) -> Self:
        """At least one record, concatenated along the batch axis."""
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))


class _MotionFields(NamedTuple):
    rotation: Tensor  # (B,3,3) head pose, orthonormal, applied as canonical @ rotation
    translation: Tensor  # (B,3)
    scale: Tensor  # (B,1)
    canonical: Tensor  # (B,21,3) identity's keypoints in neutral expression and frontal pose
    expression: Tensor  # (B,21,3) deformation δ, added after the rotation


class Motion(_Batched, _MotionFields):
    """The motion of a face, frame by frame: x = scale · (canonical @ rotation + expression) + translation.

    Row-vector convention (paper eq. 2). Coordinates are those of the 256 px crop scaled to [-1, 1]:
    x right, y down, z away from the camera.
    """

    __slots__ = ()


class _LayersFields(NamedTuple):
    flow: Tensor  # (B,h,w,2) where each pixel of the result comes from in the source's crop, [-1, 1]
    keep: Tensor  # (B,1,S,S) weight of the source looked up along the flow, [0, 1]
    paint: Tensor  # (B,3,S,S) what is added, RGB


class Layers(_Batched, _LayersFields):
    """A rendered face before it is composed: picture = keep · source(flow) + paint, at any resolution.

    The flow is (x, y) with ±1 at the crop's edges, as in `grid_sample` with align_corners=False; the crop's border is
    replicated outside. Paint is premultiplied, and may be slightly negative where the mouth was repainted.
    BASE paints everything: keep (B,1,1,1) and flow (B,1,1,2) are zeros, paint is the picture.
    """

    __slots__ = ()


class _PoseFields(NamedTuple):
    keypoints: Tensor  # (B,21,3) the x of the formula above
    rotation: Tensor  # (B,3,3)
    translation: Tensor  # (B,3)
    scale: Tensor  # (B,1)
    pin: Tensor  # (B,1) of a driving pose: 0 moves everything as W predicts, 1 keeps shoulders and border in place


class Pose(_Batched, _PoseFields):
    """Posed keypoints, and the rigid motion that took them there.

    A warping module may use the keypoints alone (BASE) or the rigid motion too (COMPACT). `pin` asks it to keep
    everything but the head in place; BASE, where stitching only moves keypoints, ignores it.
    """

    __slots__ = ()
