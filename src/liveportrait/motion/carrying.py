"""Where points of the face other than the keypoints go when it moves."""

from __future__ import annotations

from torch import Tensor

from liveportrait.networks.interface import Pose

REACH = 0.15  # of a keypoint's expression, in units of the crop (half its side is 1)
_BASE = 0.1  # weight of staying with the head: far from all keypoints nothing but the head moves


def carried(points: Tensor, source: Pose, driving: Pose) -> Tensor:
    """Points (P,3) of the source's face, in the coordinates of its crop, as they lie in driving poses: (B,P,3).

    They turn and move with the head, and near a keypoint along with what it does beyond that. `source` has batch B
    or 1.
    """
    rigid = _turned(points[None], source, driving)
    beyond = driving.keypoints - _turned(source.keypoints, source, driving)
    distance = (points[None, :, None, :2] - source.keypoints[:, None, :, :2]).square().sum(-1)
    weight = (-distance / (2 * REACH**2)).exp()  # (B or 1, P, 21)
    return rigid + (weight @ beyond) / (weight.sum(-1, keepdim=True) + _BASE)


def _turned(points: Tensor, source: Pose, driving: Pose) -> Tensor:
    """Points moved rigidly from the source's pose to the driving ones."""
    own = (points - source.translation[:, None]) / source.scale[:, :, None] @ source.rotation.transpose(1, 2)
    return driving.scale[:, :, None] * (own @ driving.rotation) + driving.translation[:, None]
