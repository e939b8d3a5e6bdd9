"""Hand-written kernels for convolutions of few channels and the operations between them, built on `lanes`.

A map is a flat array of shape (H+2,W+2,C) with a border of zeros; channels are innermost. `step` is the number of
channels of a map of which a kernel reads or writes only the first ones. Matrices are (outputs/16, inputs, 16), so that
the innermost loop reads them sequentially. Numbers of channels are multiples of 8, those of a convolution's outputs of
16; sides are multiples of 4.
"""

from __future__ import annotations

import numpy as np

from liveportrait.engine.winograd.kernels import FAR, FAR2, NEAR, NEAR2, inlined, kernel
from liveportrait.engine.winograd.lanes import LANES, exponential, load, splat, spread, store

PANEL = 2 * LANES  # outputs computed together
TILES = 32  # transformed at once: with 64 channels they fill the second-level cache
WORKSPACE = 36 * TILES  # workspace of `convolve`, numbers per input or output channel
_ROW = 6 * LANES  # numbers in a row of a tile

_NEAR, _FAR, _NEAR2, _FAR2 = np.float32(NEAR), np.float32(FAR), np.float32(NEAR2), np.float32(FAR2)
_BOTH2, _NEAR3, _FAR3 = np.float32(NEAR2 + FAR2), np.float32(NEAR**3), np.float32(FAR**3)
_ONE, _NONE = np.float32(1), np.float32(0)


@inlined
def _silu(x):  # type: ignore[no-untyped-def]
    return x / (splat(_ONE) + exponential(splat(_NONE) - x))


@inlined
def _to_points(x, at, step, out, to, out_step):  # type: ignore[no-untyped-def]
    """`kernels.input_along_axis` of six vectors, which lie `step` numbers apart in `x` and `out_step` in `out`."""
    a, b, c = load(x, at), load(x, at + step), load(x, at + 2 * step)
    d, e, f = load(x, at + 3 * step), load(x, at + 4 * step), load(x, at + 5 * step)
    even, odd = e - splat(_FAR2) * c, splat(_NEAR) * (d - splat(_FAR2) * b)
    even_far, odd_far = e - splat(_NEAR2) * c, splat(_FAR) * (d - splat(_NEAR2) * b)
    store(out, to, a + e - splat(_BOTH2) * c)
    store(out, to + out_step, even + odd)
    store(out, to + 2 * out_step, even - odd)
    store(out, to + 3 * out_step, even_far + odd_far)
    store(out, to + 4 * out_step, even_far - odd_far)
    store(out, to + 5 * out_step, b + f - splat(_BOTH2) * d)


@inlined
def _from_points(x, at, step):  # type: ignore[no-untyped-def]
    """`kernels.output_along_axis` of six vectors, which lie `step` numbers apart."""
    first, b, c = load(x, at), load(x, at + step), load(x, at + 2 * step)
    d, e, last = load(x, at + 3 * step), load(x, at + 4 * step), load(x, at + 5 * step)
    near, near_odd, far, far_odd = b + c, b - c, d + e, d - e
    return (
        first + near + far,
        splat(_NEAR) * near_odd + splat(_FAR) * far_odd,
        splat(_NEAR2) * near + splat(_FAR2) * far,
        splat(_NEAR3) * near_odd + splat(_FAR3) * far_odd + last,
    )


@inlined
def _four(x, at, step, matrix, panel, inputs, first, second):  # type: ignore[no-untyped-def]
    """`first` and `second` plus the products of a panel with four rows of x, which lie `step` apart from `at` on."""
    a0, a1, b0, b1, c0, c1, d0, d1 = first, second, first, second, first, second, first, second
    b, c, d = at + step, at + 2 * step, at + 3 * step
    for i in range(inputs):
        w0, w1 = load(matrix, panel + PANEL * i), load(matrix, panel + PANEL * i + LANES)
        value = spread(x, at + i)
        a0 = a0 + value * w0
        a1 = a1 + value * w1
        value = spread(x, b + i)
        b0 = b0 + value * w0
        b1 = b1 + value * w1
        value = spread(x, c + i)
        c0 = c0 + value * w0
        c1 = c1 + value * w1
        value = spread(x, d + i)
        d0 = d0 + value * w0
        d1 = d1 + value * w1
    return a0, a1, b0, b1, c0, c1, d0, d1


@inlined
def _store_pair(out, to, one, two):  # type: ignore[no-untyped-def]
    store(out, to, one)
    store(out, to + LANES, two)


