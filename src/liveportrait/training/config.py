"""The configuration of a training run: frozen dataclasses, filled from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from liveportrait.errors import UserError
from liveportrait.training.motion_losses import MotionWeights
from liveportrait.training.render_losses import RenderWeights
from liveportrait.training.sampling import PairMix


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from."""

    shards: tuple[str, ...] = ()  # paths or patterns, relative to the configuration file
    frames_per_clip: int = 32
    hold_out_one_in: int = 12  # identities
    mode: Literal["loader", "resident", "stream"] = (
        "loader"  # drawn by processes, on the device, or read from shards
    )
    workers: int = 1  # processes that draw, in modes loader and stream, for each training process
    window: int = 48  # stream: clips a worker holds and draws from
    draws_per_clip: int = 16  # stream: examples drawn for each clip read
    sample_shards: int = 8  # stream: shards decoded to measure statistics and the held-out identities


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a phase: linear warm-up, then a cosine from learning_rate to final_ratio of it."""

    samples: int
    batch: int  # examples of one step, over all processes and micro-batches
    learning_rate: float
    final_ratio: float = 0.01
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    accumulate: int = 1  # micro-batches of a step, for batches that do not fit into memory


@dataclass(frozen=True)
class MotionPhase:
    """Training of M on single frames."""

    schedule: Schedule = field(default_factory=lambda: Schedule(80_000, 24, 2e-3, weight_decay=1e-2))
    weights: MotionWeights = field(default_factory=MotionWeights)
    blinks: float = 0.25
    patch_jitter: float = 0.08


@dataclass(frozen=True)
class RenderPhase:
    """Training of F, W and G on pairs at one picture size; goes on from the phase before."""

    size: int
    schedule: Schedule
    weights: RenderWeights = field(default_factory=RenderWeights)
    mix: PairMix = field(default_factory=PairMix)
    own_motion: float = 0.0  # probability of a batch being driven by M instead of the labels

    @property
    def needs_motion(self) -> bool:
        """Whether the phase uses a trained M."""
        return self.own_motion > 0 or self.weights.magnified > 0


@dataclass(frozen=True)
class StageOneConfig:
    """Stage one for the compact model: M from labels, F, W and G on labelled keypoints, side by side."""

    output: str = "runs/stage-one"
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    bf16: bool = True
    compile: bool = False  # networks through torch.compile: minutes at the start, faster steps
    checkpoint_seconds: float = 180.0
    average_decay: float = 0.998
    perceptual: str = (
        ""  # EfficientNet-Lite0 as safetensors, relative to this file; else the term is left out
    )
    data: DataConfig = field(default_factory=DataConfig)
    motion: MotionPhase = field(default_factory=MotionPhase)
    render: tuple[RenderPhase, ...] = field(default_factory=tuple)
    mask_shift: float = (
        0.0  # exported G: added to the logits of its mask; more keeps more of the source's pixels
    )
    warping_share: float = 1.0  # exported W: so much of the last render phase's, the rest of the first's


def load_config(path: Path) -> StageOneConfig:
    """Read a TOML file. Unknown keys, wrong types and impossible values are errors that name the key."""
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"No configuration at {path}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from error
    config = _build(StageOneConfig, raw, "", path)
    for where, schedule in [("motion", config.motion.schedule)] + [
        (f"render[{number}]", phase.schedule) for number, phase in enumerate(config.render)
    ]:
        for key in ("samples", "batch", "learning_rate"):
            if getattr(schedule, key) <= 0:
                value = getattr(schedule, key)
                raise UserError(f"{path}: {where}.schedule.{key} is {value}; it must be greater than 0.")
    if not 0 <= config.warping_share <= 1:
        raise UserError(f"{path}: warping_share is {config.warping_share}; it must be from 0 to 1.")
    for number, phase in enumerate(config.render):
        if phase.size % 64 or not 64 <= phase.size <= 256:
            raise UserError(f"{path}: render[{number}].size is {phase.size}; use 64, 128, 192 or 256.")
    return config


def _build(kind: Any, value: Any, where: str, path: Path) -> Any:
    """`value` as an instance of `kind`, recursively."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise UserError(f"{path}: {where} must be a table, not {value!r}.")
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                known = ", ".join(hints)
                raise UserError(f"{path}: unknown key {_join(where, key)}; known here: {known}.")
        try:
            return kind(
                **{key: _build(hints[key], item, _join(where, key), path) for key, item in value.items()}
            )
        except TypeError as error:
            raise UserError(f"{path}: {where or 'the file'} is incomplete: {error}.") from error
    if typing.get_origin(kind) in (tuple, types.GenericAlias):
        if not isinstance(value, list):
            raise UserError(f"{path}: {where} must be a list, not {value!r}.")
        inner = typing.get_args(kind)[0]
        return tuple(_build(inner, item, f"{where}[{number}]", path) for number, item in enumerate(value))
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            known = ", ".join(map(repr, typing.get_args(kind)))
            raise UserError(f"{path}: {where} is {value!r}; it must be one of {known}.")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{path}: {where} must be of type {kind.__name__}, not {value!r}.")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
