"""Networks through torch.compile, where the machine has what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from liveportrait.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], device: torch.device) -> Callable[P, R]:
    """The function, compiled when first called. Raises UserError as `compile_networks`."""
    _try_out(device)
    return torch.compile(function)


def compile_networks(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Let the modules' `forward` be compiled when first called, in place: names and parameters stay.

    Raises UserError where nothing can be compiled: on a CPU a C++ compiler is needed, on a GPU Triton.
    """
    _try_out(device)
    for network in networks:
        network.compile()


def _try_out(device: torch.device) -> None:
    """Compile one addition, so that a missing compiler is one sentence and not a page from within a step."""

    def add(x: torch.Tensor) -> torch.Tensor:
        return x.sin() + 1

    try:
        torch.compile(add)(torch.ones(8, device=device))
    except Exception as error:  # the compiler's errors have no common class below it
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"compile = true needs a C++ compiler (on a GPU, Triton), and compiling failed ({reason}): install it or "
            "set compile = false."
        ) from error
