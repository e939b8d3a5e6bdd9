"""The configuration of stage two: frozen dataclasses, filled from a TOML file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from liveportrait.errors import UserError
from liveportrait.training.config import RunConfig, Schedule, read_toml
from liveportrait.training.stage_two.samplers import DriveMix


@dataclass(frozen=True)
class ReaderPhase:
    """Training of the network that reads openings from pictures (see `opening_reader`)."""

    schedule: Schedule = field(default_factory=lambda: Schedule(48_000, 64, 2e-3, weight_decay=1e-3))
    rendered: int = 1000  # pictures rendered with random openings and measured by the face mesh


@dataclass(frozen=True)
class StitchingWeights:
    """Weights of the terms of L_st."""

    outside: float = 1.0  # pixels outside the head as in the reconstruction
    still: float = 1.0  # displacement outside the head, where W tells its flow
    face: float = 0.5  # displacement of the face as without stitching, where W tells its flow
    regularity: float = 0.2  # |Δ|


@dataclass(frozen=True)
class FlowStart:
    """What S learns from W's flow alone, before it learns from pictures: a hundred times cheaper (COMPACT)."""

    schedule: Schedule = field(default_factory=lambda: Schedule(24_000, 8, 2e-3, weight_decay=0.0))
    sources: int = 1500  # prepared once
    size: int = 128  # of their pictures: W's flow there is nearly what it is at 256


@dataclass(frozen=True)
class StitchingPhase:
    """Training of S."""

    schedule: Schedule = field(default_factory=lambda: Schedule(800, 4, 5e-4, weight_decay=0.0))
    drives: int = 4  # of every source
    flow: FlowStart | None = None
    weights: StitchingWeights = field(default_factory=StitchingWeights)
    mix: DriveMix = field(default_factory=DriveMix)


@dataclass(frozen=True)
class RetargetingWeights:
    """Weights of the terms of L_eyes and L_lip."""

    outside: float = 1.0  # pixels outside the region as in the reconstruction
    condition: float = 1.0  # |c_p − c_d|, the opening re-measured on the output against the wanted one
    regularity: float = 0.2  # |Δ|


@dataclass(frozen=True)
class RetargetingPhase:
    """Training of R_eyes or R_lip."""

    schedule: Schedule
    requests: int = 3  # openings asked of every source
    highest: float = 0.8  # requests are drawn from 0 to here
    imitation: int = 600  # steps that imitate the closed-form offsets first; they render nothing
    weights: RetargetingWeights = field(default_factory=RetargetingWeights)


@dataclass(frozen=True)
class StageTwoConfig(RunConfig):
    """Stage two: stitching, eye and lip retargeting for given weights."""

    output: str = "runs/stage-two"
    average_decay: float = 0.98
    bank_clips: int = 160  # clips whose motions drive
    bank_frames: int = 8  # of each
    held_out_sources: int = 16  # sources and drives that the figures of held-out people are measured on
    held_out_drives: int = 40
    reader: ReaderPhase = field(default_factory=ReaderPhase)
    stitching: StitchingPhase = field(default_factory=StitchingPhase)
    eyes: RetargetingPhase = field(default_factory=lambda: RetargetingPhase(Schedule(1200, 4, 1e-3)))
    lips: RetargetingPhase = field(default_factory=lambda: RetargetingPhase(Schedule(1200, 4, 1e-3)))


def load_config(path: Path) -> StageTwoConfig:
    """Read a TOML file. Unknown keys, wrong types and impossible values are errors that name the key."""
    config: StageTwoConfig = read_toml(StageTwoConfig, path)
    for key, value, allowed, rule in _limits(config):
        if not allowed:
            raise UserError(f"{path}: {key} is {value!r}; {rule}.")
    return config


def _limits(config: StageTwoConfig) -> Iterator[tuple[str, object, bool, str]]:
    """What types cannot say: key, value, whether it may be so, and the rule."""
    positive = "it must be greater than 0"
    schedules = {part: getattr(config, part).schedule for part in ("reader", "stitching", "eyes", "lips")}
    if config.stitching.flow is not None:
        schedules["stitching.flow"] = config.stitching.flow.schedule
        size = config.stitching.flow.size
        yield "stitching.flow.size", size, size in (64, 128, 192, 256), "use 64, 128, 192 or 256"
        sources = config.stitching.flow.sources
        yield "stitching.flow.sources", sources, sources > 0, positive
    for part, schedule in schedules.items():
        for name in ("samples", "batch", "learning_rate", "warmup_steps"):
            value = getattr(schedule, name)
            yield f"{part}.schedule.{name}", value, value > 0, positive
    for part in ("stitching", "eyes", "lips"):
        for name, value in dataclasses.asdict(getattr(config, part).weights).items():
            yield f"{part}.weights.{name}", value, 0 <= value < math.inf, "it cannot be negative"
    for part, name in (("stitching", "drives"), ("eyes", "requests"), ("lips", "requests")):
        count = getattr(getattr(config, part), name)
        yield f"{part}.{name}", count, count > 0, positive
    for part in ("eyes", "lips"):
        highest = getattr(config, part).highest
        yield f"{part}.highest", highest, 0 < highest <= 2, "it must be above 0 and at most 2"
    mix = config.stitching.mix
    shares = (mix.relative, mix.absolute, mix.moved)
    fits = min(shares) >= 0 and mix.relative + mix.absolute <= 1 and mix.moved <= 1
    yield "stitching.mix", mix, fits, "its shares must lie from 0 to 1, relative and absolute together too"
    for name in ("bank_clips", "threads", "held_out_sources", "held_out_drives"):
        yield name, getattr(config, name), getattr(config, name) > 0, positive
    yield "bank_frames", config.bank_frames, config.bank_frames >= 2, "it must be 2 or more"
