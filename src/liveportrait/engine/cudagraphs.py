"""CUDA graphs: a frame's hundreds of kernels are recorded once and then launched together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.eager import EagerBackend
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.interface import Features, Motion, Pose

WARM_UP = 3  # runs before recording, in which libraries choose their kernels and allocate


class CudaGraphsBackend:
    """The eager back end's M, and W with G, recorded for every batch size when it first occurs.

    Calls from several threads must take turns: a recording has one set of buffers. Raises UserError where the
    networks are not on a CUDA device.
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32") -> None:
        self._eager = EagerBackend(networks, precision)
        self.device = self._eager.device
        if self.device.type != "cuda":
            raise UserError(
                f"the back end cudagraphs needs an NVIDIA GPU, not {self.device}: choose --device cuda or "
                "--backend eager"
            )
        self._recordings: dict[object, _Recording] = {}

    def appearance(self, images: Tensor) -> Features:
        """F."""
        return self._eager.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""

        def run(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(self._eager.motion(tensors[0]))

        return Motion(*self._replay("motion", run, [images]))

    def render(self, features: Features, source: Pose, driving: Pose) -> Tensor:
        """W, then G."""
        names = sorted(features)

        def run(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            count, fields = len(names), len(Pose._fields)
            given = dict(zip(names, tensors[:count], strict=True))
            return (
                self._eager.render(
                    given, Pose(*tensors[count : count + fields]), Pose(*tensors[count + fields :])
                ),
            )

        return self._replay("render", run, [*(features[name] for name in names), *source, *driving])[0]

    def _replay(
        self, name: str, run: Callable[[Sequence[Tensor]], tuple[Tensor, ...]], tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        key = (name, *(tuple(tensor.shape) for tensor in tensors))
        if key not in self._recordings:
            self._recordings[key] = _Recording(run, tensors)
        return self._recordings[key](tensors)


class _Recording:
    """One function at fixed shapes as a CUDA graph."""

    def __init__(
        self, run: Callable[[Sequence[Tensor]], tuple[Tensor, ...]], tensors: Sequence[Tensor]
    ) -> None:
        self._inputs = [tensor.detach().clone(memory_format=torch.preserve_format) for tensor in tensors]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run(self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._outputs = run(self._inputs)

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs, copied: the next replay overwrites the recording's own."""
        for held, given in zip(self._inputs, tensors, strict=True):
            held.copy_(given)
        self._graph.replay()
        return tuple(made.clone() for made in self._outputs)
