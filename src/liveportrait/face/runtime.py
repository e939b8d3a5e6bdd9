"""The networks of Google's face landmarker bundle, compiled by OpenVINO on first use.

`models/README.md` says where the files come from. OpenVINO reads TFLite only from a path, so the three networks are
stored unpacked next to this file.
"""

from __future__ import annotations

import sys
import threading
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from liveportrait.types import Array

if TYPE_CHECKING:
    from types import ModuleType

    import openvino as ov

FOLDER = Path(__file__).parent / "models"


def import_openvino() -> ModuleType:
    """Import `openvino` without letting it make a network connection.

    Importing it loads its conversion tools, which report the import to their authors if the package
    openvino_telemetry is installed. Slow: call it only when a network is needed.
    """
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # hidden during the import
    try:
        import openvino
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    return openvino


@cache
def openvino_core() -> ov.Core:
    """OpenVINO's core: one per process, never released.

    Its CPU plugin installs a signal stack in the thread that creates it and removes the stack in the thread that
    destroys it. Once the last of several cores is destroyed, a Ctrl-C would be handled on freed memory.
    """
    return import_openvino().Core()


class Network:
    """One TFLite network on the CPU, in float32.

    Compiled on the first call. Thread-safe: concurrent calls run one after another.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._path = FOLDER / f"{name}.tflite"
        self._threads = threads
        self._lock = threading.Lock()

    @cached_property
    def _request(self) -> ov.InferRequest:
        return compiled(self._path, self._threads).create_infer_request()

    def __call__(self, batch: Array) -> list[Array]:
        """Outputs, in the file's order, for an input of the network's own shape (1, ...)."""
        with self._lock:
            results = self._request.infer([np.ascontiguousarray(batch, np.float32)])
            return [np.array(results[port]) for port in self._request.model_outputs]


def compiled(path: Path, threads: int) -> ov.CompiledModel:
    """A network file compiled for one picture at a time.

    Its requests run one after another; compile the file again for requests that must run in parallel.
    """
    core = openvino_core()
    model = core.read_model(path)
    shape = model.input(0).partial_shape
    shape[0] = 1  # the mesh network leaves its batch open; a fixed one compiles to faster code
    model.reshape(shape)
    # bfloat16, which OpenVINO picks by itself where the CPU has it, moves landmarks by 0.3 px at 256 px.
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(model, "CPU", options)
