"""The configuration of a training run: frozen dataclasses, filled from a TOML file."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from liveportrait.errors import UserError
from liveportrait.training.data.samplers import PairMix
from liveportrait.training.losses import JointWeights
from liveportrait.training.losses.motion import MotionWeights
from liveportrait.training.losses.perceptual import Backbone
from liveportrait.training.losses.rendering import RenderWeights


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
    earlier_warping: float = 0.0  # W starts as an average with so much of the first phase's
    only_generator: bool = False  # F and W stay as they are

    @property
    def needs_motion(self) -> bool:
        """Whether the phase uses a trained M."""
        return self.own_motion > 0 or self.weights.magnified > 0


@dataclass(frozen=True)
class JointSettings:
    """The paper's stage one: F, M, W and G together, driven by M (section 3.2)."""

    schedule: Schedule
    size: int = 256  # side of the pictures that F sees and that are compared; M sees its own size
    weights: JointWeights = field(default_factory=JointWeights)
    layers: RenderWeights = field(default_factory=RenderWeights)  # within the term "layers"
    labels: MotionWeights = field(default_factory=MotionWeights)  # within the term "labels"
    mix: PairMix = field(default_factory=PairMix)
    betas: tuple[float, ...] = (0.5, 0.999)  # of Adam, the paper's
    adversarial_from: int = 0  # samples seen before discriminators train and count
    discriminator_channels: int = 32
    discriminator_pace: float = 1.0  # its learning rate over the generator's
    perceptual: Backbone = "efficientnet"
    vgg19: str = ""  # torchvision's vgg19 as safetensors, relative to the configuration file
    identity: Literal["dlib", "none"] = "dlib"
    known_motion: float = 0.0  # of pairs made by a known transform: share driven by it, not by M's reading
    fixed_statistics: bool = False  # batch norms keep what they know: for small batches from given weights


@dataclass(frozen=True)
class RunConfig:
    """What the configuration of every stage has."""

    output: str = "runs/stage-one"
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    bf16: bool = True
    checkpoint_seconds: float = 180.0
    average_decay: float = 0.998
    data: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class StageOneConfig(RunConfig):
    """Stage one. For the compact model a warm start (M from labels, F, W and G on labelled keypoints) may come
    before the joint phase; the published architecture has the joint phase alone.
    """

    variant: Literal["compact", "base"] = "compact"
    init: str = (
        ""  # weights that the joint phase starts from: a name or folder; else the warm start's or none
    )
    compile: bool = False  # networks through torch.compile: minutes at the start, faster steps
    perceptual: str = (
        ""  # EfficientNet-Lite0 as safetensors, relative to this file; else the term is left out
    )
    motion: MotionPhase = field(default_factory=MotionPhase)
    render: tuple[RenderPhase, ...] = field(default_factory=tuple)
    joint: JointSettings | None = None
    mask_shift: float = (
        0.0  # exported G: added to the logits of its mask; more keeps more of the source's pixels
    )


def load_config(path: Path) -> StageOneConfig:
    """Read a TOML file. Unknown keys, wrong types and impossible values are errors that name the key."""
    config: StageOneConfig = read_toml(StageOneConfig, path)
    for key, value, allowed, rule in _limits(config):
        if not allowed:
            raise UserError(f"{path}: {key} is {value!r}; {rule}.")
    return config


def read_toml(kind: Any, path: Path) -> Any:
    """A dataclass of that kind, filled from a TOML file. Unknown keys and wrong types are errors that name the key."""
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"No configuration at {path}.") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}.") from error
    return _build(kind, raw, "", path)


def _limits(config: StageOneConfig) -> Iterator[tuple[str, object, bool, str]]:
    """What types cannot say: key, value, whether it may be so, and the rule."""
    schedules = {"motion": config.motion.schedule}
    schedules |= {f"render[{number}]": phase.schedule for number, phase in enumerate(config.render)}
    if config.joint is not None:
        schedules["joint"] = config.joint.schedule
    for where, schedule in schedules.items():
        for name in ("samples", "batch", "learning_rate", "warmup_steps", "accumulate"):
            value = getattr(schedule, name)
            yield f"{where}.schedule.{name}", value, value > 0, "it must be greater than 0"
        ratio = schedule.final_ratio
        yield f"{where}.schedule.final_ratio", ratio, 0 <= ratio <= 1, "it must be from 0 to 1"
    for name in (
        "frames_per_clip",
        "hold_out_one_in",
        "workers",
        "window",
        "draws_per_clip",
        "sample_shards",
    ):
        value = getattr(config.data, name)
        yield f"data.{name}", value, value > 0, "it must be greater than 0"
    for number, phase in enumerate(config.render):
        share = phase.earlier_warping
        yield f"render[{number}].earlier_warping", share, 0 <= share <= 1, "it must be from 0 to 1"
        fits = phase.size % 64 == 0 and 64 <= phase.size <= 256
        yield f"render[{number}].size", phase.size, fits, "use 64, 128, 192 or 256"
    parts = "base has the joint phase alone: remove [[render]] or choose variant = 'compact'"
    yield "render", len(config.render), config.variant == "compact" or not config.render, parts
    needed = config.variant == "compact" or config.joint is not None
    yield "variant", config.variant, needed, "it is trained by the joint phase: add a [joint] table"
    if config.joint is not None:
        yield from _joint_limits(config.joint, config.variant)


def _joint_limits(joint: JointSettings, variant: str) -> Iterator[tuple[str, object, bool, str]]:
    fits = joint.size == 256 if variant == "base" else joint.size in (64, 128, 192, 256)
    rule = "base compares at 256" if variant == "base" else "use 64, 128, 192 or 256"
    yield "joint.size", joint.size, fits, rule
    for group in ("weights", "layers", "labels"):
        for name, value in dataclasses.asdict(getattr(joint, group)).items():
            yield f"joint.{group}.{name}", value, 0 <= value < math.inf, "it must be 0 or a positive number"
    two = len(joint.betas) == 2 and all(0 <= beta < 1 for beta in joint.betas)
    yield "joint.betas", joint.betas, two, "give two numbers from 0 to below 1"
    yield (
        "joint.adversarial_from",
        joint.adversarial_from,
        joint.adversarial_from >= 0,
        "it cannot be negative",
    )
    for name in ("discriminator_channels", "discriminator_pace"):
        value = getattr(joint, name)
        yield f"joint.{name}", value, value > 0, "it must be greater than 0"
    known = joint.known_motion
    yield "joint.known_motion", known, 0 <= known <= 1, "it must be from 0 to 1"
    given = joint.perceptual != "vgg19" or bool(joint.vgg19)
    yield (
        "joint.vgg19",
        joint.vgg19,
        given,
        "perceptual = 'vgg19' needs torchvision's vgg19 as safetensors here",
    )
    for name in ("labels", "layers"):
        value = getattr(joint.weights, name)
        offered = variant == "compact" or value == 0
        yield f"joint.weights.{name}", value, offered, "only compact has this term: set it to 0"


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


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
