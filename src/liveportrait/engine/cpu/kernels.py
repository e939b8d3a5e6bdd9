"""Loops that numba compiles: what stands between the products of matrices, one pass over memory each.

Every kernel does a range of its rows (of tiles, pixels or slices), `first` to `last`, so that threads can share them;
none holds Python's lock. Maps are channels-last and float32, products and what is multiplied float32 or bfloat16 (then
as uint16, the bits). What they compute is told by `passes.Passes`, by methods of the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import overload

from liveportrait.engine.cache import cache_folder
from liveportrait.engine.cpu import places

# Channels at once: a tile of them stays in the innermost cache. Loops over them write to one array only, for the
# compiler must prove that no two overlap before it uses vectors, and gives up where there are many.
BLOCK = 128
NEAR, FAR = np.float32(places.NEAR), np.float32(places.FAR)
NEAR2, FAR2 = np.float32(places.NEAR2), np.float32(places.FAR2)
BOTH2, FAR3 = np.float32(places.NEAR2 + places.FAR2), np.float32(places.FAR**3)
NEAR3 = np.float32(places.NEAR**3)


def compiled(function: Callable[..., None]) -> Any:
    """The function as machine code, kept beside other compiled artefacts, or made anew where that cannot be written."""
    # Multiplications and additions may become one; sums keep their order.
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}}
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_folder() / "numba")
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
def _valued(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
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
def _recovered(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """Six products along an axis to the four outputs."""
    near, near_odd, far, far_odd = b + c, b - c, d + e, d - e
    return (
        a + near + far,
        NEAR * near_odd + FAR * far_odd,
        NEAR2 * near + FAR2 * far,
        NEAR3 * near_odd + FAR3 * far_odd + f,
    )


@inlined
def _tile(products, group, number, c, end, half, tile):  # type: ignore[no-untyped-def]
    """The 4x4 outputs of a tile, channels c to end: `tile` (4,4,BLOCK) is written, `half` (4,6,BLOCK) used."""
    groups = len(products) // 36
    for x in range(6):
        at = 6 * x * groups + group
        p0, p1 = products[at, number, c:end], products[at + groups, number, c:end]
        p2, p3 = products[at + 2 * groups, number, c:end], products[at + 3 * groups, number, c:end]
        p4, p5 = products[at + 4 * groups, number, c:end], products[at + 5 * groups, number, c:end]
        for k in range(end - c):
            half[0, x, k], half[1, x, k], half[2, x, k], half[3, x, k] = _recovered(
                widened(p0[k]), widened(p1[k]), widened(p2[k]), widened(p3[k]), widened(p4[k]), widened(p5[k])
            )
    for y in range(4):
        for k in range(end - c):
            tile[y, 0, k], tile[y, 1, k], tile[y, 2, k], tile[y, 3, k] = _recovered(
                half[y, 0, k], half[y, 1, k], half[y, 2, k], half[y, 3, k], half[y, 4, k], half[y, 5, k]
            )


@compiled
def to_tiles(maps, channel, rows, columns, down, across, out, first, last):  # type: ignore[no-untyped-def]
    """`rows`, `columns`: where in the maps the 6 by 6 inputs of all tiles lie, four further each; below 0 are zeros."""
    channels, groups = out.shape[2], len(out) // 36
    count = len(maps) // groups
    half, row = np.empty((6, 6, BLOCK), np.float32), np.empty((6, BLOCK), np.float32)
    zeros = np.zeros(BLOCK, np.float32)
    for line in range(first, last):
        n, i = line // down, line % down
        group = n // count
        r0, r1, r2, r3, r4, r5 = (
            rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3], rows[4 * i + 4], rows[4 * i + 5]
        )  # fmt: skip
        for j in range(across):
            for c in range(0, channels, BLOCK):
                size = min(channels - c, BLOCK)
                start, end = channel + c, channel + c + size
                none = zeros[:size]
                for x in range(6):
                    column = columns[4 * j + x]
                    inside = column >= 0
                    p0 = maps[n, r0, column, start:end] if inside and r0 >= 0 else none
                    p1 = maps[n, r1, column, start:end] if inside and r1 >= 0 else none
                    p2 = maps[n, r2, column, start:end] if inside and r2 >= 0 else none
                    p3 = maps[n, r3, column, start:end] if inside and r3 >= 0 else none
                    p4 = maps[n, r4, column, start:end] if inside and r4 >= 0 else none
                    p5 = maps[n, r5, column, start:end] if inside and r5 >= 0 else none
                    for k in range(size):
                        (
                            half[0, x, k], half[1, x, k], half[2, x, k],
                            half[3, x, k], half[4, x, k], half[5, x, k],
                        ) = _valued(p0[k], p1[k], p2[k], p3[k], p4[k], p5[k])  # fmt: skip
                for y in range(6):
                    for k in range(size):
                        (
                            row[0, k], row[1, k], row[2, k], row[3, k], row[4, k], row[5, k]
                        ) = _valued(
                            half[y, 0, k], half[y, 1, k], half[y, 2, k],
                            half[y, 3, k], half[y, 4, k], half[y, 5, k],
                        )  # fmt: skip
                    for x in range(6):
                        to = out[
                            (6 * x + y) * groups + group, line % (count * down) * across + j, c : c + size
                        ]
                        for k in range(size):
                            to[k] = narrowed(row[x, k], out)


@compiled
def from_tiles(products, down, across, bias, slope, top, out, first, last):  # type: ignore[no-untyped-def]
    channels, groups = products.shape[2], len(products) // 36
    count, height, width = len(out) // groups, out.shape[1], out.shape[2]
    half, tile = np.empty((4, 6, BLOCK), np.float32), np.empty((4, 4, BLOCK), np.float32)
    for line in range(first, last):
        n, i = line // down, line % down
        row = top + 4 * i
        for j in range(across):
            for c in range(0, channels, BLOCK):
                end = min(channels, c + BLOCK)
                _tile(products, n // count, line % (count * down) * across + j, c, end, half, tile)
                constant = bias[c:end]
                for y in range(min(4, height - row)):
                    for x in range(min(4, width - 4 * j)):
                        to = out[n, row + y, 4 * j + x, c:end]
                        for k in range(end - c):
                            made = tile[y, x, k] + constant[k]
                            to[k] = max(made, slope * made)


@compiled
def add_from_tiles(products, across, bias, x, step, top, out, first, last):  # type: ignore[no-untyped-def]
    height, width, channels = out.shape
    half, tile = np.empty((4, 6, BLOCK), np.float32), np.empty((4, 4, BLOCK), np.float32)
    for i in range(first, last):
        row = top + 4 * i
        for j in range(across):
            for c in range(0, channels, BLOCK):
                end = min(channels, c + BLOCK)
                _tile(products, 0, i * across + j, c, end, half, tile)
                constant = bias[c:end]
                for y in range(min(4, height - row)):
                    for z in range(min(4, width - 4 * j)):
                        to = out[row + y, 4 * j + z, c:end]
                        given = x[(row + y) // step, (4 * j + z) // step, c:end]
                        for k in range(end - c):
                            to[k] = given[k] + (tile[y, z, k] + constant[k])


@compiled
def modulate(products, across, bias, x, step, mean, rate, slope, top, out, first, last):  # type: ignore[no-untyped-def]
    height, width, channels = out.shape
    half, gains = np.empty((4, 6, BLOCK), np.float32), np.empty((4, 4, BLOCK), np.float32)
    shifts = np.empty((4, 4, BLOCK), np.float32)
    for i in range(first, last):
        row = top + 4 * i
        for j in range(across):
            for c in range(0, channels, BLOCK):
                end = min(channels, c + BLOCK)
                _tile(products, 0, i * across + j, c, end, half, gains)
                _tile(products, 0, i * across + j, channels + c, channels + end, half, shifts)
                gain_bias, shift_bias = bias[c:end], bias[channels + c : channels + end]
                centre, scale = mean[c:end], rate[c:end]
                for y in range(min(4, height - row)):
                    for z in range(min(4, width - 4 * j)):
                        to = out[row + y, 4 * j + z, c:end]
                        given = x[(row + y) // step, (4 * j + z) // step, c:end]
                        for k in range(end - c):
                            normal = (given[k] - centre[k]) * scale[k]
                            gain, shift = gains[y, z, k] + gain_bias[k], shifts[y, z, k] + shift_bias[k]
                            made = normal * gain + shift
                            to[k] = max(made, slope * made)


@compiled
def scale_and_shift(products, across, bias, x, step, mean, rate, top, scaled, out, first, last):  # type: ignore[no-untyped-def]
    height, width, outputs = out.shape
    channels = scaled.shape[2]
    half, tile = np.empty((4, 6, BLOCK), np.float32), np.empty((4, 4, BLOCK), np.float32)
    for i in range(first, last):
        row = top + 4 * i
        for j in range(across):
            for begin, stop in ((0, channels), (channels, channels + outputs)):
                for c in range(begin, stop, BLOCK):
                    end = min(stop, c + BLOCK)
                    _tile(products, 0, i * across + j, c, end, half, tile)
                    constant = bias[c:end]
                    for y in range(min(4, height - row)):
                        for z in range(min(4, width - 4 * j)):
                            if begin == 0:
                                given = x[(row + y) // step, (4 * j + z) // step, c:end]
                                to = scaled[4 * i + y, 4 * j + z, c:end]
                                centre, scale = mean[c:end], rate[c:end]
                                for k in range(end - c):
                                    normal = (given[k] - centre[k]) * scale[k]
                                    to[k] = normal * (tile[y, z, k] + constant[k])
                            else:
                                to = out[row + y, 4 * j + z, c - channels : end - channels]
                                for k in range(end - c):
                                    to[k] += tile[y, z, k] + constant[k]


@compiled
def moments(x, means, squares, first, last):  # type: ignore[no-untyped-def]
    """Of each row (H,C): the mean, and the sum of squared distances from it."""
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


@compiled
def to_slabs(volume, out, first, last):  # type: ignore[no-untyped-def]
    """`volume` (D,H,W·C), out (6,d,H,W·C)."""
    depth, height, length = volume.shape
    zeros, made = np.zeros(BLOCK, np.float32), np.empty((6, BLOCK), np.float32)
    for number in range(first, last):
        slab, i = number // height, number % height
        z = 4 * slab - 1
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
                ) = _valued(p0[k], p1[k], p2[k], p3[k], p4[k], p5[k])  # fmt: skip
            for place in range(6):
                to = out[place, slab, i, c:end]
                for k in range(end - c):
                    to[k] = made[place, k]


@compiled
def from_slabs(values, bias, slope, out, first, last):  # type: ignore[no-untyped-def]
    height, width, channels = values.shape[2:]
    depth = out.shape[0]
    made = np.empty((4, channels), np.float32)
    for number in range(first, last):
        slab, i = number // height, number % height
        for j in range(width):
            p0, p1, p2 = values[0, slab, i, j], values[1, slab, i, j], values[2, slab, i, j]
            p3, p4, p5 = values[3, slab, i, j], values[4, slab, i, j], values[5, slab, i, j]
            for k in range(channels):
                made[0, k], made[1, k], made[2, k], made[3, k] = _recovered(
                    p0[k], p1[k], p2[k], p3[k], p4[k], p5[k]
                )
            for z in range(min(4, depth - 4 * slab)):
                to = out[4 * slab + z, i, j]
                for k in range(channels):
                    sum = made[z, k] + bias[k]
                    to[k] = max(sum, slope * sum)


@compiled
def from_steps(products, bias, slope, out, first, last):  # type: ignore[no-untyped-def]
    height, width = products.shape[1:3]
    channels = products.shape[5]
    factor = out.shape[1] // height
    rows = np.empty((width + 2, 3, BLOCK), np.float32)  # with nothing beyond either end
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


@compiled
def from_spectra(products, depth, out, first, last):  # type: ignore[no-untyped-def]
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
