"""The bundled architecture: 256 px in and out, 6.5 M parameters, for two processor cores.

It differs from the published one in that keypoints are landmarks found by heatmaps, the flow starts from the
closed-form motion of the head, and the source's own pixels are warped too, so that little needs to be painted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from liveportrait.networks.compact.appearance import AppearanceFeatureExtractor, AppearanceSizes
from liveportrait.networks.compact.generator import Generator, GeneratorSizes
from liveportrait.networks.compact.motion import MotionExtractor, MotionSizes
from liveportrait.networks.compact.painter import MouthPainter, PainterSizes
from liveportrait.networks.compact.warping import WarpingModule, WarpingSizes

__all__ = [
    "AppearanceSizes",
    "GeneratorSizes",
    "MotionSizes",
    "MouthPainter",
    "PainterSizes",
    "Sizes",
    "WarpingSizes",
    "build",
]


@dataclass(frozen=True)
class Sizes:
    """Sizes of F, M, W and G, and of the mouth painter."""

    appearance: AppearanceSizes = field(default_factory=AppearanceSizes)
    motion: MotionSizes = field(default_factory=MotionSizes)
    warping: WarpingSizes = field(default_factory=WarpingSizes)
    generator: GeneratorSizes = field(default_factory=GeneratorSizes)
    painter: PainterSizes = field(default_factory=PainterSizes)


def build(sizes: Sizes) -> tuple[AppearanceFeatureExtractor, MotionExtractor, WarpingModule, Generator]:
    """F, M, W and G with random weights."""
    return (
        AppearanceFeatureExtractor(sizes.appearance),
        MotionExtractor(sizes.motion),
        WarpingModule(sizes.warping, sizes.appearance),
        Generator(sizes.generator, sizes.appearance, sizes.warping),
    )
