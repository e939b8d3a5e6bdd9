"""`liveportrait batch`: the jobs of a manifest, in parallel; finished ones are not repeated."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.progress import batch_bars
from liveportrait.errors import UserError
from liveportrait.limits import MediaLimits

if TYPE_CHECKING:
    from liveportrait.apps.batches.lanes import Lane
    from liveportrait.apps.batches.manifest import Row
    from liveportrait.apps.batches.record import Record
    from liveportrait.apps.batches.runner import Outcome
    from liveportrait.types import Progress

CORES_PER_JOB = 4  # more help one animation little (docs/notes/speed.md)


class JobsFailed(UserError):
    """Some jobs of a batch failed; all others are done."""

    status = 1


@dataclass(frozen=True)
class Batch:
    """Run every job of MANIFEST, a table of sources, drivers and options. Run it again to resume where it
    stopped."""

    manifest: Annotated[Positional[Path], arg(metavar="MANIFEST")]
    """a .csv or .jsonl file with one row per result: source, driving, kind, name and any option (see
    docs/guide/batch.md)"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """the folder to write the results to; created if it does not exist"""
    jobs: int | None = None
    """how many jobs run at once, each in its own process; by default one per GPU, or one per 4 cores without a
    GPU"""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """run the jobs on a Ray cluster: its address, auto to find it, or local to start one on this machine"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)

    def run(self) -> None:
        """Run the jobs that are not done yet, and print each result. Raises `JobsFailed`."""
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"jobs is {self.jobs}: give at least 1")
        self.limits.apply()
        from liveportrait.apps.batches.manifest import read_manifest
        from liveportrait.apps.batches.record import Record

        rows = read_manifest(self.manifest, self.out, self.networks.weights)
        with Record.open(self.out) as record:
            record.check_names(rows)
            due = [row for row in rows if not record.is_done(row)]
            if len(due) < len(rows):
                print(f"{len(rows) - len(due)} of {len(rows)} results are complete already")
            failed = self._do(due, len(rows), record)
        if failed:
            lines = [f"  line {row.line}, {row.name}: {reason}" for row, reason in failed]
            summary = f"{len(failed)} of {len(rows)} jobs failed; run the batch again to retry them"
            raise JobsFailed("\n".join([summary, *lines]))

    def _do(self, due: list[Row], total: int, record: Record) -> list[tuple[Row, str]]:
        """Run the jobs that are due; returns the failed ones with the reason, in the manifest's order."""
        from liveportrait.apps.batches.lanes import run_rows

        failed: list[tuple[Row, str]] = []
        if not due:
            return failed
        with self._lanes(len(due)) as lanes, batch_bars(total, total - len(due)) as bars:

            def begin(row: Row) -> Progress:
                record.begin(row)
                return bars.begin(row.name)

            done = total - len(due)
            for row, outcome in run_rows(due, lanes, begin):
                record.end(row, outcome)
                bars.end(row.name)
                done += 1
                show(row, outcome, f"{done}/{total}")
                if outcome.reason:
                    failed.append((row, outcome.reason))
        return sorted(failed, key=lambda each: each[0].line)

    @contextmanager
    def _lanes(self, due: int) -> Iterator[Sequence[Lane]]:
        """A block with processes for at most `due` jobs, which end with it."""
        from liveportrait.apps.batches.lanes import ProcessLane

        if self.ray is not None:
            from liveportrait.apps.batches.cluster import cluster_lanes

            with cluster_lanes(self.ray, self.jobs, due, self.networks) as lanes:
                yield lanes
            return
        with ExitStack() as stack:
            here = [ProcessLane(networks) for networks in self._shares(due)]
            for lane in here:
                stack.callback(lane.close)
            yield here

    def _shares(self, due: int) -> list[LoadOptions]:
        """The load options of each process on this machine: parallel jobs share its GPUs and cores."""
        from liveportrait.processes import cores, gpus

        devices = (
            [f"cuda:{number}" for number in range(gpus())] if self.networks.device in ("auto", "cuda") else []
        )
        count = min(self.jobs or len(devices) or max(1, cores() // CORES_PER_JOB), due)
        threads = self.networks.threads or (max(1, cores() // count) if count > 1 else None)
        own = replace(self.networks, threads=threads)
        return [
            replace(own, device=devices[number % len(devices)]) if devices else own for number in range(count)
        ]


def show(row: Row, outcome: Outcome, place: str) -> None:
    """Print how a job ended; notes go to standard error."""
    for note in outcome.notes:
        print(f"note: {row.name}: {note}", file=sys.stderr)
    if outcome.reason:
        print(f"failed {row.job.out} ({place})")
    else:
        print(f"wrote {row.job.out} ({place}){f'; {outcome.marking}' if outcome.marking else ''}")
