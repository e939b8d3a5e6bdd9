"""Elementwise kernels between the matrix products, shared by as many threads as PyTorch uses.

Each is one compiled pass over memory instead of five to thirty operations that write their results to memory, which
saves half the time of a frame. Maps are channels-last and float32; tiles and products float32 or bfloat16. Results are
written to `out`. Products of a stripe belong to the rows of the map starting at `top`; anything beyond the map is
dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.engine.winograd import kernels, tile_kernels
from liveportrait.engine.winograd.kernels import IN, OUT
from liveportrait.networks.base.warping import HEATMAP_VARIANCE

EPSILON = 1e-5  # of instance normalisation

_own = threading.local()


class NormedMap(NamedTuple):
    """A map after instance normalisation, (x - mean)·rate, and optional nearest-neighbour doubling."""

    x: Tensor  # (H,W,C)
    mean: Tensor  # (C,)
    rate: Tensor  # (C,)
    doubled: bool


def transform_input(maps: Tensor, channel: int, index: Tensor | None, top: int, out: Tensor) -> None:
    """Maps (N,H,W,..) at 6 by 6 points of every tile of a stripe: out (36·g,n,h,w,C), columns before rows.

    The N maps are g groups of n. C channels are read, starting at `channel`. The maps are surrounded by zeros. With
    `index` (S,), the tiled map is (S,S): its row i and column j are the given map's row index[i] and column index[j].
    """
    down, across = out.shape[2:4]
    given = None if index is None else index.numpy()
    rows = _inputs(maps.shape[1], given, top, down)
    columns = _inputs(maps.shape[2], given, 0, across)
    to = (down, across, _array(out.flatten(1, 3)))
    _in_parallel(tile_kernels.transform_input, len(maps) * down, _array(maps), channel, rows, columns, *to)


def transform_output(products: Tensor, bias: Tensor, slope: float, top: int, out: Tensor) -> None:
    """Outputs of the products (36·g,n,h,w,O), with bias (O,) and activation: rows of out (N,H,W,O)."""
    down, across = products.shape[2:4]
    given = (_array(products.flatten(1, 3)), down, across, _array(bias))
    _in_parallel(tile_kernels.transform_output, len(out) * down, *given, np.float32(slope), top, _array(out))


def transform_output_add(products: Tensor, bias: Tensor, normed: NormedMap, top: int, out: Tensor) -> None:
    """Outputs of the products (36,1,h,w,O), with bias, added to the map before its norm: rows of out (H,W,O)."""
    x, doubled = _array(normed.x), int(normed.doubled)
    _rows(tile_kernels.transform_output_add, products, bias, x, doubled, top, _array(out))


def transform_output_modulate(
    products: Tensor, bias: Tensor, normed: NormedMap, slope: float, top: int, out: Tensor
) -> None:
    """The normed map times gain plus shift, activated: rows of out (H,W,C).

    Gain and shift are the first and last C channels of the products' (36,1,h,w,2·C) outputs.
    """
    to = (np.float32(slope), top, _array(out))
    _rows(tile_kernels.transform_output_modulate, products, bias, *_unpacked(normed), *to)


def transform_output_scale_shift(
    products: Tensor, bias: Tensor, normed: NormedMap, top: int, scaled: Tensor, out: Tensor
) -> None:
    """Of products (36,1,h,w,C+O): the normed map times gain to `scaled` (rows,W,C), the shift added to out (H,W,O)."""
    to = (top, _array(scaled), _array(out))
    _rows(tile_kernels.transform_output_scale_shift, products, bias, *_unpacked(normed), *to)


def transform_input_depth(volume: Tensor, out: Tensor) -> None:
    """The volume (D,H,W,C) at the six points of every tile of 4 slices, zeros around it: out (6,d,H,W,C)."""
    flat = out.flatten(3)
    lines = flat.shape[1] * flat.shape[2]
    _in_parallel(kernels.transform_input_depth, lines, _array(volume.flatten(2)), _array(flat))


def transform_output_depth(products: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
    """Write products (6,d,H,W,O), with bias and activation, to the first O channels of out (D,H,W,..)."""
    arguments = (_array(products), _array(bias), np.float32(slope), _array(out))
    _in_parallel(kernels.transform_output_depth, products.shape[1] * products.shape[2], *arguments)


def upsampled_output(products: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
    """Products (N,H,W,3,3,O), see `convolutions`, as upsampled maps out (N,f·H,f·W,O), with bias and activation."""
    arguments = (_array(products), _array(bias), np.float32(slope), _array(out))
    _in_parallel(kernels.upsampled_output, products.shape[0] * products.shape[1], *arguments)


def sum_spectra(products: Tensor, depth: int, out: Tensor) -> None:
    """Sums in depth of volumes' spectra times kernels' spectra: out (L,2,N·D,O), real and imaginary.

    Products (2,L,N·D,2,T,O) are those of the volumes' real and of their imaginary parts with the real and
    imaginary parts of the kernels' T slices.
    """
    _in_parallel(kernels.sum_spectra, len(out), _array(products), depth, _array(out))


def motion_features(compressed: Tensor, source: Tensor, driving: Tensor, out: Tensor) -> None:
    """Heatmap and moved volume of each sparse motion, out (D,H,W,110), and zeros in any further channels.

    compressed (1,4,D,H,W); keypoints (1,21,3). See `rewrites.base.motion_features`.
    """
    positions, bumps = [], []
    for axis_number, cells in enumerate(reversed(out.shape[:3])):
        axis = torch.linspace(-1, 1, cells)
        # The background's motion comes first: it is zero and has no heatmap.
        to, start = driving[0, :, axis_number, None], source[0, :, axis_number, None]
        shifts = F.pad(start - to, (0, 0, 1, 0))
        positions.append(_array((((axis + shifts + 1) * cells - 1) / 2).clamp(-1, cells)))
        around = torch.exp(-0.5 * (axis - torch.stack([to, start])).square() / HEATMAP_VARIANCE)
        bumps.append(_array(F.pad(around, (0, 0, 1, 0))))
    cells_last = _array(compressed[0].movedim(0, 3).contiguous())
    depth, height = out.shape[:2]
    _in_parallel(kernels.motion_features, depth * height, cells_last, *positions, *bumps, _array(out))


def instance_norm(x: Tensor, doubled: bool) -> NormedMap:
    """The map (H,W,C) with its statistics."""
    height, width, channels = x.shape
    means, squares = torch.empty(2, height, channels)
    _in_parallel(kernels.moments, height, _array(x), _array(means), _array(squares))
    # Rows have one size, so the total variance is that within rows plus that of their means.
    mean = means.mean(0)
    squares = squares.sum(0) + (means - mean).square_().sum(0) * width
    return NormedMap(x, mean, (squares / (height * width) + EPSILON).rsqrt(), doubled)


def scratch(
    name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, zeros: bool = False
) -> Tensor:
    """An uninitialised tensor in memory that this thread reuses; valid until its next call with that name.

    With `zeros` it starts as zeros, and later calls with the same shape return what was last written.

    Fresh memory costs as much as an elementwise pass, because the system clears its pages. Convolutions use "inputs",
    "tiles", "products" and "outputs", in this order. "volume" and "map" hold the result of one for the next, which
    reads all of it before it writes its own.
    """
    memory: dict[str, Tensor] = _own.__dict__
    size = prod(shape) * dtype.itemsize
    if name not in memory or len(memory[name]) < size:
        with torch.inference_mode(False):  # tensors of that mode could not be written outside it
            memory[name] = (torch.zeros if zeros else torch.empty)(size, dtype=torch.uint8)
    return memory[name][:size].view(dtype).view(shape)


def _rows(kernel: Callable[..., None], products: Tensor, bias: Tensor, *arguments: object) -> None:
    down, across = products.shape[2:4]
    _in_parallel(kernel, down, _array(products.flatten(1, 3)), across, _array(bias), *arguments)


def _array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory; bfloat16 as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _unpacked(normed: NormedMap) -> tuple[Any, ...]:
    return _array(normed.x), int(normed.doubled), _array(normed.mean), _array(normed.rate)


def _inputs(size: int, index: NDArray[np.int64] | None, first: int, tiles: int) -> NDArray[np.int64]:
    """Positions along an axis of the inputs of `tiles` tiles, starting at output `first`; -1 is outside."""
    inputs = np.arange(first - 1, first - 1 + OUT * tiles + IN - OUT)
    size = size if index is None else len(index)
    outside = (inputs < 0) | (inputs >= size)
    if index is not None:
        inputs = index[inputs.clip(0, size - 1)]
    return np.where(outside, -1, inputs)


def _in_parallel(kernel: Callable[..., None], count: int, *arguments: object) -> None:
    in_parallel(partial(kernel, *arguments), count)


def in_parallel(work: Callable[[int, int], None], count: int) -> None:
    """Run the work on 0 to `count`, divided among as many threads as PyTorch uses for this caller."""
    parts = min(torch.get_num_threads(), count)
    if parts == 1:
        work(0, count)
        return
    ends = [count * part // parts for part in range(parts + 1)]
    others = [_pool(parts).submit(work, *ends[part : part + 2]) for part in range(1, parts)]
    work(0, ends[1])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="elementwise")
