"""COMPACT's G in float32: 3x3 convolutions by Winograd's F(4x4, 3x3), with few passes over memory.

It is organised like `generator.c` of the web page: norm, modulation and SiLU are fused into the convolution that reads
or writes the numbers. Frames are computed one after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.engine.winograd import lane_kernels
from liveportrait.engine.winograd.convolutions import transform_kernel
from liveportrait.engine.winograd.elementwise import EPSILON, in_parallel, scratch
from liveportrait.engine.winograd.lane_kernels import PANEL, WORKSPACE
from liveportrait.engine.winograd.lanes import LANES
from liveportrait.networks.compact.generator import GROUPS, Generator, SpatialModulation
from liveportrait.networks.interface import Warped

Array = NDArray[np.float32]


class LaneMap:
    """A map (H,W,C) in the layout of `lane_kernels`: channels padded to a multiple of 8, and a border of zeros."""

    def __init__(self, name: str, height: int, width: int, channels: int) -> None:
        """Uses memory that this thread reuses for all maps of that name and shape; it holds what was last written."""
        self.height, self.width = height, width
        self.channels = channels + -channels % LANES
        shape = (height + 2, width + 2, self.channels)
        memory = scratch(f"{name} {shape}", shape, zeros=True)
        self.flat: Array = memory.numpy().reshape(-1)
        self.inside = memory[1:-1, 1:-1]

    def put(self, x: Tensor, channel: int = 0) -> None:
        """Write a map (C,H,W) from `channel` on."""
        cells = x.permute(1, 2, 0)
        if cells.is_contiguous():
            self.inside[..., channel : channel + len(x)] = cells
        else:
            self.put_picture(x, 1, 0, 1, channel)

    def put_picture(self, x: Tensor, scale: float, shift: float, block: int, channel: int) -> None:
        """Write `F.pixel_unshuffle(scale * x + shift, block)` of planes (C,block·H,block·W) from `channel` on."""
        given = (x.contiguous().numpy(), np.float32(scale), np.float32(shift), block)
        _rows(lane_kernels.unshuffle, self.height, *given, self.flat, self.channels, channel)


class LaneConv:
    """A 3x3 convolution from map to map."""

    @torch.no_grad()
    def __init__(self, convolution: nn.Conv2d) -> None:
        weight, bias = _padded(convolution.weight.flatten(2), convolution.bias, LANES, PANEL)
        self.inputs, self.outputs = weight.shape[1], weight.shape[0]
        points = transform_kernel(weight.unflatten(2, (3, 3)))  # (36,C,O)
        self.weight, self.bias = _panels(points), bias.numpy()

    def __call__(
        self, x: LaneMap, out: LaneMap, added: LaneMap | None = None, activates: bool = False
    ) -> LaneMap:
        """Write the convolution of `x` plus `added` into `out`, with SiLU if `activates`; returns `out`."""
        given = out if added is None else added

        def run(first: int, last: int) -> None:
            workspace = scratch("workspace", (WORKSPACE * (self.inputs + self.outputs),)).numpy()
            lane_kernels.convolve(
                x.flat, self.inputs, x.width, self.weight, self.bias, given.flat, added is not None, activates,
                out.flat, self.outputs, workspace, first, last,
            )  # fmt: skip

        in_parallel(run, x.height * x.width // 16)
        return out


class CompactGenerator(nn.Module):
    """Computes `Generator.layers`, for sizes that `fits` accepts."""

    @torch.no_grad()
    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.conditioning = _matrix(generator.conditioning)
        self.enter = LaneConv(generator.enter)
        self.blocks = [
            (_modulation(block.norm1), LaneConv(block.conv1), _modulation(block.norm2), LaneConv(block.conv2))  # type: ignore[arg-type]
            for block in generator.blocks
        ]
        tail = generator.merge.out_channels
        # All channels of a cell's upper left pixel, then of the upper right, and so on
        order = torch.arange(4 * tail).view(tail, 4).t().flatten()
        self.widen = _matrix(generator.widen, order)
        self.merge, self.output = LaneConv(generator.merge), LaneConv(generator.output)
        self.refine1, self.refine2 = LaneConv(generator.refine1), LaneConv(generator.refine2)

    @staticmethod
    def fits(generator: Generator) -> bool:
        """Whether its numbers of channels fill lanes and panels."""
        trunk, tail = generator.enter.out_channels, generator.merge.out_channels
        conditions = generator.conditioning
        return trunk == GROUPS * LANES and not any(
            count % PANEL for count in (tail, conditions.in_channels, conditions.out_channels)
        )

    def layers(self, warped: Warped) -> tuple[Tensor, Tensor]:
        """The painting (B,3,S,S) in [0, 1], and logits (B,1,S,S) of the mask that keeps the warped source."""
        out = torch.empty(len(warped["image"]), 4, *warped["image"].shape[2:])
        names = ("volume", "hidden", "skip", "image")
        for number, row in enumerate(zip(*(warped[name] for name in names), strict=True)):
            raw = self._raw(*row)
            _rows(lane_kernels.shuffle_picture, raw.height, raw.flat, raw.width, out[number].numpy())
        return out[:, :3], out[:, 3:]

    def _raw(self, volume: Tensor, hidden: Tensor, skip: Tensor, image: Tensor) -> LaneMap:
        """The output of the last convolution for one frame (S/2,S/2,16)."""
        height, width = volume.shape[1:]
        given = LaneMap("given", height, width, self.enter.inputs)
        given.put(volume)
        given.put(hidden, len(volume))
        conditions, trunk = len(self.conditioning[1]), self.enter.outputs
        condition = LaneMap("condition", height, width, conditions)
        x, y, active = (LaneMap(name, height, width, trunk) for name in ("x", "y", "active"))
        shape = (len(volume), given.channels, width)
        _rows(
            lane_kernels.conv1x1_silu,
            height,
            given.flat,
            *shape,
            *self.conditioning,
            condition.flat,
            conditions,
        )
        self.enter(given, x)
        for number, (norm1, conv1, norm2, conv2) in enumerate(self.blocks, 1):
            conv1(_modulated(x, norm1, condition, active), y)
            last = number == len(self.blocks)  # only its SiLU is used
            conv2(_modulated(y, norm2, condition, active), x, added=x, activates=last)

        height, width = 2 * height, 2 * width
        fine, tail = LaneMap("fine", height, width, self.merge.inputs), self.merge.outputs
        to = (fine.flat, tail, fine.channels)
        _rows(lane_kernels.conv1x1_shuffle, x.height, x.flat, trunk, x.width, *self.widen, *to)
        fine.put(skip, tail)
        fine.put_picture(image, 2, -1, 2, tail + len(skip))
        x, y = (LaneMap(name, height, width, tail) for name in ("fine x", "fine y"))
        self.merge(fine, x, activates=True)
        self.refine1(x, y, activates=True)
        self.refine2(y, x, added=x, activates=True)
        return self.output(x, LaneMap("raw", height, width, self.output.outputs))


def _modulated(x: LaneMap, norm: tuple[Array, Array], condition: LaneMap, out: LaneMap) -> LaneMap:
    """Normalise a map in groups of eight channels, then apply gain, shift and SiLU; returns `out`."""
    matrix, bias = norm
    means, squares = np.empty((2, x.height, x.channels // LANES), np.float32)
    _rows(lane_kernels.moments, x.height, x.flat, x.channels, x.width, means, squares)
    # Rows have one size, so the total variance is that within rows plus that of their means.
    mean, row = means.mean(0), x.width * LANES
    variance = (squares.sum(0) + np.square(means - mean).sum(0) * row) / (x.height * row)
    rate = 1 / np.sqrt(variance + np.float32(EPSILON))
    to = (condition.flat, condition.channels, matrix, bias, out.flat)
    _rows(lane_kernels.modulate, x.height, x.flat, x.channels, x.width, mean, rate, *to)
    return out


def _modulation(norm: SpatialModulation) -> tuple[Array, Array]:
    """Matrix and bias of gains and shifts, alternating every eight channels; the gain's 1 is in the bias."""
    convolution = norm.modulation
    channels = convolution.out_channels // 2
    order = torch.arange(2 * channels).view(2, -1, LANES).transpose(0, 1).flatten()
    matrix, bias = _matrix(convolution, order)
    bias.reshape(-1, 2, LANES)[:, 0] += 1
    return matrix, bias


@torch.no_grad()
def _matrix(convolution: nn.Conv2d, order: Tensor | None = None) -> tuple[Array, Array]:
    """A 1x1 convolution's matrix as flat panels (outputs/16, inputs, 16), and its bias, with outputs in `order`."""
    weight, bias = convolution.weight[:, :, 0, 0], convolution.bias
    assert bias is not None
    order = torch.arange(len(weight)) if order is None else order
    return _panels(weight[order].t()[None]), bias[order].clone().numpy()


def _panels(matrices: Tensor) -> Array:
    """Matrices (N,C,O) in the flat layout that `lane_kernels` read."""
    return matrices.unflatten(2, (-1, PANEL)).transpose(1, 2).flatten().numpy()


def _padded(weight: Tensor, bias: Tensor | None, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Weights (O,C,K) and bias (O,), zero-padded to multiples of `inputs` and `outputs`."""
    more = -len(weight) % outputs
    given = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    return F.pad(weight, (0, 0, 0, -weight.shape[1] % inputs, 0, more)), F.pad(given, (0, more))


def _rows(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    in_parallel(lambda first, last: kernel(*arguments, first, last), count)
