"""OpenVINO on the CPU: M, and the convolutions of W and G, as its graphs; the geometry between them in PyTorch.

OpenVINO has no 5-D grid sampling, and in bfloat16 it would round coordinates too: a flow that is off by a pixel breaks
a face, while a colour that is off by 1/256 is invisible. So only parts that are entirely convolutions become graphs; W
and G offer them as methods. M is one graph and stays float32 in every precision, since its outputs are coordinates.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from liveportrait.choices import Precision
from liveportrait.engine.backend import require_precision
from liveportrait.engine.cache import artefact_key, load_or_make, replace_artefact
from liveportrait.engine.graphs import (
    Graph,
    Rows,
    example_features,
    example_pose,
    motion_graph,
    openvino_layout,
)
from liveportrait.engine.rewrites import optimised
from liveportrait.errors import UserError
from liveportrait.face.runtime import import_openvino, openvino_core
from liveportrait.networks import Networks
from liveportrait.networks.compact.generator import Generator
from liveportrait.networks.compact.warping import WarpingModule
from liveportrait.networks.geometry import sampling_form
from liveportrait.networks.interface import Features, Layers, Motion, Pose, Warped
from liveportrait.networks.renderer import Renderer

if TYPE_CHECKING:
    import openvino as ov


class OpenVinoBackend:
    """F, M, W and G on the CPU; F, which runs once per source, in PyTorch.

    `threads` is per frame; None is every core. Graphs are compiled on the first start and read from the cache
    afterwards. Raises UserError if the networks are on another device, or the precision is not supported.
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32", threads: int | None = None) -> None:
        self.device = next(networks.motion.parameters()).device
        if self.device.type != "cpu":
            raise UserError(
                f"the back end openvino runs on the CPU, not on {self.device}: choose --device cpu"
            )
        require_precision("the back end openvino", precision, ("fp32", "bf16"))
        fast = openvino_layout(optimised(networks))
        compiler = _Compiler(networks, threads)
        motion = motion_graph(fast)
        self._appearance = fast.appearance
        self._motion = compiler.compile("motion", "fp32", lambda: (motion.module, motion.inputs))
        generator = _CompiledGenerator(fast, compiler, precision)
        warping = fast.warping
        if isinstance(warping, WarpingModule):
            warping = _CompiledWarping(fast, compiler, precision)
        self._renderer = Renderer(replace(fast, warping=warping, generator=generator))

    def appearance(self, images: Tensor) -> Features:
        """F."""
        features: Features = self._appearance(images)
        return features

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return Motion(*self._motion([images]))

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        layers: Layers = self._renderer(features, source, driving, cues)
        return layers


class _CompiledWarping(nn.Module):
    """COMPACT's W: its convolutions are a graph, geometry and sampling stay in PyTorch."""

    def __init__(self, networks: Networks, compiler: _Compiler, precision: Precision) -> None:
        super().__init__()
        assert isinstance(networks.warping, WarpingModule)
        self.warping = warping = networks.warping

        def predict() -> tuple[nn.Module, Sequence[Tensor]]:
            pose = example_pose(networks)
            _, x = warping.prepare(example_features(networks)["context"], pose, pose)
            return _Predict(warping), [x]

        self.predict = compiler.compile("warping.predict", precision, predict)

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        geometry, x = self.warping.prepare(features["context"], source, driving)
        hidden, raw = self.predict([x])
        return self.warping.warp(features, geometry, hidden, raw)


class _CompiledGenerator(nn.Module):
    """G as one graph, which gives the picture (BASE) or its layers (COMPACT)."""

    def __init__(self, networks: Networks, compiler: _Compiler, precision: Precision) -> None:
        super().__init__()

        def generate() -> tuple[nn.Module, Sequence[Tensor]]:
            pose = example_pose(networks)
            warped: Warped = networks.warping(example_features(networks), pose, pose)
            return _Generate(networks.generator, sorted(warped)), [warped[name] for name in sorted(warped)]

        self.generate = compiler.compile("generator", precision, generate)

    def forward(self, warped: Warped) -> Tensor:
        return self.generate([warped[name] for name in sorted(warped)])[0]

    def layers(self, warped: Warped) -> tuple[Tensor, ...]:
        return self.generate([warped[name] for name in sorted(warped)])


class _Predict(nn.Module):
    """The convolutions of COMPACT's W, with tensors as inputs and outputs."""

    def __init__(self, warping: WarpingModule) -> None:
        super().__init__()
        self.warping = warping

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.warping.predict(*tensors)


class _Generate(nn.Module):
    """G, with tensors as inputs and outputs: the parts of the warped source, sorted by name."""

    def __init__(self, generator: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.generator, self.names = generator, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        warped = dict(zip(self.names, tensors, strict=True))
        if isinstance(self.generator, Generator):
            return self.generator.layers(warped)
        return (self.generator(warped),)


class _Compiler:
    """Compiles modules with OpenVINO, or reads the compiled graphs from the cache."""

    def __init__(self, networks: Networks, threads: int | None) -> None:
        self._ov = import_openvino()
        self._core = openvino_core()
        self._options = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._key = artefact_key(networks, "openvino", self._ov.get_version(), self._options)

    def compile(
        self, name: str, precision: Precision, make: Callable[[], tuple[nn.Module, Sequence[Tensor]]]
    ) -> Rows:
        """The graph with that name; `make` gives the module and example inputs if it is not in the cache."""
        options = self._options | {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        file = f"{self._key}-{name}-{precision}.openvino"

        def build() -> bytes:
            with torch.no_grad():
                model = convert(*make())
            stream = io.BytesIO()
            self._core.compile_model(model, "CPU", options).export_model(stream)
            return stream.getvalue()

        blob, fresh = load_or_make(file, build)
        try:
            compiled = self._core.import_model(blob, "CPU", options)
        except RuntimeError:
            if fresh:
                raise
            compiled = self._core.import_model(replace_artefact(file, build()), "CPU", options)
        request = compiled.create_infer_request()
        used = [_position(port) for port in compiled.inputs]

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            arrays = [tensors[index].detach().numpy() for index in used]
            results = request.infer(arrays, share_inputs=True)
            return [torch.from_numpy(results[port].copy()) for port in compiled.outputs]

        return Rows(run, batch=1)


def convert(module: nn.Module, inputs: Sequence[Tensor]) -> ov.Model:
    """The module as an openvino.Model in float32, with the shapes of the inputs; 5-D sampling is decomposed.

    OpenVINO's own `convert_model` would report its use over the network; the functions it calls for PyTorch do not.
    """
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    with torch.no_grad(), sampling_form("decomposed"), _silent():
        program = torch.export.export(module.eval(), tuple(inputs))
        decoder = TorchFXPythonDecoder.from_exported_program(program)
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape({port: list(inputs[_position(port)].shape) for port in model.inputs})
    return model


def save_graph(graph: Graph, folder: Path) -> None:
    """Save the graph, in float32, as an .xml and a .bin file. Unused inputs are dropped."""
    model = convert(graph.module, graph.inputs)
    for port in model.inputs:
        port.get_tensor().set_names({graph.input_names[_position(port)]})
    for port, name in zip(model.outputs, graph.output_names, strict=True):
        port.get_tensor().set_names({name})
    import_openvino().save_model(model, folder / f"{graph.name}.xml", compress_to_fp16=False)


def _position(port: ov.Output) -> int:
    """The index of an input among the module's tensors, tensors_0, tensors_1, ..., of which unused ones are missing."""
    return int(port.get_any_name().rpartition("_")[2])


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress the decoder's logs: it writes a traceback for every decomposition that this PyTorch lacks."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
