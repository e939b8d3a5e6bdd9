"""The configuration of stage one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from liveportrait.networks import BASE, COMPACT, Variant
from liveportrait.training.config import (
    LossWeights,
    RunConfig,
    Schedule,
    check,
    check_positive,
    check_shares,
    read_toml,
)
from liveportrait.training.data.samplers import PairMix
from liveportrait.training.losses.motion import MotionWeights
from liveportrait.training.losses.perceptual import Backbone
from liveportrait.training.losses.rendering import RenderWeights

SIZES = (64, 128, 192, 256)  # of the compact model's pictures, px
SIZES_RULE = "use 64, 128, 192 or 256"


@dataclass(frozen=True)
class MotionSettings:
    """Training of M on single frames."""

    schedule: Schedule = field(default_factory=lambda: Schedule(80_000, 24, 2e-3, weight_decay=1e-2))
    weights: MotionWeights = field(default_factory=MotionWeights)
    blinks: float = 0.25
    patch_jitter: float = 0.08


@dataclass(frozen=True)
class RenderSettings:
    """Training of F, W and G on pairs at one picture size, continuing from the phase before."""

    size: int
    schedule: Schedule
    weights: RenderWeights = field(default_factory=RenderWeights)
    mix: PairMix = field(default_factory=PairMix)
    own_motion: float = 0.0  # probability of a batch being driven by M instead of the labels
    earlier_warping: float = 0.0  # W starts as an average with this share of the first phase's
    only_generator: bool = False  # F and W stay fixed

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check("size", self.size, self.size in SIZES, SIZES_RULE)
        check_shares(self, "earlier_warping")

    @property
    def needs_motion(self) -> bool:
        """Whether the phase uses a trained M."""
        return self.own_motion > 0 or self.weights.magnified > 0


@dataclass(frozen=True)
class JointWeights(LossWeights):
    """Weights of the joint phase's terms, named as in its log. A term of weight 0 is not computed.

    The paper does not give its weights. For the terms it adopts from face vid2vid (arXiv 2011.15126, appendix) these
    are that paper's: perceptual 10, GAN 1, equivariance 20, keypoint prior 10, head pose 20, deformation 5. Feature
    matching 10 is pix2pixHD's (arXiv 1711.11585). All others are ours.
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
    picture: float = 0.0  # pyramid L1 to the driving picture: not in the paper, makes colours converge sooner
    labels: float = 0.0  # COMPACT: M against lifted labels, `motion_losses` with its own weights
    layers: float = 0.0  # COMPACT: the layers of W and G, `render_losses` with its own weights
    consistency: float = 0.0  # fine-tuning without labels: M reads a moved picture as the moved motion
    anchor: float = 0.0  # fine-tuning: keeps M's canonical keypoints near those of the starting weights

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


@dataclass(frozen=True)
class JointSettings:
    """The paper's stage one: F, M, W and G trained together, driven by M (section 3.2)."""

    schedule: Schedule
    size: int = 256  # side of the pictures that F sees and that are compared; M sees its own size
    weights: JointWeights = field(default_factory=JointWeights)
    layers: RenderWeights = field(default_factory=RenderWeights)  # within the term "layers"
    labels: MotionWeights = field(default_factory=MotionWeights)  # within the term "labels"
    mix: PairMix = field(default_factory=PairMix)
    betas: tuple[float, ...] = (0.5, 0.999)  # Adam's, as in the paper
    adversarial_from: int = 0  # samples seen before discriminators train and count
    discriminator_channels: int = 32
    discriminator_lr_scale: float = 1.0  # the discriminators' learning rate over the generator's
    perceptual: Backbone = "efficientnet"
    vgg19: str = ""  # torchvision's vgg19 as safetensors, relative to the configuration file
    identity: Literal["dlib", "none"] = "dlib"
    known_motion: float = 0.0  # share of pairs made by a known transform that it drives instead of M
    fixed_statistics: bool = False  # batch norms keep their statistics: for small batches from given weights

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        two = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        check("betas", self.betas, two, "give two numbers from 0 to below 1")
        check("adversarial_from", self.adversarial_from, self.adversarial_from >= 0, "it cannot be negative")
        check_positive(self, "discriminator_channels", "discriminator_lr_scale")
        check_shares(self, "known_motion")
        given = self.perceptual != "vgg19" or bool(self.vgg19)
        check(
            "vgg19", self.vgg19, given, "perceptual = 'vgg19' needs torchvision's vgg19 as safetensors here"
        )


@dataclass(frozen=True)
class StageOneConfig(RunConfig):
    """Settings of stage one. For the compact model a warm start (M from labels; F, W and G on labelled keypoints) may
    precede the joint phase; the published architecture has only the joint phase.
    """

    variant: Literal["compact", "base"] = "compact"
    # Weights that the joint phase starts from, a name or folder; if empty, those of the warm start, or none.
    init: str = ""
    compile: bool = False  # use torch.compile: takes minutes at the start, then steps are faster
    # EfficientNet-Lite0 as safetensors, relative to the configuration file; if empty, the term is left out.
    perceptual: str = ""
    motion: MotionSettings = field(default_factory=MotionSettings)
    render: tuple[RenderSettings, ...] = field(default_factory=tuple)
    joint: JointSettings | None = None
    # Added to the mask logits of the exported G; a larger value keeps more of the source's pixels.
    mask_shift: float = 0.0

    @property
    def sizes(self) -> Variant:
        """The variant of the networks, with their sizes."""
        return COMPACT if self.variant == "compact" else BASE

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values and combinations."""
        super().__post_init__()
        if self.variant == "base":
            rule = "base has only the joint phase: remove [[render]] or choose variant = 'compact'"
            check("render", len(self.render), not self.render, rule)
            rule = "the joint phase trains it: add a [joint] table"
            check("variant", self.variant, self.joint is not None, rule)
        if self.joint is None:
            return
        if self.variant == "compact":
            check("joint.size", self.joint.size, self.joint.size in SIZES, SIZES_RULE)
            return
        side = self.sizes.input_size
        check("joint.size", self.joint.size, self.joint.size == side, f"base compares at {side}")
        for name in ("labels", "layers"):
            value = getattr(self.joint.weights, name)
            check(f"joint.weights.{name}", value, value == 0, "only compact has this term: set it to 0")


def load_config(path: Path) -> StageOneConfig:
    """Read a TOML file. Raises `UserError`, naming the key, for unknown keys, wrong types and impossible values."""
    return read_toml(StageOneConfig, path)