@kernel
def multiply(rows, at, count, inputs, matrix, panel, outputs, out, to):  # type: ignore[no-untyped-def]
    """Write the product of rows (count,inputs) with a matrix to `out` (count,outputs) from `to` on; 4 divides count."""
    none = splat(_NONE)
    for part in range(0, outputs, PANEL):
        for row in range(0, count, 4):
            a0, a1, b0, b1, c0, c1, d0, d1 = _four(
                rows, at + row * inputs, inputs, matrix, panel + part * inputs, inputs, none, none
            )
            place = to + row * outputs + part
            _store_pair(out, place, a0, a1)
            _store_pair(out, place + outputs, b0, b1)
            _store_pair(out, place + 2 * outputs, c0, c1)
            _store_pair(out, place + 3 * outputs, d0, d1)


@kernel
def convolve(  # type: ignore[no-untyped-def]
    x, inputs, width, weight, bias, added, adds, activates, out, outputs, workspace, first, last
):
    """A 3x3 convolution by F(4x4, 3x3) for tiles `first` to `last`; `weight` is 36 matrices.

    `adds` adds the map `added` to the result, then `activates` applies SiLU. `workspace` fits TILES tiles.
    """
    line, across = width + 2, width // 4
    half = np.empty(6 * _ROW, np.float32)
    tiles, products = TILES * inputs, TILES * outputs  # numbers per point
    made = WORKSPACE * inputs  # where products start in the workspace
    for begin in range(first, last, TILES):
        count = min(TILES, last - begin)
        for tile in range(count):
            corner = (begin + tile) // across * 4 * line + (begin + tile) % across * 4
            for c in range(0, inputs, LANES):
                for column in range(6):
                    at = (corner + column) * inputs + c
                    _to_points(x, at, line * inputs, half, column * LANES, _ROW)
                for row in range(6):
                    to = row * tiles + tile * inputs + c
                    _to_points(half, _ROW * row, LANES, workspace, to, 6 * tiles)
        rows = (count + 3) // 4 * 4
        for point in range(36):
            panel, to = point * inputs * outputs, made + point * products
            multiply(workspace, point * tiles, rows, inputs, weight, panel, outputs, workspace, to)
        for tile in range(count):
            corner = ((begin + tile) // across * 4 + 1) * line + (begin + tile) % across * 4 + 1
            for c in range(0, outputs, LANES):
                for column in range(6):
                    at = made + 6 * column * products + tile * outputs + c
                    v0, v1, v2, v3 = _from_points(workspace, at, products)
                    to = column * LANES
                    store(half, to, v0)
                    store(half, to + _ROW, v1)
                    store(half, to + 2 * _ROW, v2)
                    store(half, to + 3 * _ROW, v3)
                constant = load(bias, c)
                for row in range(4):
                    v0, v1, v2, v3 = _from_points(half, _ROW * row, LANES)
                    v0, v1, v2, v3 = v0 + constant, v1 + constant, v2 + constant, v3 + constant
                    to = (corner + row * line) * outputs + c
                    if adds:
                        v0 = v0 + load(added, to)
                        v1 = v1 + load(added, to + outputs)
                        v2 = v2 + load(added, to + 2 * outputs)
                        v3 = v3 + load(added, to + 3 * outputs)
                    if activates:
                        v0, v1, v2, v3 = _silu(v0), _silu(v1), _silu(v2), _silu(v3)
                    store(out, to, v0)
                    store(out, to + outputs, v1)
                    store(out, to + 2 * outputs, v2)
                    store(out, to + 3 * outputs, v3)


@kernel
def conv1x1_silu(x, inputs, step, width, matrix, bias, out, outputs, first, last):  # type: ignore[no-untyped-def]
    """A 1x1 convolution and SiLU, for rows `first` to `last`."""
    line = width + 2
    for part in range(0, outputs, PANEL):
        one, two = load(bias, part), load(bias, part + LANES)
        for y in range(first + 1, last + 1):
            for pixel in range(y * line + 1, y * line + 1 + width, 4):
                a0, a1, b0, b1, c0, c1, d0, d1 = _four(
                    x, pixel * step, step, matrix, part * inputs, inputs, one, two
                )
                to = pixel * outputs + part
                _store_pair(out, to, _silu(a0), _silu(a1))
                _store_pair(out, to + outputs, _silu(b0), _silu(b1))
                _store_pair(out, to + 2 * outputs, _silu(c0), _silu(c1))
                _store_pair(out, to + 3 * outputs, _silu(d0), _silu(d1))


@kernel
def conv1x1_shuffle(x, inputs, width, matrix, bias, out, outputs, step, first, last):  # type: ignore[no-untyped-def]
    """A 1x1 convolution into a map of twice the height and width, as by `F.pixel_shuffle`, for rows `first` to `last`.

    The matrix holds the outputs of the upper left of four pixels, then the upper right, lower left and lower right.
    """
    line, large = width + 2, 2 * width + 2
    for part in range(0, 4 * outputs, PANEL):
        one, two = load(bias, part), load(bias, part + LANES)
        quarter, channel = part // outputs, part % outputs
        for y in range(first, last):
            corner = (2 * y + quarter // 2 + 1) * large + quarter % 2 + 1
            for column in range(0, width, 4):
                at = ((y + 1) * line + 1 + column) * inputs
                a0, a1, b0, b1, c0, c1, d0, d1 = _four(x, at, inputs, matrix, part * inputs, inputs, one, two)
                to = (corner + 2 * column) * step + channel
                _store_pair(out, to, a0, a1)
                _store_pair(out, to + 2 * step, b0, b1)
                _store_pair(out, to + 4 * step, c0, c1)
                _store_pair(out, to + 6 * step, d0, d1)


@kernel
def moments(x, channels, width, means, squares, first, last):  # type: ignore[no-untyped-def]
    """Mean, and sum of squared deviations from it, of every group of eight channels in every row; (H,channels/8)."""
    line, groups = width + 2, channels // LANES
    eight = np.empty(LANES, np.float32)
    for y in range(first, last):
        start = ((y + 1) * line + 1) * channels
        for group in range(groups):
            sum = splat(_NONE)
            for column in range(width):
                sum = sum + load(x, start + column * channels + group * LANES)
            store(eight, 0, sum)
            mean = eight.sum() / np.float32(width * LANES)
            sum, centre = splat(_NONE), splat(mean)
            for column in range(width):
                far = load(x, start + column * channels + group * LANES) - centre
                sum = sum + far * far
            store(eight, 0, sum)
            means[y, group], squares[y, group] = mean, eight.sum()


@kernel
def modulate(  # type: ignore[no-untyped-def]
    x, channels, width, mean, rate, condition, inputs, matrix, bias, out, first, last
):
    """Normalise every group of eight channels, apply gain, shift and SiLU, for rows `first` to `last`.

    A panel of the matrix computes gain and shift of eight channels from the condition, as a 1x1 convolution.
    """
    line = width + 2
    for c in range(0, channels, LANES):
        centre, scale = splat(mean[c // LANES]), splat(rate[c // LANES])
        one, two, panel = load(bias, 2 * c), load(bias, 2 * c + LANES), 2 * c * inputs
        for y in range(first + 1, last + 1):
            for pixel in range(y * line + 1, y * line + 1 + width, 4):
                a0, a1, b0, b1, c0, c1, d0, d1 = _four(
                    condition, pixel * inputs, inputs, matrix, panel, inputs, one, two
                )
                at, next = pixel * channels + c, channels
                store(out, at, _silu((load(x, at) - centre) * scale * a0 + a1))
                store(out, at + next, _silu((load(x, at + next) - centre) * scale * b0 + b1))
                store(out, at + 2 * next, _silu((load(x, at + 2 * next) - centre) * scale * c0 + c1))
                store(out, at + 3 * next, _silu((load(x, at + 3 * next) - centre) * scale * d0 + d1))


@kernel
def unshuffle(planes, scale, shift, block, out, step, channel, first, last):  # type: ignore[no-untyped-def]
    """Write planes (C,block·H,block·W), scaled and shifted, into a map from `channel` on, for rows `first` to `last`.

    Each of `block` by `block` pixels becomes a channel, in the order of `F.pixel_unshuffle`.
    """
    count, width = planes.shape[0], planes.shape[2] // block
    for y in range(first, last):
        start = ((y + 1) * (width + 2) + 1) * step + channel
        for plane in range(count):
            for part in range(block * block):
                row, offset = planes[plane, block * y + part // block], part % block
                to = start + plane * block * block + part
                for column in range(width):
                    out[to + column * step] = row[block * column + offset] * scale + shift


@kernel
def shuffle_picture(x, width, out, first, last):  # type: ignore[no-untyped-def]
    """16 channels (2x2 pixels of red, green, blue, mask) into planes (4,2H,2W), with sigmoid of the colours."""
    sixteen, one = np.empty(3 * LANES, np.float32), splat(_ONE)
    for y in range(first, last):
        for column in range(width):
            at = ((y + 1) * (width + 2) + 1 + column) * 2 * LANES
            second = load(x, at + LANES)
            _store_pair(sixteen, 0, one / (one + exponential(splat(_NONE) - load(x, at))), second)
            store(sixteen, 2 * LANES, one / (one + exponential(splat(_NONE) - second)))
            for part in range(4):
                down, across = 2 * y + part // 2, 2 * column + part % 2
                out[0, down, across], out[1, down, across] = sixteen[part], sixteen[4 + part]
                out[2, down, across], out[3, down, across] = sixteen[2 * LANES + part], sixteen[12 + part]
