"""The configuration of stage two: frozen dataclasses, filled from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from liveportrait.training.config import LossWeights, RunConfig, Schedule, check, check_positive, read_toml
from liveportrait.training.stage_two.samplers import DriveMix


@dataclass(frozen=True)
class OpeningSettings:
    """Training of the network that measures openings on pictures (see `opening_regressor`)."""

    schedule: Schedule = field(default_factory=lambda: Schedule(48_000, 64, 2e-3, weight_decay=1e-3))
    rendered: int = 1000  # pictures to render with random openings and measure by the face mesh


@dataclass(frozen=True)
class StitchingWeights(LossWeights):
    """Weights of the terms of L_st."""

    outside: float = 1.0  # pixels outside the head must match the reconstruction
    still: float = 1.0  # displacement outside the head, if W has a flow
    face: float = 0.5  # displacement of the face must match that without stitching, if W has a flow
    regularity: float = 0.2  # |Δ|


@dataclass(frozen=True)
class FlowStart:
    """First training of S, from W's flow alone, which is a hundred times cheaper than from pictures (COMPACT)."""

    schedule: Schedule = field(default_factory=lambda: Schedule(24_000, 8, 2e-3, weight_decay=0.0))
    sources: int = 1500  # prepared once
    size: int = 128  # px of their pictures, at which W's flow is nearly the same as at 256

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check("size", self.size, self.size in (64, 128, 192, 256), "use 64, 128, 192 or 256")
        check_positive(self, "sources")


@dataclass(frozen=True)
class StitchingSettings:
    """Training of S."""

    schedule: Schedule = field(default_factory=lambda: Schedule(800, 4, 5e-4, weight_decay=0.0))
    drives: int = 4  # per source
    flow: FlowStart | None = None
    weights: StitchingWeights = field(default_factory=StitchingWeights)
    mix: DriveMix = field(default_factory=DriveMix)

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check_positive(self, "drives")


@dataclass(frozen=True)
class RetargetingWeights(LossWeights):
    """Weights of the terms of L_eyes and L_lip."""

    outside: float = 1.0  # pixels outside the region must match the reconstruction
    condition: float = 1.0  # |c_p − c_d|, the opening measured on the output against the requested one
    regularity: float = 0.2  # |Δ|


@dataclass(frozen=True)
class RetargetingSettings:
    """Training of R_eyes or R_lip."""

    schedule: Schedule
    requests: int = 3  # requested openings per source
    highest: float = 0.8  # requests are drawn between 0 and this
    closed_form_steps: int = 600  # first steps, which learn the closed-form offsets without rendering
    weights: RetargetingWeights = field(default_factory=RetargetingWeights)

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check_positive(self, "requests")
        check("highest", self.highest, 0 < self.highest <= 2, "it must be above 0 and at most 2")


@dataclass(frozen=True)
class StageTwoConfig(RunConfig):
    """Stage two: stitching, eye and lip retargeting for given weights."""

    output: str = "runs/stage-two"
    average_decay: float = 0.98
    bank_clips: int = 160  # clips that driving motions come from
    bank_frames: int = 8  # per clip
    held_out_sources: int = 16  # for the held-out figures of retargeting
    held_out_drives: int = 40  # for the held-out figures of stitching
    reader: OpeningSettings = field(default_factory=OpeningSettings)
    stitching: StitchingSettings = field(default_factory=StitchingSettings)
    eyes: RetargetingSettings = field(default_factory=lambda: RetargetingSettings(Schedule(1200, 4, 1e-3)))
    lips: RetargetingSettings = field(default_factory=lambda: RetargetingSettings(Schedule(1200, 4, 1e-3)))

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        super().__post_init__()
        check_positive(self, "bank_clips", "held_out_sources", "held_out_drives")
        check("bank_frames", self.bank_frames, self.bank_frames >= 2, "it must be 2 or more")


def load_config(path: Path) -> StageTwoConfig:
    """Read a TOML file. Raises `UserError`, naming the key, for unknown keys, wrong types and impossible values."""
    return read_toml(StageTwoConfig, path)
