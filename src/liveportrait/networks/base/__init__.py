"""The published architecture: 256 px in, 512 px out, 130 M parameters.

Modules, parameters and buffers have the names of the published checkpoints, so that these load key for key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from liveportrait.networks.base.appearance import AppearanceFeatureExtractor, AppearanceSizes
from liveportrait.networks.base.generator import (
    GeneratorSizes,
    SpadeGenerator,
    apply_spectral_norm,
    fold_spectral_norm,
)
from liveportrait.networks.base.motion import MotionExtractor, MotionSizes
from liveportrait.networks.base.warping import WarpingModule, WarpingSizes

__all__ = [
    "AppearanceSizes",
    "GeneratorSizes",
    "MotionSizes",
    "Sizes",
    "WarpingSizes",
    "apply_spectral_norm",
    "build",
    "fold_spectral_norm",
]


@dataclass(frozen=True)
class Sizes:
    """Sizes of F, M, W and G. The output of one network must have the shape that the next one takes."""

    appearance: AppearanceSizes = field(default_factory=AppearanceSizes)
    motion: MotionSizes = field(default_factory=MotionSizes)
    warping: WarpingSizes = field(default_factory=WarpingSizes)
    generator: GeneratorSizes = field(default_factory=GeneratorSizes)

    def __post_init__(self) -> None:
        made = (self.appearance.volume_channels, self.appearance.volume_depth)
        taken = (self.warping.volume_channels, self.warping.volume_depth)
        if made != taken:
            raise ValueError(f"F makes a volume of (channels, depth) {made} but W takes {taken}")
        if self.warping.output_channels != self.generator.input_channels:
            raise ValueError(
                f"W makes {self.warping.output_channels} channels but G takes {self.generator.input_channels}"
            )


def build(
    sizes: Sizes,
) -> tuple[AppearanceFeatureExtractor, MotionExtractor, WarpingModule, SpadeGenerator]:
    """F, M, W and G with random weights; G without spectral norm (see `apply_spectral_norm`)."""
    return (
        AppearanceFeatureExtractor(sizes.appearance),
        MotionExtractor(sizes.motion),
        WarpingModule(sizes.warping),
        SpadeGenerator(sizes.generator),
    )
