"""`liveportrait train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Train:
    """Train networks from shards of videos and pictures."""

    stage: Annotated[Positional[Literal["stage-one"]], arg(metavar="STAGE")]
    """stage-one: F, M, W and G"""
    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    part: Literal["all", "motion", "render", "export"] = "all"
    """a part of the stage alone"""
    output: Path | None = None
    """folder of the run; the configuration's by default"""

    def run(self) -> None:
        """Train to the configuration's end; started again, go on from the last checkpoint."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training import stage_one  # slow to import

        stage_one.run(config, self.part, None if self.output is None else str(self.output))
