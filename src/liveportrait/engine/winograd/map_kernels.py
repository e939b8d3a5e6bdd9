"""Loops over maps, volumes and spectra; see `compiling`."""

from __future__ import annotations

import numpy as np

from liveportrait.engine.winograd.compiling import BLOCK, compiled, recovered, valued, widened


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
                ) = valued(p0[k], p1[k], p2[k], p3[k], p4[k], p5[k])  # fmt: skip
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
                made[0, k], made[1, k], made[2, k], made[3, k] = recovered(
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


@compiled
def see_motions(compressed, x_places, y_places, z_places, x_bumps, y_bumps, z_bumps, out, first, last):  # type: ignore[no-untyped-def]
    """`compressed` (D,H,W,C); places (K,N), from -1 to N, are where each motion fetches the cells of an axis from.

    Bumps (2,K,N) are Gaussians along an axis around the driving keypoints and around the source's.
    """
    depth, height, width, channels = compressed.shape
    row = np.zeros((width + 3, channels), np.float32)  # with nothing beyond either end
    inside = row[1 : width + 1]
    for line in range(first, last):
        z, y = line // height, line % height
        out[z, y] = 0
        for k in range(len(x_places)):
            inside[:] = 0
            z_first, y_first = int(np.floor(z_places[k, z])), int(np.floor(y_places[k, y]))
            z_share, y_share = z_places[k, z] - z_first, y_places[k, y] - y_first
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
                x_first = int(np.floor(x_places[k, x]))
                share = x_places[k, x] - x_first
                for c in range(channels):
                    to[c + 1] = (1 - share) * row[x_first + 1, c] + share * row[x_first + 2, c]
