"""TensorRT on NVIDIA GPUs: engines built once from the ONNX graphs, on the GPU in use.

TensorRT has 5-D grid sampling from version 11.2 on; older versions get the decomposed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.backend import require_precision, to_half
from liveportrait.engine.cache import artefact_key, load_or_make
from liveportrait.engine.graphs import Graph, Rows, motion_graph, render_graph
from liveportrait.engine.onnx import export_onnx
from liveportrait.engine.pytorch import EagerBackend
from liveportrait.engine.rewrites import optimised
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.geometry import Form
from liveportrait.networks.interface import Features, Layers, Motion, Pose

NATIVE_SAMPLING = (11, 2)  # the first version with 5-D GridSample
BATCH = 4


class TensorRtBackend:
    """M, and W with G, as TensorRT engines for batches of four; F, which runs once per source, in PyTorch.

    Data types are those of the ONNX graph (strongly typed networks): float32 with TF32, or convolutions in float16.
    Building takes minutes; the result is cached. Raises UserError if the networks are not on a CUDA device, or TensorRT
    is missing.
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32") -> None:
        require_precision("the back end tensorrt", precision, ("fp32", "fp16"))
        self._eager = EagerBackend(networks, precision)
        self.device = self._eager.device
        if self.device.type != "cuda":
            raise UserError(
                f"the back end tensorrt needs an NVIDIA GPU, not {self.device}: choose --device cuda or another back "
                "end"
            )
        self._trt = import_tensorrt()
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        gpu = torch.cuda.get_device_properties(self.device)
        self._key = artefact_key(
            networks, "tensorrt", self._trt.__version__, gpu.name, gpu.major, gpu.minor, BATCH, precision
        )
        fast = to_half(optimised(networks), precision)
        self._motion = self._load("motion", lambda: motion_graph(fast, BATCH, precision))
        self._takes_cues = networks.mouth_painter is not None
        self._render = self._load("render", lambda: render_graph(fast, BATCH, precision))

    def appearance(self, images: Tensor) -> Features:
        """F."""
        return self._eager.appearance(images)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return Motion(*self._motion([images]))

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        extra = [cues] if self._takes_cues else []
        return Layers(
            *self._render([*(features[name] for name in sorted(features)), *source, *driving, *extra])
        )

    def _load(self, name: str, make: Callable[[], Graph]) -> Rows:
        def build() -> bytes:
            return build_engine(make(), sampling_for(self._trt.__version__))

        plan, _ = load_or_make(f"{self._key}-{name}.plan", build)
        engine = self._trt.Runtime(self._logger).deserialize_cuda_engine(plan)
        return Rows(_Execution(self._trt, engine, self.device), BATCH)


class _Execution:
    """A TensorRT engine on PyTorch's tensors and stream."""

    def __init__(self, trt: Any, engine: Any, device: torch.device) -> None:
        self._context = engine.create_execution_context()
        self._device = device
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self._inputs = [name for name in names if is_input[name]]
        self._outputs = {name: tuple(engine.get_tensor_shape(name)) for name in names if not is_input[name]}

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        held = [tensor.float().contiguous() for tensor in tensors]
        made = [torch.empty(shape, device=self._device) for shape in self._outputs.values()]
        for name, tensor in zip((*self._inputs, *self._outputs), (*held, *made), strict=True):
            self._context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream(self._device)
        self._context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()  # `held` may be freed once this returns
        return made


def build_engine(graph: Graph, form: Form) -> bytes:
    """The graph as a serialised engine for this process's GPU. Raises UserError if TensorRT rejects it."""
    trt = import_tensorrt()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(export_onnx(graph, form)):
        raise UserError(
            f"TensorRT {trt.__version__} cannot read the graph {graph.name}: {parser.get_error(0)}"
        )
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise UserError(
            f"TensorRT {trt.__version__} could not build the graph {graph.name}; its log is above"
        )
    return bytes(plan)


def sampling_for(version: str) -> Form:
    """The form of 5-D sampling for a version of TensorRT such as "11.2.1.7"."""
    major, minor, *_ = (int(part) for part in version.split(".")[:2])
    return "native" if (major, minor) >= NATIVE_SAMPLING else "decomposed"


def import_tensorrt() -> Any:
    """The module `tensorrt`. Raises UserError if it is not installed."""
    try:
        import tensorrt
    except ImportError as error:
        raise UserError(
            "TensorRT is not installed: pip install tensorrt, on a machine with an NVIDIA GPU"
        ) from error
    return tensorrt
