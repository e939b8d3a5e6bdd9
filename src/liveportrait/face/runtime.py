"""The networks of Google's face landmarker bundle, compiled by OpenVINO when they are first used.

`models/README.md` says where the files come from. OpenVINO reads TFLite from a path only, which is why the
three networks lie beside this file unpacked.
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
    """The module `openvino`, imported so that it makes no network connection.

    Importing it starts its conversion tools, and these report the import to their makers where the package
    openvino_telemetry is found. Slow: call it only when a network is wanted.
    """
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # found absent while this imports
    try:
        import openvino
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    return openvino


@cache
def openvino_core() -> ov.Core:
    """OpenVINO's core, one for the whole process, which is never let go.

    Its CPU plugin gives the thread that makes it a stack for signals, and takes that away in the thread that destroys
    it: after the last of several cores, Ctrl-C would run on memory that is gone.
    """
    return import_openvino().Core()


class Network:
    """One TFLite network on the CPU, in float32.

    Compiled on the first call. Calls from several threads are safe and take turns.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._path = FOLDER / f"{name}.tflite"
        self._threads = threads
        self._lock = threading.Lock()

    @cached_property
    def _request(self) -> ov.InferRequest:
        return compiled(self._path, self._threads).create_infer_request()

    def __call__(self, batch: Array) -> list[Array]:
        """Outputs, in the order of the file, for an input of the network's own shape (1, ...)."""
        with self._lock:
            results = self._request.infer([np.ascontiguousarray(batch, np.float32)])
            return [np.array(results[port]) for port in self._request.model_outputs]


def compiled(path: Path, threads: int) -> ov.CompiledModel:
    """The network of a file, for one picture at a time. Its requests take turns: who shall not wait compiles anew."""
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
