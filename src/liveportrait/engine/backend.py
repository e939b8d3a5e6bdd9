"""The interface of back ends, and choosing one: as requested, or the best for the networks and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol, get_args

import torch
from torch import Tensor, nn

from liveportrait.choices import BackendName, Precision, PrecisionChoice
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.interface import Features, Layers, Motion, Pose

# Each back end's module in this package and its class. A runtime is imported only when chosen: some take seconds, and
# most are not installed.
BACKENDS: dict[str, str] = {
    "eager": "pytorch:EagerBackend",
    "compile": "pytorch:CompileBackend",
    "cudagraphs": "pytorch:CudaGraphsBackend",
    "winograd": "winograd:WinogradBackend",
    "openvino": "openvino:OpenVinoBackend",
    "onnx": "onnx:OnnxBackend",
    "tensorrt": "tensorrt:TensorRtBackend",
}
TAKE_THREADS = ("openvino", "onnx")  # have their own threads; the others use PyTorch's
HAVE_BF16 = ("eager", "compile", "openvino")  # on a CPU, for COMPACT
WINOGRAD_COMPACT = "1.5"  # times as fast as eager in float32, W, G and painter together
GET_NUMBA = 'pip install "liveportrait[cpu]"'


class Backend(Protocol):
    """Runs F, M, and W with G. Back ends differ only in speed.

    Images are (B,3,S,S) float32 RGB in [0, 1] on `device`; motions and poses are float32.
    """

    device: torch.device
    concurrent: bool  # whether calls from several threads may run at the same time

    def appearance(self, images: Tensor) -> Features:
        """F."""
        ...

    def motion(self, images: Tensor) -> Motion:
        """M."""
        ...

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """The `Renderer`, W, then G and painters: float32 layers; every argument has the batch size B."""
        ...


@dataclass(frozen=True)
class Choice:
    """The back end and the precision that were chosen, and the reason."""

    backend: BackendName  # never "auto"
    precision: Precision
    reason: str


def make_backend(
    name: BackendName, networks: Networks, precision: PrecisionChoice = "fp32", threads: int | None = None
) -> tuple[Backend, Choice]:
    """The back end with that name in that precision, either of which may be "auto", and what was chosen.

    Raises UserError if the name is unknown, its runtime is not installed, or it cannot run these networks on their
    device.
    """
    if name not in get_args(BackendName):
        raise UserError(f"there is no back end {name!r}: choose one of {', '.join(get_args(BackendName))}")
    backend, reason = suggest_backend(networks, precision) if name == "auto" else (name, "as requested")
    if precision == "auto":
        precision, why = suggest_precision(backend, networks)
        reason = f"{reason}; {precision}: {why}"
    return _make(backend, networks, precision, threads), Choice(backend, precision, reason)


def suggest_backend(networks: Networks, precision: PrecisionChoice) -> tuple[BackendName, str]:
    """The back end measured to be fastest for the networks, their device and the precision, and the reason."""
    device, architecture = _facts(networks)
    half = precision == "bf16" or (precision == "auto" and computes_in_bf16())
    if device == "cpu" and (architecture == "base" or not half):
        faster = "2.7" if architecture == "base" else WINOGRAD_COMPACT
        if has_numba():
            return "winograd", f"it was measured to be {faster} times as fast as eager with these networks"
        return "eager", f"winograd, which is {faster} times as fast, needs numba: {GET_NUMBA}"
    return "eager", f"the fastest measured with {architecture} networks on this device ({device})"


def suggest_precision(name: BackendName, networks: Networks) -> tuple[Precision, str]:
    """The fastest precision measured to keep pictures at 45 dB PSNR or more relative to fp32, and the reason."""
    device, architecture = _facts(networks)
    if name == "winograd" and architecture == "base":
        return "fp32", "bf16 is a fifth faster, but was measured with untrained weights alone"
    if name == "winograd":
        return "fp32", "it has no other precision for compact networks"
    if architecture != "compact" or device != "cpu" or name not in HAVE_BF16:
        return "fp32", f"no other was measured with {architecture} networks on this device ({device})"
    if not computes_in_bf16():
        return "fp32", "this processor has no bfloat16 arithmetic"
    return "bf16", "this processor supports it, and pictures keep a PSNR of 63 dB relative to fp32"


def computes_in_bf16() -> bool:
    """Whether the CPU supports bfloat16 arithmetic (AVX-512 BF16 or AMX); False if this PyTorch cannot tell.

    Other processors are slower in bfloat16 than in float32.
    """
    ask = getattr(torch.cpu, "get_capabilities", dict)
    has: dict[str, object] = ask()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@cache
def has_numba() -> bool:
    """Whether numba is installed and compatible with the other packages."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def _facts(networks: Networks) -> tuple[str, str]:
    """Device type and architecture."""
    return next(networks.motion.parameters()).device.type, networks.variant.architecture


def _make(name: BackendName, networks: Networks, precision: Precision, threads: int | None) -> Backend:
    if name == "winograd" and not has_numba():
        raise UserError(f"the back end winograd needs numba: {GET_NUMBA}, or choose --backend eager")
    module, _, kind = BACKENDS[name].partition(":")
    make = getattr(import_module(f"liveportrait.engine.{module}"), kind)
    backend: Backend = (
        make(networks, precision, threads) if name in TAKE_THREADS else make(networks, precision)
    )
    return backend


HALF: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def autocast_for(precision: Precision, device: torch.device) -> torch.autocast:
    """A `with` block in which networks compute in that precision."""
    dtype = HALF.get(precision)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def to_half(networks: Networks, precision: Precision) -> Networks:
    """Convert the weights of convolutions in F, M, W, G and painter to that precision, in place.

    Run the networks within `autocast_for`, where this does not change results. Pass copies (`optimised` makes some).
    """
    dtype = HALF.get(precision)
    if dtype is not None:
        made = (networks.appearance, networks.motion, networks.warping, networks.generator)
        for network in (*made, *filter(None, (networks.mouth_painter,))):
            for part in network.modules():
                if isinstance(part, CONVOLUTIONS):
                    for parameter in part.parameters(recurse=False):
                        parameter.data = parameter.data.to(dtype)
    return networks


def require_precision(what: str, precision: Precision, offered: tuple[Precision, ...]) -> None:
    """Raises UserError unless `what` offers the precision."""
    if precision not in offered:
        raise UserError(f"{what} has no precision {precision!r}: choose {' or '.join(offered)}")
