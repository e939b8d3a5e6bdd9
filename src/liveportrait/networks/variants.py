"""Variants of the networks, as data, and `build`. `BASE` is the published architecture, `COMPACT` ours.

An architecture is a package of `networks` with a `Sizes` dataclass and `build(sizes)`. To add one,
name its `Sizes` in `ARCHITECTURES` and in the type of `Variant.sizes`, and dispatch to it in `build`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from torch import nn

from liveportrait.networks import base, compact
from liveportrait.networks.expression import ExpressionNetwork, ExpressionSizes
from liveportrait.networks.interface import CROP_SIDE
from liveportrait.networks.retargeting import EyeRetargeting, LipRetargeting, RetargetingSizes, Stitching

ARCHITECTURES = {"base": base.Sizes, "compact": compact.Sizes}


@dataclass(frozen=True)
class Variant:
    """One set of network sizes. The type of `sizes` determines the architecture."""

    name: str
    input_size: int  # side of the square crop that F and M see, px
    output_size: int  # side of the square picture that G makes, px
    sizes: base.Sizes | compact.Sizes
    retargeting: RetargetingSizes = field(default_factory=RetargetingSizes)
    expression: ExpressionSizes = field(default_factory=ExpressionSizes)
    # Crops that reach outside a picture replicate its edge; otherwise they are black there.
    replicate_border: bool = False

    @property
    def architecture(self) -> str:
        """Name of the architecture: "base" or "compact"."""
        return next(name for name, sizes in ARCHITECTURES.items() if isinstance(self.sizes, sizes))

    @property
    def carries_source(self) -> bool:
        """Whether the source's own pixels are warped, so that pictures can have any resolution (`Layers`)."""
        return isinstance(self.sizes, compact.Sizes)


BASE = Variant("base", input_size=CROP_SIDE, output_size=2 * CROP_SIDE, sizes=base.Sizes())
COMPACT = Variant(
    "compact", input_size=CROP_SIDE, output_size=CROP_SIDE, sizes=compact.Sizes(), replicate_border=True
)


@dataclass(eq=False)
class Networks:
    """The networks of one variant. The small ones are None unless they were trained."""

    variant: Variant
    appearance: nn.Module
    motion: nn.Module
    warping: nn.Module
    generator: nn.Module
    stitching: nn.Module | None = None
    eye_retargeting: nn.Module | None = None
    lip_retargeting: nn.Module | None = None
    expression: nn.Module | None = None
    mouth_painter: nn.Module | None = None

    def modules(self) -> dict[str, nn.Module]:
        """The networks that are present, by attribute name."""
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "variant"}
        return {name: module for name, module in parts.items() if module is not None}


def build(
    variant: Variant, retargeting: bool = False, expression: bool = False, painter: bool = False
) -> Networks:
    """The networks of a variant, in training mode, with untrained weights.

    Without `retargeting` the stitching, eye and lip modules are None, without `expression` E, without `painter` the
    mouth painter: so untrained ones cannot be mistaken for trained ones, and are not saved with the weights.
    """
    match variant.sizes:
        case base.Sizes() as sizes:
            networks = Networks(variant, *base.build(sizes))
        case compact.Sizes() as sizes:
            networks = Networks(variant, *compact.build(sizes))
            if expression:  # E moves landmarks, which only this architecture's keypoints are
                networks.expression = ExpressionNetwork(variant.expression)
            if painter:
                networks.mouth_painter = compact.MouthPainter(sizes.painter)
    if retargeting:
        networks.stitching = Stitching(variant.retargeting.stitching)
        networks.eye_retargeting = EyeRetargeting(variant.retargeting.eye)
        networks.lip_retargeting = LipRetargeting(variant.retargeting.lip)
    return networks
