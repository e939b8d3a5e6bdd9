"""The passes between products as compiled loops, shared by PyTorch's number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.engine.winograd import map_kernels, tile_kernels
from liveportrait.engine.winograd.passes import Normal
from liveportrait.engine.winograd.places import IN, OUT
from liveportrait.engine.winograd.plain_passes import EPSILON
from liveportrait.networks.base.warping import HEATMAP_VARIANCE


class CompiledPasses:
    """See `Passes`."""

    def to_tiles(self, maps: Tensor, channel: int, places: Tensor | None, top: int, out: Tensor) -> None:
        down, across = out.shape[2:4]
        given = None if places is None else places.numpy()
        rows = _inputs(maps.shape[1], given, top, down)
        columns = _inputs(maps.shape[2], given, 0, across)
        to = (down, across, _array(out.flatten(1, 3)))
        _shared(tile_kernels.to_tiles, len(maps) * down, _array(maps), channel, rows, columns, *to)

    def from_tiles(self, products: Tensor, bias: Tensor, slope: float, top: int, out: Tensor) -> None:
        down, across = products.shape[2:4]
        given = (_array(products.flatten(1, 3)), down, across, _array(bias))
        _shared(tile_kernels.from_tiles, len(out) * down, *given, np.float32(slope), top, _array(out))

    def add_from_tiles(self, products: Tensor, bias: Tensor, normal: Normal, top: int, out: Tensor) -> None:
        x, doubled = _array(normal.x), int(normal.doubled)
        self._rows(tile_kernels.add_from_tiles, products, bias, x, doubled, top, _array(out))

    def modulate(
        self, products: Tensor, bias: Tensor, normal: Normal, slope: float, top: int, out: Tensor
    ) -> None:
        self._rows(
            tile_kernels.modulate, products, bias, *_unpacked(normal), np.float32(slope), top, _array(out)
        )

    def scale_and_shift(
        self, products: Tensor, bias: Tensor, normal: Normal, top: int, scaled: Tensor, out: Tensor
    ) -> None:
        to = (top, _array(scaled), _array(out))
        self._rows(tile_kernels.scale_and_shift, products, bias, *_unpacked(normal), *to)

    def to_slabs(self, volume: Tensor, out: Tensor) -> None:
        flat = out.flatten(3)
        _shared(map_kernels.to_slabs, flat.shape[1] * flat.shape[2], _array(volume.flatten(2)), _array(flat))

    def from_slabs(self, values: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
        arguments = (_array(values), _array(bias), np.float32(slope), _array(out))
        _shared(map_kernels.from_slabs, values.shape[1] * values.shape[2], *arguments)

    def from_steps(self, products: Tensor, bias: Tensor, slope: float, out: Tensor) -> None:
        arguments = (_array(products), _array(bias), np.float32(slope), _array(out))
        _shared(map_kernels.from_steps, products.shape[0] * products.shape[1], *arguments)

    def from_spectra(self, products: Tensor, depth: int, out: Tensor) -> None:
        _shared(map_kernels.from_spectra, len(out), _array(products), depth, _array(out))

    def see_motions(self, compressed: Tensor, source: Tensor, driving: Tensor, out: Tensor) -> None:
        places, bumps = [], []
        for index, cells in enumerate(reversed(out.shape[:3])):
            axis = torch.linspace(-1, 1, cells)
            # The background's motion comes first: it stays, and has no heatmap.
            driven, source_ = driving[0, :, index, None], source[0, :, index, None]
            shifts = F.pad(source_ - driven, (0, 0, 1, 0))
            places.append(_array((((axis + shifts + 1) * cells - 1) / 2).clamp(-1, cells)))
            around = torch.exp(-0.5 * (axis - torch.stack([driven, source_])).square() / HEATMAP_VARIANCE)
            bumps.append(_array(F.pad(around, (0, 0, 1, 0))))
        cells_last = _array(compressed[0].movedim(0, 3).contiguous())
        depth, height = out.shape[:2]
        _shared(map_kernels.see_motions, depth * height, cells_last, *places, *bumps, _array(out))

    def normal(self, x: Tensor, doubled: bool) -> Normal:
        height, width, channels = x.shape
        means, squares = torch.empty(2, height, channels)
        _shared(map_kernels.moments, height, _array(x), _array(means), _array(squares))
        # Rows are of one size: what the whole varies is what they vary, and what their means do.
        mean = means.mean(0)
        squares = squares.sum(0) + (means - mean).square_().sum(0) * width
        return Normal(x, mean, (squares / (height * width) + EPSILON).rsqrt(), doubled)

    def _rows(self, kernel: Callable[..., None], products: Tensor, bias: Tensor, *arguments: object) -> None:
        down, across = products.shape[2:4]
        _shared(kernel, down, _array(products.flatten(1, 3)), across, _array(bias), *arguments)


def _array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory; bfloat16 as its bits."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _unpacked(normal: Normal) -> tuple[Any, ...]:
    return _array(normal.x), int(normal.doubled), _array(normal.mean), _array(normal.rate)


def _inputs(size: int, places: NDArray[np.int64] | None, first: int, tiles: int) -> NDArray[np.int64]:
    """Where along an axis the inputs of so many tiles lie, from output `first` on; -1 is outside."""
    inputs = np.arange(first - 1, first - 1 + OUT * tiles + IN - OUT)
    size = size if places is None else len(places)
    outside = (inputs < 0) | (inputs >= size)
    if places is not None:
        inputs = places[inputs.clip(0, size - 1)]
    return np.where(outside, -1, inputs)


def _shared(kernel: Callable[..., None], count: int, *arguments: object) -> None:
    """Runs the kernel on 0 to `count`, a part in each of PyTorch's threads for this caller."""
    parts = min(torch.get_num_threads(), count)
    if parts == 1:
        kernel(*arguments, 0, count)
        return
    ends = [count * part // parts for part in range(parts + 1)]
    others = [_pool(parts).submit(kernel, *arguments, *ends[part : part + 2]) for part in range(1, parts)]
    kernel(*arguments, 0, ends[1])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="passes")
