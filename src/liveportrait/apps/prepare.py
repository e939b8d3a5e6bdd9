"""`liveportrait prepare`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.apps.progress import progress_bar
from liveportrait.data.preparation.options import PrepareOptions


@dataclass(frozen=True)
class Prepare:
    """Make training shards of raw videos and pictures. Interrupted, start it again: it goes on where it was."""

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """videos, pictures, folders of them, or .txt files that list them, one a line"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """folder for shards, statistics, report and contact sheet: new, empty, or of an interrupted run"""
    workers: int = 1
    """processes; each uses one core"""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """spread the work over the Ray cluster at this address (auto finds it, local starts one here)"""
    choice: OmitArgPrefixes[PrepareOptions] = field(default_factory=PrepareOptions)

    def run(self) -> None:
        """Prepare, and print what was kept and what was dropped."""
        from liveportrait.data.preparation.run import prepare  # slow to import

        with progress_bar() as progress:
            prepared = prepare(self.inputs, self.out, self.choice, self.workers, self.ray, progress)
        print(f"wrote {self.out}")
        print(prepared.summary())
