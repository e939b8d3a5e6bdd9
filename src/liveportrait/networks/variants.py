"""The sizes of the networks, as data. `BASE` is the published architecture, `COMPACT` the bundled one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One set of network sizes. `architecture` names the family of modules that the sizes belong to."""

    name: str
    architecture: str  # "base" or "compact": which package of `networks` builds it
    input_size: int  # side of the square crop that F and M see, px
    output_size: int  # side of the square picture that G makes, px
