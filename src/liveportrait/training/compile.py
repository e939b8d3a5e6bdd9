"""Networks through torch.compile, where the machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from liveportrait.engine.compiled import require_compiler

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], device: torch.device) -> Callable[P, R]:
    """The function, compiled when first called. Raises UserError as `compile_networks`."""
    require_compiler(device, "compile = true", "set compile = false")
    return torch.compile(function)


def compile_networks(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Let the modules' `forward` be compiled when first called, in place: names and parameters stay.

    Raises UserError where nothing can be compiled: on a CPU a C++ compiler is needed, on a GPU Triton.
    """
    require_compiler(device, "compile = true", "set compile = false")
    for network in networks:
        network.compile()
