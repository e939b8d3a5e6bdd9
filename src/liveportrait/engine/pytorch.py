"""PyTorch's own back ends: operation by operation, through its compiler, or recorded as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.backend import autocast_for, require_precision, to_half
from liveportrait.engine.rewrites import optimised
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.interface import Features, Layers, Motion, Pose
from liveportrait.networks.renderer import Renderer

WARM_UP = 3  # runs before recording a CUDA graph, so that libraries choose their kernels and allocate memory


class EagerBackend:
    """F, M, W and G operation by operation; the reference, in float32, for the other back ends.

    Convolutions are in float32 or in 16 bits: bfloat16, or on a GPU float16. It runs `optimised(networks)`: the given
    networks stay unchanged, and later changes of their weights have no effect.
    """

    concurrent = True

    def __init__(self, networks: Networks, precision: Precision = "fp32") -> None:
        self.device = next(networks.motion.parameters()).device
        if self.device.type == "cpu":
            require_precision("the back end eager on a CPU", precision, ("fp32", "bf16"))
        self._precision: Precision = precision
        self._networks = to_half(optimised(networks), precision)
        self._renderer = Renderer(self._networks)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        with autocast_for(self._precision, self.device):
            return self._networks.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        with autocast_for(self._precision, self.device):
            motion: Motion = self._networks.motion(images)
        return motion.map(Tensor.float)

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        with autocast_for(self._precision, self.device):
            layers: Layers = self._renderer(features, source, driving, cues)
        return layers.map(Tensor.float)


class CompileBackend:
    """M, and W with G, through torch.compile. F runs once per source and is not worth compiling.

    The first frame of each batch size waits for the compiler: minutes on two cores. PyTorch keeps compiled code in its
    own cache. Raises UserError if there is no compiler (a C++ compiler on a CPU, Triton on a GPU).
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32") -> None:
        self._eager = EagerBackend(networks, precision)
        self.device = self._eager.device
        require_compiler(self.device, "the back end compile", "choose --backend eager")
        self._motion = torch.compile(self._eager.motion, dynamic=False)
        self._render = torch.compile(self._eager.render, dynamic=False)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        return self._eager.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return self._motion(images)

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        return self._render(features, source, driving, cues)


def require_compiler(device: torch.device, what: str, instead: str) -> None:
    """Compile a trivial function, so that a missing compiler gives one sentence and not a page of errors later on.

    Raises `UserError`, which says `what` needs the compiler and what to do `instead`.
    """

    def add(x: Tensor) -> Tensor:
        return x.sin() + 1

    try:
        torch.compile(add)(torch.ones(8, device=device))
    except Exception as error:  # the compiler's errors have no narrower common class
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{what} needs a C++ compiler (on a GPU, Triton), and compiling failed ({reason}): install it, or {instead}"
        ) from error


class CudaGraphsBackend:
    """The eager back end's M, and W with G, recorded once for each batch size when it first occurs.

    A frame's hundreds of kernels are then launched together. Calls from several threads must not overlap: a recording
    has one set of buffers. Raises UserError if the networks are not on a CUDA device.
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

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        names = sorted(features)
        count, end = len(names), len(names) + len(Pose._fields)
        last = end + len(Pose._fields)

        def run(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            given = dict(zip(names, tensors[:count], strict=True))
            poses = Pose(*tensors[count:end]), Pose(*tensors[end:last])
            return tuple(self._eager.render(given, *poses, tensors[last]))

        given = [*(features[name] for name in names), *source, *driving, cues]
        return Layers(*self._replay("render", run, given))

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
