"""What the compact networks offer the joint training besides: M's heatmaps, W's flow, G's painting and mask."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.networks import Networks
from liveportrait.networks.compact.generator import Generator, blend
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Warped
from liveportrait.training.losses.motion import motion_losses
from liveportrait.training.losses.rendering import (
    Rendered,
    RenderWeights,
    region_weights,
    render_losses,
    unneeded_motion,
)
from liveportrait.training.stage_one.joint_model import JointModel, Pair, Scene

PATCH_JITTER = 0.08  # as in the warm start


class CompactJointModel(JointModel):
    """Keeps what the losses of the warm start look at."""

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def read(self, pictures: Tensor) -> tuple[Motion, dict[str, Tensor]]:
        assert isinstance(self.motion, MotionExtractor)
        motion, coarse = self.motion.detailed(pictures, PATCH_JITTER if self.training else 0.0)
        return motion, {"coarse": coarse}

    def paint(self, warped: Warped) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(self.generator, Generator)
        painting, logits = self.generator.layers(warped)
        picture = blend(warped["image"], painting, logits)
        return picture, {"painting": painting, "logits": logits, **warped}


def label_terms(scene: Scene, pair: Pair) -> dict[str, Tensor]:
    """M of both pictures against their labels: `motion_losses`, mean of the two."""
    assert pair.source_label is not None and pair.driving_label is not None
    count = len(pair)
    coarse = scene.parts["coarse"]
    both = [
        motion_losses(scene.source, coarse[:count], pair.source_label),
        motion_losses(scene.driving, coarse[count : 2 * count], pair.driving_label),
    ]
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}


def layer_terms(
    scene: Scene, source: Tensor, target: Tensor, keypoints: Tensor, weights: RenderWeights
) -> dict[str, Tensor]:
    """`render_losses` of what W and G made; pictures at the compared size, driving keypoints (B,21,3)."""
    rendered = Rendered(scene.picture, scene.parts["painting"], scene.parts["logits"])
    terms = render_losses(rendered, scene.parts, target, region_weights(keypoints, target.shape[-1], weights))
    poses = (pose_of(Motion(*(v.detach() for v in motion))) for motion in (scene.source, scene.driving))
    terms["still"] = unneeded_motion(scene.parts["flow"], source, target, *poses)
    return terms
