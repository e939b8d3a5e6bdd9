"""The sizes of the networks, as data. `BASE` is the published architecture, `COMPACT` the bundled one.

A family of modules is a package of `networks` with a `Sizes` dataclass and `build(sizes)`. To add one,
name its `Sizes` in `ARCHITECTURES` and in the type of `Variant.sizes`, and dispatch to it in
`networks.build`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from liveportrait.networks import base, compact
from liveportrait.networks.interface import CROP_SIDE
from liveportrait.networks.retargeting import RetargetingSizes

ARCHITECTURES = {"base": base.Sizes, "compact": compact.Sizes}


@dataclass(frozen=True)
class Variant:
    """One set of network sizes. The type of `sizes` says which family of modules they belong to."""

    name: str
    input_size: int  # side of the square crop that F and M see, px
    output_size: int  # side of the square picture that G makes, px
    sizes: base.Sizes | compact.Sizes
    retargeting: RetargetingSizes = field(default_factory=RetargetingSizes)
    # Crops reaching outside a picture repeat its edge; else they are black there.
    replicate_border: bool = False

    @property
    def architecture(self) -> str:
        """Name of the family: "base" or "compact"."""
        return next(name for name, sizes in ARCHITECTURES.items() if isinstance(self.sizes, sizes))


BASE = Variant("base", input_size=CROP_SIDE, output_size=2 * CROP_SIDE, sizes=base.Sizes())
COMPACT = Variant(
    "compact", input_size=CROP_SIDE, output_size=CROP_SIDE, sizes=compact.Sizes(), replicate_border=True
)
