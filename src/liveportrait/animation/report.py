"""What an animation did and where its time went."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.profile import Profile

Stretches = tuple[tuple[int, int], ...]

FOLLOW = "follow SOURCE"
MEASURE = "measure SOURCE"
FIND = "find the face"
ANIMATE = "animate"


class Jitter(NamedTuple):
    """How much something trembles before and after smoothing, px (see `motion.JitterMeter`)."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """What was written, how long it took, and what the user should know about it."""

    out: Path
    frames: int
    fps: Fraction
    profile: Profile = field(default_factory=Profile)
    compare: Path | None = None
    held: Stretches = ()  # first and last frame of each stretch of the driver (the first one) without a face
    passed: Stretches = ()  # the same of the result: its frames went through unchanged
    cuts: tuple[int, ...] = ()  # frames of a source video at which a new scene begins
    jitter: tuple[Jitter, ...] = ()
    stitched: bool = False
    notes: tuple[str, ...] = ()

    @property
    def elapsed(self) -> float:
        """Seconds it took."""
        return self.profile.elapsed

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of work by stage; stages overlap."""
        return {name: spent.busy for name, spent in self.profile.stages.items()}

    def summary(self) -> str:
        """One line: frames, time, frames per second and the share of each stage."""
        total = sum(self.seconds.values()) or 1.0
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in self.seconds.items() if value > 0)
        return f"{count(self.frames)} in {self.elapsed:.1f} s ({self.profile.rate:.1f} frames/s): {shares}"


def held_note(held: Stretches) -> str:
    """A sentence on the frames of a driver without a face; frames count from 0."""
    return f"no face in {stretches_note(held, 'DRIVING')}: the last motion was held there"


def stretches_note(stretches: Stretches, name: str) -> str:
    """How many frames of what, and which: "3 frames of DRIVING (0, 3-4)"."""
    number = sum(last - first + 1 for first, last in stretches)
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in stretches[:10])
    more = f" and {len(stretches) - 10} more stretches" if len(stretches) > 10 else ""
    return f"{count(number)} of {name} ({shown}{more})"


def gaps(there: NDArray[np.bool_]) -> Stretches:
    """First and last index of each stretch of False in an array (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], there, [True]]).astype(np.int8)))
    return tuple((int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True))


def count(frames: int) -> str:
    """A number of frames in words: "1 frame", "7 frames"."""
    return "1 frame" if frames == 1 else f"{frames} frames"
