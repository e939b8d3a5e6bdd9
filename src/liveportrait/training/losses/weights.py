"""How much each term of the joint training counts."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class JointWeights:
    """Weights of the terms of `joint_phase`, named as in its log. A term of weight 0 is not computed.

    The paper does not give its weights. Those of the terms it takes over from face vid2vid (arXiv 2011.15126,
    appendix) are that paper's: perceptual 10, GAN 1, equivariance 20, keypoint prior 10, head pose 20,
    deformation 5. Feature matching 10 is pix2pixHD's (arXiv 1711.11585). All others are ours.
    """

    equivariance: float = 20.0
    keypoint_prior: float = 10.0
    head_pose: float = 20.0
    deformation: float = 5.0
    guide: float = 10.0
    perceptual_whole: float = 10.0
    perceptual_face: float = 10.0
    perceptual_lips: float = 10.0
    gan_whole: float = 1.0
    gan_face: float = 1.0
    gan_lips: float = 1.0
    matching_whole: float = 10.0
    matching_face: float = 10.0
    matching_lips: float = 10.0
    identity: float = 1.0
    picture: float = 0.0  # pyramid L1 to the driving picture: not the paper's; colours settle sooner
    labels: float = 0.0  # COMPACT: M against lifted labels, `motion_losses` with its own weights
    layers: float = 0.0  # COMPACT: what W and G are composed of, `render_losses` with its own weights
    consistency: float = 0.0  # fine-tuning without labels: M reads a moved picture as that picture, moved
    anchor: float = 0.0  # fine-tuning: M's canonical keypoints near those of the starting weights

    @property
    def adversarial(self) -> bool:
        """Whether any discriminator is needed."""
        return any(
            getattr(self, field.name) > 0
            for field in fields(self)
            if field.name.startswith(("gan_", "matching_"))
        )

    def of_region(self, family: str, region: str) -> float:
        """The weight of "perceptual", "gan" or "matching" in "whole", "face" or "lips"."""
        return float(getattr(self, f"{family}_{region}"))
