"""What fine-tuning to a person, a style or animals keeps of the joint training, and how much it counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from liveportrait.training.config import Schedule
from liveportrait.training.data.samplers import PairMix
from liveportrait.training.losses.rendering import RenderWeights
from liveportrait.training.stage_one.config import JointSettings, JointWeights

Target = Literal["person", "style", "animals"]

BATCH = 4
LEARNING_RATE = 1e-4
AVERAGE_DECAY = 0.99  # of the weights that are kept: the learning rate stays level, the average settles
ADVERSARIAL_FROM = 2000  # samples; younger discriminators have nothing to say
KNOWN_MOTION = 0.8  # W and G learn little but blur from keypoints that M does not find yet

# COMPACT: the labels hold the keypoints, which are landmarks, and the losses of the warm start go on.
COMPACT = JointWeights(
    equivariance=2.0, keypoint_prior=0.0, head_pose=1.0, deformation=0.0, guide=1.0,
    perceptual_whole=0.4, perceptual_face=0.7, perceptual_lips=0.4,
    gan_whole=0.02, gan_face=0.02, gan_lips=0.02,
    matching_whole=0.2, matching_face=0.2, matching_lips=0.2,
    identity=0.3, labels=1.0, layers=1.0,
)  # fmt: skip
# BASE: what each keypoint means was found without labels; the anchor keeps it, labels would move it.
BASE = JointWeights(head_pose=0.0, guide=0.0, keypoint_prior=0.0, anchor=10.0)


def weights_for(target: Target, architecture: str) -> JointWeights:
    """The terms' weights. For animals head pose, lip GAN and identity are dropped, as the paper does."""
    weights = COMPACT if architecture == "compact" else BASE
    if target != "animals":
        return weights
    weights = replace(weights, head_pose=0.0, gan_lips=0.0, matching_lips=0.0, identity=0.0)
    if architecture == "compact":
        weights = replace(weights, equivariance=10.0, deformation=0.2, consistency=2.0, anchor=1.0)
    return weights


def settings_for(target: Target, architecture: str, size: int, samples: int) -> JointSettings:
    """A joint phase of that many samples at a level learning rate."""
    schedule = Schedule(
        samples=samples,
        batch=BATCH,
        learning_rate=LEARNING_RATE,
        final_ratio=1.0,
        warmup_steps=20,
        weight_decay=0.0,
    )
    return JointSettings(
        schedule,
        size=size,
        weights=weights_for(target, architecture),
        layers=RenderWeights(keep=0.25, texture=6.0, still=0.3),
        mix=PairMix(pictures=0.2, extremes=0.3, distant=0.7),
        adversarial_from=ADVERSARIAL_FROM,
        known_motion=KNOWN_MOTION,
        fixed_statistics=True,
    )
