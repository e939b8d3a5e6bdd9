"""Losses of M against lifted labels. Each is a mean over the batch; weights are in `MotionWeights`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from liveportrait.networks import keypoints
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import per_keypoint
from liveportrait.training.losses.keypoints import wing

# How much each keypoint matters: what opens and closes weighs most, the jaw line and forehead least.
IMPORTANCE = per_keypoint(
    {
        keypoints.LIDS: 3,
        keypoints.IRISES: 2,
        keypoints.INNER_BROWS: 1.5,
        keypoints.OUTER_BROWS: 1,
        keypoints.MOUTH_CORNERS: 2,
        keypoints.INNER_LIPS: 3,
        keypoints.OUTER_LIPS: 2,
        (keypoints.CHIN,): 1.5,
        (keypoints.NOSE_TIP, *keypoints.JAW, keypoints.FOREHEAD): 1,
    }
)
# Keypoint pairs whose distance is an expression: lids, inner lips, mouth width, iris to lids, outer lips.
OPENINGS = (
    keypoints.RIGHT_LIDS,
    keypoints.LEFT_LIDS,
    keypoints.INNER_LIPS,
    keypoints.MOUTH_CORNERS,
    (keypoints.RIGHT_IRIS, keypoints.RIGHT_UPPER_LID),
    (keypoints.LEFT_IRIS, keypoints.LEFT_UPPER_LID),
    (keypoints.RIGHT_IRIS, keypoints.RIGHT_LOWER_LID),
    (keypoints.LEFT_IRIS, keypoints.LEFT_LOWER_LID),
    (keypoints.UPPER_OUTER_LIP, keypoints.LOWER_OUTER_LIP),
)
LID_OPENINGS = [OPENINGS.index(keypoints.RIGHT_LIDS), OPENINGS.index(keypoints.LEFT_LIDS)]
LIP_OPENINGS = [OPENINGS.index(keypoints.INNER_LIPS)]


@dataclass(frozen=True)
class MotionWeights:
    """Weights of the terms of `motion_losses`."""

    keypoints: float = 10.0
    heatmaps: float = 4.0
    rotation: float = 3.0
    scale: float = 2.0
    translation: float = 4.0
    canonical: float = 2.0
    expression: float = 4.0
    openings: float = 10.0


def openings(motion: Motion) -> Tensor:
    """In-plane vectors (B,9,2) between paired keypoints, in the head's own size."""
    local = (motion.canonical @ motion.rotation + motion.expression)[..., :2]
    first, second = zip(*OPENINGS, strict=True)
    return local[:, list(first)] - local[:, list(second)]


def motion_losses(predicted: Motion, coarse: Tensor, label: Motion) -> dict[str, Tensor]:
    """The unweighted terms. `coarse` (B,21,2) are the keypoints as the heatmaps saw them."""
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
