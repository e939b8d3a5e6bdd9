"""Which back end runs the networks: the one asked for, or the one that suits the machine, and why."""

from __future__ import annotations

from typing import get_args

from liveportrait.choices import BackendName, Precision
from liveportrait.engine.backend import Backend
from liveportrait.engine.eager import EagerBackend
from liveportrait.errors import UserError
from liveportrait.networks.interface import Networks


def make_backend(
    name: BackendName, networks: Networks, precision: Precision = "fp32", threads: int | None = None
) -> tuple[Backend, str]:
    """The back end of that name, and a few words on why it runs.

    Raises UserError where the name is unknown, its runtime is not installed, or it cannot run on the networks' device.
    """
    if name not in get_args(BackendName):
        raise UserError(f"there is no back end {name!r}: choose one of {', '.join(get_args(BackendName))}")
    chosen, reason = suggest(networks) if name == "auto" else (name, "as asked")
    return _make(chosen, networks, precision, threads), f"{chosen}: {reason}"


def suggest(networks: Networks) -> tuple[BackendName, str]:
    """The back end that suits the machine and the networks, and why.

    A back end is suggested where it was measured to be faster than the eager one with its exact savings; so far
    none was (docs/backends.md).
    """
    device = next(networks.motion.parameters()).device
    return "eager", f"no other was measured to be faster on this kind of device ({device.type})"


def _make(name: BackendName, networks: Networks, precision: Precision, threads: int | None) -> Backend:
    # Runtimes are imported only when one is chosen: some take seconds, most are not installed.
    match name:
        case "openvino":
            from liveportrait.engine.openvino import OpenVinoBackend

            return OpenVinoBackend(networks, precision, threads)
        case "onnx":
            from liveportrait.engine.onnx import OnnxBackend

            return OnnxBackend(networks, precision, threads)
        case "compile":
            from liveportrait.engine.compiled import CompiledBackend

            return CompiledBackend(networks, precision)
        case "cudagraphs":
            from liveportrait.engine.cudagraphs import CudaGraphsBackend

            return CudaGraphsBackend(networks, precision)
        case "tensorrt":
            from liveportrait.engine.tensorrt import TensorRtBackend

            return TensorRtBackend(networks, precision)
    return EagerBackend(networks, precision)
