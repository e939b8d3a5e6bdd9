"""Does a state dict fit the networks it is meant for? If not, one sentence that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from liveportrait.errors import UserError
from liveportrait.networks import Networks, Variant, build

NAMED = 3  # keys that a message spells out; it counts the others


class Unfilled(TorchFunctionMode):
    """A block in which `nn.init` fills nothing, for networks whose weights all come from a file.

    On top of the time for random numbers, filling a tensor without memory makes PyTorch import its compiler: seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls all functions but those."""
        named = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def blueprint(variant: Variant) -> Networks:
    """All networks of a variant without memory for their weights: names and shapes only.

    Raises ValueError where the variant's sizes fit no networks.
    """
    try:
        with torch.device("meta"), Unfilled():
            return build(variant, retargeting=True)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(f"no networks have the sizes {variant}: {error}") from error


def parameter_count(module: nn.Module) -> int:
    """Number of learned numbers in a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def check_state(state: Mapping[str, object], expected: Mapping[str, Tensor], place: str) -> None:
    """Raises UserError unless `state` has exactly the names and shapes of `expected`.

    place: what the message calls the origin of the state, a file for instance.
    """
    faults = []
    if missing := [key for key in expected if key not in state]:
        faults.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected := [key for key in state if key not in expected]:
        faults.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    misfits = []
    for key, wanted in expected.items():
        if key in state and (misfit := _misfit(state[key], wanted)):
            misfits.append(f"{key} {misfit}")
    if misfits:
        faults.append(f"{len(misfits)} of the wrong shape ({_some(misfits)})")
    if faults:
        raise UserError(f"{place} does not fit these networks: of its entries {', '.join(faults)}")


def _misfit(value: object, wanted: Tensor) -> str:
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, should be a tensor"
    if value.shape != wanted.shape:
        return f"is {_shape(value)}, should be {_shape(wanted)}"
    if value.is_floating_point() != wanted.is_floating_point():
        return f"holds {value.dtype}, should hold {wanted.dtype}"
    return ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _some(items: Sequence[str]) -> str:
    more = f", and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return ", ".join(map(str, items[:NAMED])) + more
