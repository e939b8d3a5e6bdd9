"""The state of a run on disk: one safetensors file and its metadata, replaced in one step."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from liveportrait.errors import OutOfMemory, UserError, user_error
from liveportrait.folders import unfinished_beside
from liveportrait.media import check_input

Network = TypeVar("Network", bound=nn.Module)
_DAMAGE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


@dataclass
class TrainingState:
    """Everything a run needs to continue as if it had never stopped; random numbers follow from seed and step."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averages: dict[str, nn.Module]  # exponential moving averages of some modules, by the modules' names
    step: int = 0
    samples: int = 0
    history: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write `path`; the previous checkpoint is kept until the new one is complete."""
        tensors: dict[str, Tensor] = {}
        for group, modules in (("module", self.modules), ("average", self.averages)):
            for name, module in modules.items():
                for key, value in module.state_dict().items():
                    tensors[f"{group}.{name}.{key}"] = value.detach().contiguous().clone()
        for name, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                for slot, value in slots.items():
                    tensors[f"optimizer.{name}.{index}.{slot}"] = torch.as_tensor(value).contiguous().clone()
        progress = {"step": self.step, "samples": self.samples, "history": self.history, **about}
        with unfinished_beside(path) as temporary:
            save_file(tensors, temporary, metadata={"state": json.dumps(progress)})
            temporary.replace(path)

    def load(self, path: Path) -> dict[str, Any]:
        """Restore from `path` and return its metadata about the run.

        Raises `UserError` if it is damaged or belongs to other networks; the state is then only partly restored and
        must not be used.
        """
        with _reading(path):
            return self._load(path)

    def _load(self, path: Path) -> dict[str, Any]:
        with safe_open(path, framework="pt") as stored:
            about = _about(stored)
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        for group, modules in (("module", self.modules), ("average", self.averages)):
            for name, module in modules.items():
                module.load_state_dict(_with_prefix(tensors, f"{group}.{name}."))
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            parameters = [each for group in optimizer.param_groups for each in group["params"]]
            for key, value in _with_prefix(tensors, f"optimizer.{name}.").items():
                index, _, slot = key.partition(".")
                if value.ndim and value.shape != parameters[int(index)].shape:
                    raise ValueError(f"{slot} of parameter {index} is {tuple(value.shape)}")
                state.setdefault(int(index), {})[slot] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.samples = int(about.pop("step")), int(about.pop("samples"))
        self.history = dict(about.pop("history"))
        return about


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a block reads a checkpoint, a file of any content, into a `UserError`."""
    check_input(path)  # reading from a pipe could block forever
    try:
        yield
    except (MemoryError, SafetensorError, OSError, RuntimeError, *_DAMAGE_ERRORS) as error:
        if isinstance(translated := user_error(error), OutOfMemory):
            raise translated from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path} is damaged, or no checkpoint of these networks ({reason}): remove it, or name another one"
        ) from error


def _about(stored: Any) -> dict[str, Any]:
    return dict(json.loads(stored.metadata()["state"]))


@cache
def made_by() -> dict[str, str]:
    """The versions of this package and of torch, and the commit if the package runs from a repository."""
    found = {"liveportrait": importlib.metadata.version("liveportrait"), "torch": torch.__version__}
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return found  # installed as a package, or git is missing
    return {**found, "commit": answer.stdout.strip()}


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def ema_copy(module: Network) -> Network:
    """A frozen copy of a network, as the start of its moving average."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, step: int, decay: float) -> None:
    """One update of a moving average; the decay is lower in the first steps, so that the start is soon forgotten."""
    keep = min(decay, (step + 1) / (step + 10))
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - keep)
        else:
            mean.copy_(value)


def load_average(checkpoint: Path, name: str, module: Network) -> Network:
    """Fill a network with a moving average from a checkpoint, and return it."""
    TrainingState({}, {}, {name: module}).load(checkpoint)
    return module


def samples_seen(checkpoint: Path) -> int:
    """Number of samples that a checkpoint's phase has seen."""
    with _reading(checkpoint), safe_open(checkpoint, framework="pt") as stored:
        return int(_about(stored)["samples"])
