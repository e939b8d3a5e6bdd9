"""What kernels are made with: numba's compiler and its cache, numbers in bfloat16, Winograd's sums along an axis.

A kernel does a range of its rows (of tiles, pixels or slices), `first` to `last`, so that threads can share them, and
holds no lock of Python's. Maps are channels-last and float32, products and what is multiplied float32 or bfloat16 (then
as uint16, the bits). What kernels compute is told by `passes.Passes`, at methods of the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from liveportrait.engine.cache import cache_folder
from liveportrait.engine.winograd import places

# Channels at once: a tile of them stays in the innermost cache. Loops over them write to one array only, for the
# compiler must prove that no two overlap before it uses vectors, and gives up where there are many.
BLOCK = 128
NEAR, FAR = np.float32(places.NEAR), np.float32(places.FAR)
NEAR2, FAR2 = np.float32(places.NEAR2), np.float32(places.FAR2)
BOTH2, FAR3 = np.float32(places.NEAR2 + places.FAR2), np.float32(places.FAR**3)
NEAR3 = np.float32(places.NEAR**3)
# numba sees changes of the file a kernel is in, not of what it takes from here.
SOURCES = (Path(__file__), Path(places.__file__))
CACHE = cache_folder() / f"numba-{sha256(b''.join(path.read_bytes() for path in SOURCES)).hexdigest()[:16]}"


def compiled(function: Callable[..., None]) -> Any:
    """The function as machine code, kept beside other compiled artefacts, or made anew where that cannot be written."""
    # Multiplications and additions may become one; sums keep their order.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}}
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(CACHE)
    try:
        return numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):
        return numba.njit(**options)(function)
    finally:
        numba.config.CACHE_DIR = before


inlined = numba.njit(inline="always")


def widened(number):  # type: ignore[no-untyped-def]
    """A number of a map or a product as float32."""


@overload(widened, inline="always")
def _widened(number):  # type: ignore[no-untyped-def]
    if number == types.uint16:
        return lambda number: np.uint32(np.uint32(number) << np.uint32(16)).view(np.float32)
    return lambda number: number


def narrowed(number, like):  # type: ignore[no-untyped-def]
    """The float32 number as the array holds them; to bfloat16 it is rounded to the nearest, ties to even."""


@overload(narrowed, inline="always")
def _narrowed(number, like):  # type: ignore[no-untyped-def]
    if like.dtype != types.uint16:
        return lambda number, like: number

    def rounded(number, like):  # type: ignore[no-untyped-def]
        bits = np.float32(number).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return rounded


@inlined
def valued(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """Six inputs along an axis at the six places."""
    even, odd = e - FAR2 * c, d - FAR2 * b
    even_far, odd_far = e - NEAR2 * c, d - NEAR2 * b
    return (
        a + e - BOTH2 * c,
        even + NEAR * odd,
        even - NEAR * odd,
        even_far + FAR * odd_far,
        even_far - FAR * odd_far,
        b + f - BOTH2 * d,
    )


@inlined
def recovered(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """Six products along an axis to the four outputs."""
    near, near_odd, far, far_odd = b + c, b - c, d + e, d - e
    return (
        a + near + far,
        NEAR * near_odd + FAR * far_odd,
        NEAR2 * near + FAR2 * far,
        NEAR3 * near_odd + FAR3 * far_odd + f,
    )
