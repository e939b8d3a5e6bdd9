"""OpenVINO on the CPU: M, and the convolutions of W and G, in its graphs; the geometry between them in PyTorch.

OpenVINO has no 5-D grid sampling, and in bfloat16 it would round coordinates too: a flow that is off by a pixel
breaks a face where a colour that is off by 1/256 does not show. So the networks' own code runs, and only those of
its methods that are convolutions from end to end are replaced by compiled graphs. M is one graph and stays
float32 in every precision: its outputs are coordinates.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from liveportrait.choices import Precision
from liveportrait.engine.cache import artefact_key, load_or_make, replace_artefact
from liveportrait.engine.graphs import Graph, Rows, motion_graph, render_graph
from liveportrait.engine.precision import require_precision
from liveportrait.engine.rewrites import optimised
from liveportrait.engine.suiting import openvino_layout
from liveportrait.errors import UserError
from liveportrait.face.runtime import import_openvino
from liveportrait.networks import Networks
from liveportrait.networks.interface import Features, Motion, Pose
from liveportrait.networks.sampling import sampling_form

if TYPE_CHECKING:
    import openvino as ov

Arguments = tuple[Tensor | dict[str, Tensor], ...]

# By architecture: the methods of W and G (paths from `Networks`) that hold convolutions and no coordinates.
PARTS = {
    "compact": ("warping.predict", "generator.layers"),
    "base": ("generator.forward",),
}


class OpenVinoBackend:
    """F, M, W and G on the CPU; F, which runs once a source, in PyTorch.

    `threads`: of one frame; None is every core. Graphs are compiled at the first start and read from the cache
    afterwards. Raises UserError where the networks are on another device, or the precision is unknown.
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32", threads: int | None = None) -> None:
        self.device = next(networks.motion.parameters()).device
        if self.device.type != "cpu":
            raise UserError(
                f"the back end openvino runs on the CPU, not on {self.device}: choose --device cpu"
            )
        require_precision("the back end openvino", precision, ("fp32", "bf16"))
        self._networks = openvino_layout(optimised(networks))
        compiler = _Compiler(networks, threads)
        pixels = motion_graph(self._networks).inputs
        motion = _Method(self._networks.motion, "forward", pixels)
        self._motion = compiler.compile("motion", "fp32", lambda: (motion, pixels))

        parts = [tuple(path.split(".")) for path in PARTS[networks.variant.architecture]]
        recorded = cache(lambda: _record(self._networks, parts))
        compiled = [
            compiler.compile(".".join(part), precision, partial(lambda index: recorded()[index], index))
            for index, part in enumerate(parts)
        ]
        for (network, method), part in zip(parts, compiled, strict=True):
            vars(getattr(self._networks, network))[method] = _Replacement(part)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        features: Features = self._networks.appearance(images)
        return features

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return Motion(*self._motion([images]))

    def render(self, features: Features, source: Pose, driving: Pose) -> Tensor:
        """W, then G."""
        picture: Tensor = self._networks.generator(self._networks.warping(features, source, driving))
        return picture


class _Replacement:
    """Stands for a method: the same arguments, one tensor or a tuple of them."""

    def __init__(self, part: Rows) -> None:
        self._part = part

    def __call__(self, *arguments: Tensor | dict[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        made = self._part(_flat(arguments))
        return made[0] if len(made) == 1 else made


class _Method(nn.Module):
    """A method of a module as a module of its own, of tensors alone."""

    def __init__(self, owner: nn.Module, method: str, example: Arguments) -> None:
        super().__init__()
        self.owner, self.method = owner, method
        self.names = [sorted(part) if isinstance(part, dict) else None for part in example]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        left = iter(tensors)
        arguments = [
            next(left) if names is None else {name: next(left) for name in names} for names in self.names
        ]
        made = getattr(self.owner, self.method)(*arguments)
        return tuple(made) if isinstance(made, tuple) else (made,)


class _Compiler:
    """Turns modules into OpenVINO's compiled graphs, or reads them from the cache."""

    def __init__(self, networks: Networks, threads: int | None) -> None:
        self._ov = import_openvino()
        self._core = self._ov.Core()
        self._options = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._key = artefact_key(networks, "openvino", self._ov.get_version(), self._options)

    def compile(
        self, name: str, precision: Precision, make: Callable[[], tuple[nn.Module, Sequence[Tensor]]]
    ) -> Rows:
        """The graph of that name; `make` gives the module and example inputs where it is not in the cache."""
        options = self._options | {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
        file = f"{self._key}-{name}-{precision}.openvino"

        def build() -> bytes:
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
        request, lock = compiled.create_infer_request(), threading.Lock()
        used = [_position(port) for port in compiled.inputs]

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            arrays = [tensors[index].detach().numpy() for index in used]
            with lock:
                results = request.infer(arrays, share_inputs=True)
                return [torch.from_numpy(results[port].copy()) for port in compiled.outputs]

        return Rows(run, batch=1)


def convert(module: nn.Module, inputs: Sequence[Tensor]) -> ov.Model:
    """The module as an openvino.Model in float32, with the shapes of the inputs; 5-D sampling is decomposed.

    OpenVINO's own `convert_model` would report its use over the network; what it calls for PyTorch does not.
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
    """The graph, in float32, as an .xml and a .bin file. Inputs that it does not use are left out."""
    model = convert(graph.module, graph.inputs)
    for port in model.inputs:
        port.get_tensor().set_names({graph.input_names[_position(port)]})
    for port, name in zip(model.outputs, graph.output_names, strict=True):
        port.get_tensor().set_names({name})
    import_openvino().save_model(model, folder / f"{graph.name}.xml", compress_to_fp16=False)


def _position(port: ov.Output) -> int:
    """Which of the module's tensors an input is: they are called tensors_0, tensors_1, ..., less those not used."""
    return int(port.get_any_name().rpartition("_")[2])


@contextmanager
def _silent() -> Iterator[None]:
    """The decoder logs a traceback for every decomposition that this PyTorch does not know."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _record(networks: Networks, parts: Sequence[Sequence[str]]) -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    """Every part as a module of tensors with its inputs of one frame, which is run to see them."""
    seen: list[tuple[nn.Module, tuple[Tensor, ...]]] = []

    def listening(owner: nn.Module, method: str) -> Callable[..., object]:
        original = getattr(owner, method)

        def call(*arguments: Tensor | dict[str, Tensor]) -> object:
            seen.append((_Method(owner, method, arguments), tuple(_flat(arguments))))
            return original(*arguments)

        return call

    owners = [(getattr(networks, network), method) for network, method in parts]
    for owner, method in owners:
        vars(owner)[method] = listening(owner, method)
    graph = render_graph(networks)
    try:
        with torch.no_grad():
            graph.module(*graph.inputs)
    finally:
        for owner, method in owners:
            del vars(owner)[method]
    return seen


def _flat(arguments: Arguments) -> list[Tensor]:
    flat = []
    for argument in arguments:
        flat += [argument[name] for name in sorted(argument)] if isinstance(argument, dict) else [argument]
    return flat
