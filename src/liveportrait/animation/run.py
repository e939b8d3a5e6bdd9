"""What the parts of one animation share."""

from __future__ import annotations

from dataclasses import dataclass, field

from liveportrait.animation.profile import Stopwatch
from liveportrait.engine import Engine
from liveportrait.face import FaceAnalyzer
from liveportrait.types import Progress, no_progress


@dataclass(frozen=True, eq=False)
class Run:
    """The tools of one animation, from its first file to its last."""

    engine: Engine
    analyzer: FaceAnalyzer
    batch: int  # frames that go through the networks together
    progress: Progress = no_progress
    clock: Stopwatch = field(default_factory=Stopwatch)
