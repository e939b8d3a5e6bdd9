"""What is done between products of matrices: passes over memory, as compiled loops or as PyTorch's operations.

Each is one pass where numba is installed, in place of five to thirty operations that write their results to memory:
half the time of a frame. Both forms compute the same.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple, Protocol

from torch import Tensor


class Normal(NamedTuple):
    """A map as instance normalisation, and then nearest-neighbour doubling, leave it: (x - mean)·rate."""

    x: Tensor  # (H,W,C)
    mean: Tensor  # (C,)
    rate: Tensor  # (C,)
    doubled: bool


class Passes(Protocol):
    """Maps are channels-last and float32; tiles and products float32 or bfloat16. What is `out` is written.

    Products of a stripe belong to the rows of the map from `top` on; what would lie beyond the map is left out.
    Activations are max(v, slope·v): with slope 1 there is none.
    """

    def to_tiles(self, maps: Tensor, channel: int, places: Tensor | None, top: int, out: Tensor) -> None:
        """Maps (N,H,W,..) at 6 by 6 places of every tile of a stripe: out (36·g,n,h,w,C), columns before rows.

        The N maps are g groups of n. C channels are read, from number `channel` on. A border of zeros surrounds the
        maps. With `places` (S,), what has tiles is (S,S): at row i and column j stands what the given map has in row
        places[i] and column places[j].
        """
        ...

    def from_tiles(self, products: Tensor, bias: Tensor, slope: float, top: int, out: Tensor) -> None:
        """Outputs of the products (36·g,n,h,w,O), with bias (O,) and activation: rows of out (N,H,W,O)."""
        ...

    def add_from_tiles(self, products: Tensor, bias: Tensor, normal: Normal, top: int, out: Tensor) -> None:
        """The same of products (36,1,h,w,O), added to x as it stands in `normal`: rows of out (H,W,O)."""
        ...

    def modulate(
        self, products: Tensor, bias: Tensor, normal: Normal, slope: float, top: int, out: Tensor
    ) -> None:
        """The normal map times gain plus shift, activated: rows of out (H,W,C).

        Gain and shift are the first and last C channels of the products' (36,1,h,w,2·C) outputs.
        """
        ...

    def scale_and_shift(
        self, products: Tensor, bias: Tensor, normal: Normal, top: int, scaled: Tensor, out: Tensor
    ) -> None:
        """Of products (36,1,h,w,C+O): the normal map times gain in `scaled` (rows,W,C); out (H,W,O) plus shift."""
        ...

    def to_slabs(self, volume: Tensor, out: Tensor) -> None:
        """The volume (D,H,W,C) at the six places of every slab of 4 slices, zeros around it: out (6,d,H,W,C)."""
        ...

    def from_slabs(self, values: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
        """Of values (6,d,H,W,O), with bias and activation: the first O channels of out (D,H,W,..)."""
        ...

    def from_steps(self, products: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
        """Products (N,H,W,3,3,O), see `enlarging`, as the enlarged maps out (N,f·H,f·W,O), with bias and activation."""
        ...

    def from_spectra(self, products: Tensor, depth: int, out: Tensor) -> None:
        """Sums in depth of volumes' spectra times kernels' spectra: out (L,2,N·D,O), real and imaginary.

        Products (2,L,N·D,2,T,O) are those of the volumes' real and of their imaginary parts with the real and
        imaginary parts of the kernels' T slices.
        """
        ...

    def see_motions(self, compressed: Tensor, source: Tensor, driving: Tensor, out: Tensor) -> None:
        """What W's hourglass sees of the sparse motions, out (D,H,W,110), and zeros in what more channels there are.

        compressed (1,4,D,H,W); keypoints (1,21,3).
        """
        ...

    def normal(self, x: Tensor, doubled: bool) -> Normal:
        """The map (H,W,C) with its statistics."""
        ...


@cache
def compiles() -> bool:
    """Whether numba is there and fits the other packages."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def passes() -> Passes:
    """The compiled ones where that is possible."""
    if compiles():
        from liveportrait.engine.winograd.compiled_passes import CompiledPasses

        return CompiledPasses()
    from liveportrait.engine.winograd.plain_passes import PlainPasses

    return PlainPasses()
