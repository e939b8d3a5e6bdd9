"""Kernels over maps, volumes and spectra, and how numba compiles them; `elementwise` says what each computes.

A kernel processes a range of rows (of tiles, pixels or slices), `first` to `last`, so that threads can share the work,
and releases Python's lock. Maps are channels-last and float32; products and their factors are float32 or bfloat16 (then
as uint16 bits).
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

OUT, IN = 4, 6  # side of a tile of Winograd's F(4x4, 3x3), of outputs and of inputs

# The interpolation points, besides 0 and infinity, are ±2/3 and ±3/2. The usual ones are ±1 and ±2. Rounding errors
# grow by the norms of the three transforms: 10.8 times on both axes with the usual points, but only 4.75 times with
# these, which is close to the best that two pairs can do.
NEAR, FAR = 2 / 3, 3 / 2
NEAR2, FAR2 = NEAR**2, FAR**2

# Channels processed at once: a tile of so many stays in the first-level cache. Loops over them write to one array
# only, since the compiler must prove that no two arrays overlap before it vectorises, and gives up if there are many.
BLOCK = 128
_NEAR, _FAR = np.float32(NEAR), np.float32(FAR)
_NEAR2, _FAR2 = np.float32(NEAR2), np.float32(FAR2)
_BOTH2, _FAR3 = np.float32(NEAR2 + FAR2), np.float32(FAR**3)
_NEAR3 = np.float32(NEAR**3)
# numba notices changes in the file that contains a kernel, but not in files that it imports from.
_SOURCES = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("kernels.py", "lanes.py"))
CACHE = cache_folder() / f"numba-{sha256(_SOURCES).hexdigest()[:16]}"


def kernel(function: Callable[..., None]) -> Any:
    """The function compiled to machine code, cached with the other compiled artefacts if their folder is writable."""
    # Multiplications and additions may be fused; sums keep their order.
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


def rounded_as(number, like):  # type: ignore[no-untyped-def]
    """The float32 number as the array holds them; to bfloat16 it is rounded to the nearest, ties to even."""


@overload(rounded_as, inline="always")
def _rounded_as(number, like):  # type: ignore[no-untyped-def]
    if like.dtype != types.uint16:
        return lambda number, like: number

    def rounded(number, like):  # type: ignore[no-untyped-def]
        bits = np.float32(number).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    return rounded


@inlined
def input_along_axis(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """The input transform of one axis: six inputs at the six points."""
    even, odd = e - _FAR2 * c, d - _FAR2 * b
    even_far, odd_far = e - _NEAR2 * c, d - _NEAR2 * b
    return (
        a + e - _BOTH2 * c,
        even + _NEAR * odd,
        even - _NEAR * odd,
        even_far + _FAR * odd_far,
        even_far - _FAR * odd_far,
        b + f - _BOTH2 * d,
    )


@inlined
def output_along_axis(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """The output transform of one axis: six products to four outputs."""
    near, near_odd, far, far_odd = b + c, b - c, d + e, d - e
    return (
        a + near + far,
        _NEAR * near_odd + _FAR * far_odd,
        _NEAR2 * near + _FAR2 * far,
        _NEAR3 * near_odd + _FAR3 * far_odd + f,
    )


@kernel
def moments(x, means, squares, first, last):  # type: ignore[no-untyped-def]
    """The mean of every row (H,C), and the sum of squared deviations from it."""
    width, channels = x.shape[1:]
    for i in range(first, last):
        mean, square = means[i], squares[i]
        mean[:] = 0
        square[:] = 0
        for j in range(width):
            given = x[i, j]
            for k in range(channels):
                mean[k] += given[k]
        for k in range(channels):
            mean[k] /= np.float32(width)
        for j in range(width):
            given = x[i, j]
            for k in range(channels):
                square[k] += (given[k] - mean[k]) * (given[k] - mean[k])


@kernel
def transform_input_depth(volume, out, first, last):  # type: ignore[no-untyped-def]
    """`volume` (D,H,W·C), out (6,d,H,W·C)."""
    depth, height, length = volume.shape
    zeros, made = np.zeros(BLOCK, np.float32), np.empty((6, BLOCK), np.float32)
    for number in range(first, last):
        tile, i = number // height, number % height
        z = 4 * tile - 1
        for c in range(0, length, BLOCK):
            end = min(length, c + BLOCK)
            none = zeros[: end - c]
            p0 = volume[z, i, c:end] if z >= 0 else none
            p1 = volume[z + 1, i, c:end]
            p2 = volume[z + 2, i, c:end] if z + 2 < depth else none
            p3 = volume[z + 3, i, c:end] if z + 3 < depth else none
            p4 = volume[z + 4, i, c:end] if z + 4 < depth else none
            p5 = volume[z + 5, i, c:end] if z + 5 < depth else none
            for k in range(end - c):
                (
                    made[0, k], made[1, k], made[2, k], made[3, k], made[4, k], made[5, k]
                ) = input_along_axis(p0[k], p1[k], p2[k], p3[k], p4[k], p5[k])  # fmt: skip
            for point in range(6):
                to = out[point, tile, i, c:end]
                for k in range(end - c):
                    to[k] = made[point, k]


@kernel
def transform_output_depth(products, bias, slope, out, first, last):  # type: ignore[no-untyped-def]
    height, width, channels = products.shape[2:]
    depth = out.shape[0]
    made = np.empty((4, channels), np.float32)
    for number in range(first, last):
        tile, i = number // height, number % height
        for j in range(width):
            p0, p1, p2 = products[0, tile, i, j], products[1, tile, i, j], products[2, tile, i, j]
            p3, p4, p5 = products[3, tile, i, j], products[4, tile, i, j], products[5, tile, i, j]
            for k in range(channels):
                made[0, k], made[1, k], made[2, k], made[3, k] = output_along_axis(
                    p0[k], p1[k], p2[k], p3[k], p4[k], p5[k]
                )
            for z in range(min(4, depth - 4 * tile)):
                to = out[4 * tile + z, i, j]
                for k in range(channels):
                    sum = made[z, k] + bias[k]
                    to[k] = max(sum, slope * sum)


@kernel
def upsampled_output(products, bias, slope, out, first, last):  # type: ignore[no-untyped-def]
    height, width = products.shape[1:3]
    channels = products.shape[5]
    factor = out.shape[1] // height
    rows = np.empty((width + 2, 3, BLOCK), np.float32)  # with zeros beyond both ends
    rows[0] = 0
    rows[width + 1] = 0
    zeros = np.zeros_like(products[0, 0, 0, 0, 0])
    for number in range(first, last):
        n, i = number // height, number % height
        for copy in range(factor):
            # The first copy sees the row before, the last one the row after.
            tap, other = (1, i - 1) if copy == 0 else (2, i + 1) if copy == factor - 1 else (0, i)
            for c in range(0, channels, BLOCK):
                size = min(BLOCK, channels - c)
                end = c + size
                constant = bias[c:end]
                for j in range(width):
                    for column in range(3):
                        whole, to = products[n, i, j, 0, column, c:end], rows[j + 1, column]
                        if tap == 0:
                            for k in range(size):
                                to[k] = widened(whole[k])
                        else:
                            own = products[n, i, j, tap, column, c:end]
                            seen = (
                                products[n, other, j, tap, column, c:end]
                                if 0 <= other < height
                                else zeros[c:end]
                            )
                            for k in range(size):
                                to[k] = widened(whole[k]) + (widened(seen[k]) - widened(own[k]))
                for j in range(width):
                    for across in range(factor):
                        to = out[n, factor * i + copy, factor * j + across, c:end]
                        whole = rows[j + 1, 0]
                        if 0 < across < factor - 1:
                            for k in range(size):
                                sum = whole[k] + constant[k]
                                to[k] = max(sum, slope * sum)
                        else:
                            side = 1 if across == 0 else 2
                            own, seen = rows[j + 1, side], rows[j if side == 1 else j + 2, side]
                            for k in range(size):
                                sum = whole[k] + (seen[k] - own[k]) + constant[k]
                                to[k] = max(sum, slope * sum)


@kernel
def sum_spectra(products, depth, out, first, last):  # type: ignore[no-untyped-def]
    pictures, _, taps, outputs = products.shape[2:]
    for f in range(first, last):
        out[f] = 0
        for number in range(pictures):  # in the order of memory
            z = number % depth
            for tap in range(taps):
                step = taps // 2 - tap
                if 0 <= z + step < depth:
                    real, imaginary = out[f, 0, number + step], out[f, 1, number + step]
                    rr, ri = products[0, f, number, 0, tap], products[0, f, number, 1, tap]
                    ir, ii = products[1, f, number, 0, tap], products[1, f, number, 1, tap]
                    for k in range(outputs):
                        real[k] += rr[k] - ii[k]
                        imaginary[k] += ri[k] + ir[k]


@kernel
def motion_features(  # type: ignore[no-untyped-def]
    compressed, x_positions, y_positions, z_positions, x_bumps, y_bumps, z_bumps, out, first, last
):
    """`compressed` (D,H,W,C); positions (K,N), from -1 to N, say where each motion samples the cells of an axis.

    Bumps (2,K,N) are Gaussians along an axis around the driving keypoints and around the source's.
    """
    depth, height, width, channels = compressed.shape
    row = np.zeros((width + 3, channels), np.float32)  # with zeros beyond both ends
    inside = row[1 : width + 1]
    for line in range(first, last):
        z, y = line // height, line % height
        out[z, y] = 0
        for k in range(len(x_positions)):
            inside[:] = 0
            z_first, y_first = int(np.floor(z_positions[k, z])), int(np.floor(y_positions[k, y]))
            z_share, y_share = z_positions[k, z] - z_first, y_positions[k, y] - y_first
            for i in range(max(0, z_first), min(depth, z_first + 2)):
                for j in range(max(0, y_first), min(height, y_first + 2)):
                    share = (z_share if i > z_first else 1 - z_share) * (
                        y_share if j > y_first else 1 - y_share
                    )
                    for cell in range(width):
                        for c in range(channels):
                            inside[cell, c] += share * compressed[i, j, cell, c]
            driving, source = z_bumps[0, k, z] * y_bumps[0, k, y], z_bumps[1, k, z] * y_bumps[1, k, y]
            for x in range(width):
                to = out[z, y, x, k * (channels + 1) : (k + 1) * (channels + 1)]
                to[0] = driving * x_bumps[0, k, x] - source * x_bumps[1, k, x]
                x_first = int(np.floor(x_positions[k, x]))
                share = x_positions[k, x] - x_first
                for c in range(channels):
                    to[c + 1] = (1 - share) * row[x_first + 1, c] + share * row[x_first + 2, c]
