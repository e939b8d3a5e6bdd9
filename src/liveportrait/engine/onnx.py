"""ONNX: files for other runtimes, and ONNX Runtime as a back end on the CPU or an NVIDIA GPU.

ONNX has had 5-D grid sampling since operator set 20, so F, M, and W with G are one graph each.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from liveportrait.choices import Precision
from liveportrait.engine.backend import require_precision, to_half
from liveportrait.engine.cache import artefact_key, load_or_make, replace_artefact
from liveportrait.engine.graphs import (
    Graph,
    Rows,
    appearance_graph,
    motion_graph,
    openvino_layout,
    render_graph,
)
from liveportrait.engine.rewrites import optimised
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.geometry import Form
from liveportrait.networks.interface import Features, Layers, Motion, Pose

if TYPE_CHECKING:
    import onnxruntime

OPSET = 20
GPU_BATCH = 4
INSTALL = 'install it with: pip install "liveportrait[onnx]"'


class OnnxBackend:
    """F, M, and W with G in ONNX Runtime, on the CPU in float32, or on the CUDA device of the networks.

    Graphs are exported on the first start and read from the cache afterwards. `threads` is per frame; None leaves it to
    ONNX Runtime. Raises UserError if ONNX Runtime, or its support for the device, is not installed.
    """

    concurrent = False

    def __init__(self, networks: Networks, precision: Precision = "fp32", threads: int | None = None) -> None:
        self.device = next(networks.motion.parameters()).device
        if self.device.type == "cpu":
            require_precision("the back end onnx on a CPU", precision, ("fp32",))
        require_precision("the back end onnx", precision, ("fp32", "fp16"))
        self._runtime = _import_runtime()
        self._providers = self._find_providers()
        self._threads = threads
        batch = GPU_BATCH if self.device.type == "cuda" else 1
        self._key = artefact_key(networks, "onnx", self._runtime.__version__, OPSET, batch, precision)
        fast = to_half(openvino_layout(optimised(networks)), precision)
        self._appearance = self._load("appearance", lambda: appearance_graph(fast, batch, precision), batch)
        self._motion = self._load("motion", lambda: motion_graph(fast, batch, precision), batch)
        self._takes_cues = networks.mouth_painter is not None
        self._render = self._load("render", lambda: render_graph(fast, batch, precision), batch)

    def appearance(self, images: Tensor) -> Features:
        """F."""
        return dict(zip(self._appearance.outputs, self._appearance([images]), strict=True))

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return Motion(*self._motion([images]))

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        extra = [cues] if self._takes_cues else []
        return Layers(
            *self._render([*(features[name] for name in sorted(features)), *source, *driving, *extra])
        )

    def _find_providers(self) -> list[Any]:
        if self.device.type == "cpu":
            return ["CPUExecutionProvider"]
        present = self._runtime.get_available_providers()
        if self.device.type != "cuda" or "CUDAExecutionProvider" not in present:
            raise UserError(
                f"this ONNX Runtime cannot run on {self.device} (it has {', '.join(present)}): install onnxruntime-gpu "
                "for CUDA, or choose --device cpu"
            )
        return [("CUDAExecutionProvider", {"device_id": self.device.index or 0}), "CPUExecutionProvider"]

    def _load(self, name: str, make: Callable[[], Graph], batch: int) -> _Session:
        file = f"{self._key}-{name}.onnx"

        def build() -> bytes:
            return export_onnx(make(), "native")

        artefact, fresh = load_or_make(file, build)
        try:
            return _Session(self._start(artefact), batch, self.device)
        except Exception:  # the runtime's own errors have no common class
            if fresh:
                raise
            return _Session(self._start(replace_artefact(file, build())), batch, self.device)

    def _start(self, artefact: bytes) -> onnxruntime.InferenceSession:
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        return self._runtime.InferenceSession(artefact, options, providers=self._providers)


class _Session(Rows):
    """A session that accepts any batch size; arrays pass through the CPU's memory."""

    def __init__(self, session: onnxruntime.InferenceSession, batch: int, device: torch.device) -> None:
        taken = {port.name: index for index, port in enumerate(session.get_inputs())}
        self.outputs = tuple(port.name for port in session.get_outputs())

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            arrays = {name: np.ascontiguousarray(tensors[at].cpu().numpy()) for name, at in taken.items()}
            return [torch.from_numpy(made).to(device) for made in session.run(None, arrays)]

        super().__init__(run, batch)


def export_onnx(graph: Graph, form: Form) -> bytes:
    """The graph as a file in the ONNX format, operator set 20. Raises UserError if the exporter is missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"exporting to ONNX needs {error.name}: {INSTALL}") from error
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # torch's exporter logs every operator set it passes
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.export(form),
                input_names=graph.input_names,
                output_names=graph.output_names,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        return program.model_proto.SerializeToString()
    finally:
        logging.disable(before)


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"the back end onnx needs ONNX Runtime: {INSTALL}") from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime
