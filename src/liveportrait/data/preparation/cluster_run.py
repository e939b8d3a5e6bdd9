"""Jobs shared out over a cluster by Ray Data; the work on an input is the same function as on one machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.work import Job, make_part
from liveportrait.errors import UserError

LOCAL = "local"


def run_on_cluster(jobs: Sequence[Job], address: str) -> Iterator[str]:
    """Keys of the jobs, each as it is finished, one CPU for each job.

    `address` is that of a running Ray cluster ("auto" finds it), or "local" for one on this machine. Inputs and the
    output folder must have the same paths on all machines, and this package must be installed there.
    Raises UserError where Ray is not installed or the cluster cannot be reached.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            "Preparing over a cluster needs Ray Data, which is not installed: pip install 'liveportrait[ray]'"
        ) from error
    try:
        ray.init(address=None if address == LOCAL else address, include_dashboard=False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"The Ray cluster at {address!r} cannot be reached: {error}") from error
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        # A block for each input: an input is the unit of work, of retrying and of resuming.
        rows = ray.data.from_items([_to_row(job) for job in jobs], override_num_blocks=len(jobs))
        for row in rows.map(make_part_of_row, num_cpus=1).iter_rows():
            yield str(row["key"])
    finally:
        ray.shutdown()


def make_part_of_row(row: dict[str, Any]) -> dict[str, str]:
    """`make_part` on a job as Ray Data carries it."""
    return {"key": make_part(Job(row["path"], row["key"], row["folder"], PrepareOptions(**row["options"])))}


def _to_row(job: Job) -> dict[str, Any]:
    return {"path": job.path, "key": job.key, "folder": job.folder, "options": asdict(job.options)}
