"""Which back end runs the networks: the one asked for, or the one that suits the machine, and why."""

from __future__ import annotations

from typing import get_args

import torch

from liveportrait.choices import BackendName, Precision, PrecisionChoice
from liveportrait.engine.backend import Backend
from liveportrait.engine.eager import EagerBackend
from liveportrait.engine.winograd import passes
from liveportrait.errors import UserError
from liveportrait.networks import Networks

HAVE_BF16 = ("eager", "compile", "openvino")  # on a CPU


def make_backend(
    name: BackendName, networks: Networks, precision: PrecisionChoice = "fp32", threads: int | None = None
) -> tuple[Backend, str]:
    """The back end of that name in that precision, and a few words on why it runs.

    Raises UserError where the name is unknown, its runtime is not installed, or it cannot run on the networks' device.
    """
    if name not in get_args(BackendName):
        raise UserError(f"there is no back end {name!r}: choose one of {', '.join(get_args(BackendName))}")
    chosen, reason = suggest(networks) if name == "auto" else (name, "as asked")
    said = f"{chosen}: {reason}"
    if precision == "auto":
        precision, reason = suggest_precision(chosen, networks)
        said += f"; {precision}: {reason}"
    if chosen == "eager" and runs_base_on_cpu(networks) and not passes.compiles():
        said += '; without numba, with which it is 1.3 times as fast: pip install "liveportrait[cpu]"'
    return _make(chosen, networks, precision, threads), said


def suggest(networks: Networks) -> tuple[BackendName, str]:
    """The back end that suits the machine and the networks, and why.

    A back end is suggested where it was measured to be faster than the eager one with its exact savings; so far
    none was (docs/reference/backends.md).
    """
    device = next(networks.motion.parameters()).device
    return "eager", f"no other was measured to be faster on this kind of device ({device.type})"


def suggest_precision(name: BackendName, networks: Networks) -> tuple[Precision, str]:
    """The fastest precision of a back end that was measured to keep pictures 45 dB and more from fp32's, and why."""
    device, architecture = next(networks.motion.parameters()).device, networks.variant.architecture
    if runs_base_on_cpu(networks):
        return "fp32", "bf16 is a fifth faster here, but was measured with untrained weights alone"
    if architecture != "compact" or device.type != "cpu" or name not in HAVE_BF16:
        return "fp32", f"no other was measured with {architecture} networks on this device ({device.type})"
    if not computes_in_bf16():
        return "fp32", "this processor does not compute in bfloat16"
    return "bf16", "this processor computes in it, and pictures stay within 67 dB of fp32"


def runs_base_on_cpu(networks: Networks) -> bool:
    """Whether the eager back end has layers of its own for them, see `cpu.optimised_for_cpu`."""
    return networks.variant.architecture == "base" and next(networks.motion.parameters()).device.type == "cpu"


def computes_in_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself (AVX-512 BF16 or AMX); False where this PyTorch cannot tell.

    Other processors take longer in bfloat16 than in float32.
    """
    ask = getattr(torch.cpu, "get_capabilities", dict)
    has: dict[str, object] = ask()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


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
