"""Transforms before and after Winograd's matrix products, fused with the next operation; see `kernels`.

A tile is 4x4 outputs and the 6x6 inputs that they depend on. `rows` and `columns` of tiles are counted as `down` and
`across`; `top` is the row of the map where a stripe starts. `doubled` is 1 for a map x of half the size, whose pixels
are repeated.
"""

from __future__ import annotations

import numpy as np

from liveportrait.engine.winograd.kernels import (
    BLOCK,
    inlined,
    input_along_axis,
    kernel,
    output_along_axis,
    rounded_as,
    widened,
)


@inlined
def _tile(products, group, number, c, end, half, tile):  # type: ignore[no-untyped-def]
    """Write the 4x4 outputs of a tile, channels c to end, to `tile` (4,4,BLOCK); `half` (4,6,BLOCK) is workspace."""
    groups = len(products) // 36
    for x in range(6):
        at = 6 * x * groups + group
        p0, p1 = products[at, number, c:end], products[at + groups, number, c:end]
        p2, p3 = products[at + 2 * groups, number, c:end], products[at + 3 * groups, number, c:end]
        p4, p5 = products[at + 4 * groups, number, c:end], products[at + 5 * groups, number, c:end]
        for k in range(end - c):
            half[0, x, k], half[1, x, k], half[2, x, k], half[3, x, k] = output_along_axis(
                widened(p0[k]), widened(p1[k]), widened(p2[k]), widened(p3[k]), widened(p4[k]), widened(p5[k])
            )
    for y in range(4):
        for k in range(end - c):
            tile[y, 0, k], tile[y, 1, k], tile[y, 2, k], tile[y, 3, k] = output_along_axis(
                half[y, 0, k], half[y, 1, k], half[y, 2, k], half[y, 3, k], half[y, 4, k], half[y, 5, k]
            )


@kernel
def transform_input(maps, channel, rows, columns, down, across, out, first, last):  # type: ignore[no-untyped-def]
    """Input transform. `rows`, `columns`: positions in the maps of the tiles' inputs, 4 per tile; negative: zeros."""
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
                outside = zeros[:size]
                for x in range(6):
                    column = columns[4 * j + x]
                    inside = column >= 0
                    p0 = maps[n, r0, column, start:end] if inside and r0 >= 0 else outside
                    p1 = maps[n, r1, column, start:end] if inside and r1 >= 0 else outside
                    p2 = maps[n, r2, column, start:end] if inside and r2 >= 0 else outside
                    p3 = maps[n, r3, column, start:end] if inside and r3 >= 0 else outside
                    p4 = maps[n, r4, column, start:end] if inside and r4 >= 0 else outside
                    p5 = maps[n, r5, column, start:end] if inside and r5 >= 0 else outside
                    for k in range(size):
                        (
                            half[0, x, k], half[1, x, k], half[2, x, k],
                            half[3, x, k], half[4, x, k], half[5, x, k],
                        ) = input_along_axis(p0[k], p1[k], p2[k], p3[k], p4[k], p5[k])  # fmt: skip
                for y in range(6):
                    for k in range(size):
                        (
                            row[0, k], row[1, k], row[2, k], row[3, k], row[4, k], row[5, k]
                        ) = input_along_axis(
                            half[y, 0, k], half[y, 1, k], half[y, 2, k],
                            half[y, 3, k], half[y, 4, k], half[y, 5, k],
                        )  # fmt: skip
                    for x in range(6):
                        to = out[
                            (6 * x + y) * groups + group, line % (count * down) * across + j, c : c + size
                        ]
                        for k in range(size):
                            to[k] = rounded_as(row[x, k], out)


@kernel
def transform_output(products, down, across, bias, slope, top, out, first, last):  # type: ignore[no-untyped-def]
    """Output transform, bias and leaky ReLU."""
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
                            value = tile[y, x, k] + constant[k]
                            to[k] = max(value, slope * value)


@kernel
def transform_output_add(products, across, bias, x, doubled, top, out, first, last):  # type: ignore[no-untyped-def]
    """Output transform and bias, added to x."""
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
                        pixel = x[(row + y) >> doubled, (4 * j + z) >> doubled, c:end]
                        for k in range(end - c):
                            to[k] = pixel[k] + (tile[y, z, k] + constant[k])


@kernel
def transform_output_modulate(products, across, bias, x, doubled, mean, rate, slope, top, out, first, last):  # type: ignore[no-untyped-def]
    """Output transform of gains and shifts, applied to the normalised x, then leaky ReLU."""
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
                        pixel = x[(row + y) >> doubled, (4 * j + z) >> doubled, c:end]
                        for k in range(end - c):
                            normal = (pixel[k] - centre[k]) * scale[k]
                            gain, shift = gains[y, z, k] + gain_bias[k], shifts[y, z, k] + shift_bias[k]
                            value = normal * gain + shift
                            to[k] = max(value, slope * value)


@kernel
def transform_output_scale_shift(  # type: ignore[no-untyped-def]
    products, across, bias, x, doubled, mean, rate, top, scaled, out, first, last
):
    """Output transform: gains times the normalised x go to `scaled`, shifts are added to `out`."""
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
                                pixel = x[(row + y) >> doubled, (4 * j + z) >> doubled, c:end]
                                to = scaled[4 * i + y, 4 * j + z, c:end]
                                centre, scale = mean[c:end], rate[c:end]
                                for k in range(end - c):
                                    normal = (pixel[k] - centre[k]) * scale[k]
                                    to[k] = normal * (tile[y, z, k] + constant[k])
                            else:
                                to = out[row + y, 4 * j + z, c - channels : end - channels]
                                for k in range(end - c):
                                    to[k] += tile[y, z, k] + constant[k]
