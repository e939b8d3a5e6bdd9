"""The configuration of a training run: frozen dataclasses, filled from a TOML file.

Each class rejects impossible values itself; `read_toml` adds the file and the table to the message.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from liveportrait.errors import UserError
from liveportrait.media.files import check_input

Settings = TypeVar("Settings")
Run = TypeVar("Run", bound="RunConfig")
# Former names of keys, still read.
RENAMED = {"discriminator_pace": "discriminator_lr_scale", "imitation": "closed_form_steps"}


def check(name: str, value: object, allowed: bool, rule: str) -> None:
    """Unless `allowed`, raise a `UserError` that names the key, its value and the rule it breaks."""
    if not allowed:
        raise UserError(f"{name} is {value!r}; {rule}.")


def check_positive(settings: object, *names: str) -> None:
    """Raise `UserError` for the first of the named fields that is not greater than 0."""
    for name in names:
        value = getattr(settings, name)
        check(name, value, value > 0, "it must be greater than 0")


def check_shares(settings: object, *names: str) -> None:
    """Raise `UserError` for the first of the named fields that is not between 0 and 1."""
    for name in names:
        value = getattr(settings, name)
        check(name, value, 0 <= value <= 1, "it must be from 0 to 1")


MAX_BYTES = 2**20  # of a configuration file
MAX_DOTS = 200  # per line


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of a loss, one field each. A term of weight 0 does not count."""

    def __post_init__(self) -> None:
        """Raise `UserError` for a weight that is negative or not finite."""
        for weight in dataclasses.fields(self):
            value = getattr(self, weight.name)
            check(weight.name, value, 0 <= value < math.inf, "it must be 0 or a positive number")


@dataclass(frozen=True)
class DataConfig:
    """The sources of the training examples."""

    shards: tuple[str, ...] = ()  # paths or patterns, relative to the configuration file
    frames_per_clip: int = 32
    hold_out_one_in: int = 12  # identities
    # Drawn by CPU processes, drawn on the device, or read from shards too large for memory and disk.
    mode: Literal["loader", "resident", "stream"] = "loader"
    workers: int = 1  # loader and stream: drawing processes per training process
    window: int = 48  # stream: clips that a worker holds and draws from
    draws_per_clip: int = 16  # stream: examples drawn for each clip read
    sample_shards: int = 8  # stream: shards decoded for statistics and for the held-out identities

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check_positive(
            self,
            "frames_per_clip", "hold_out_one_in", "workers", "window", "draws_per_clip", "sample_shards",
        )  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a phase: linear warm-up, then a cosine from learning_rate to final_ratio of it."""

    samples: int
    batch: int  # examples per step, over all processes and micro-batches
    learning_rate: float
    final_ratio: float = 0.01
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    accumulate: int = 1  # micro-batches per step, for batches that do not fit into memory

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check_positive(self, "samples", "batch", "learning_rate", "warmup_steps", "accumulate")
        check_shares(self, "final_ratio")


@dataclass(frozen=True)
class RunConfig:
    """The settings that all stages share."""

    output: str = "runs/stage-one"
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    bf16: bool = True
    checkpoint_seconds: float = 180.0
    average_decay: float = 0.998
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check_positive(self, "threads")


def read_toml(kind: type[Settings], path: Path) -> Settings:
    """A dataclass of type `kind`, filled from a TOML file.

    Raises `UserError`, naming file and key, for unknown keys, wrong types and impossible values.
    """
    try:
        if path.exists() and check_input(path).stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES} bytes, the limit for a configuration.")
        text = path.read_text(encoding="utf-8")
        # The parser's memory grows with the square of a key's depth.
        if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
            raise UserError(f"{path} has a line with more than {MAX_DOTS} dots: no key is that deep.")
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UserError(f"No configuration at {path}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested too deeply
        raise UserError(f"{path} is not valid TOML: {error}.") from error
    settings: Settings = _build(kind, raw, "", path)
    return settings


def read_run(kind: type[Run], path: Path, output: str | None) -> Run:
    """A run's settings from a TOML file; `output`, if given, replaces the folder. Raises as `read_toml`."""
    settings = read_toml(kind, path)
    return settings if output is None else dataclasses.replace(settings, output=output)


def _build(kind: Any, value: Any, where: str, path: Path) -> Any:
    """`value` as an instance of `kind`, recursively."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise UserError(f"{path}: {where} must be a table, not {value!r}.")
        value = {_current(key, path): item for key, item in value.items()}
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                known = ", ".join(hints)
                raise UserError(f"{path}: unknown key {_join(where, key)}; known here: {known}.")
        given = {key: _build(hints[key], item, _join(where, key), path) for key, item in value.items()}
        try:
            return kind(**given)
        except TypeError as error:
            raise UserError(f"{path}: {where or 'the file'} is incomplete: {error}.") from error
        except UserError as error:
            raise UserError(f"{path}: {_join(where, str(error))}") from error
    if typing.get_origin(kind) is types.UnionType:  # a table that may be absent
        return _build(typing.get_args(kind)[0], value, where, path)
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise UserError(f"{path}: {where} is {value!r}; choose one of {', '.join(choices)}.")
        return value
    if typing.get_origin(kind) in (tuple, types.GenericAlias):
        if not isinstance(value, list):
            raise UserError(f"{path}: {where} must be a list, not {value!r}.")
        inner = typing.get_args(kind)[0]
        return tuple(_build(inner, item, f"{where}[{number}]", path) for number, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path}: {where} must be of type {kind.__name__}, not {value!r}.")
    return value


def _current(key: str, path: Path) -> str:
    """The current name of a key; a note on standard error points out a former one."""
    if key in RENAMED:
        print(f"{path}: {key} is called {RENAMED[key]} now", file=sys.stderr)
    return RENAMED.get(key, key)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
