"""Lanes on a Ray cluster. Its machines need this package installed, and the same paths for all files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.batches.lanes import Died, Lane
from liveportrait.apps.batches.runner import JobRunner, Outcome
from liveportrait.apps.jobs import Job, file_options
from liveportrait.errors import UserError
from liveportrait.processes import cluster
from liveportrait.types import Progress

CPUS_PER_JOB = 4  # by default: more help one animation little


def absolute(job: Job) -> Job:
    """The job with absolute paths."""
    named = {name: getattr(job.options, name) for name in file_options(job.kind)}
    files = {name: path.absolute() for name, path in named.items() if path}
    return replace(
        job,
        source=job.source and job.source.absolute(),
        driving=tuple(path.absolute() for path in job.driving),
        out=job.out.absolute(),
        options=replace(job.options, **files),
    )


class ClusterLane(Lane):
    """A process on a cluster, with a GPU or some CPUs to itself. Reports no progress within a job."""

    def __init__(self, ray: Any, networks: LoadOptions, cpus: int, gpus: int) -> None:
        super().__init__()
        self._ray, self._networks = ray, networks
        self._kind = ray.remote(num_cpus=cpus, num_gpus=gpus)(JobRunner)
        self._actor: Any = None

    def _start(self) -> None:
        if self._actor is None:
            self._actor = self._kind.remote(self._networks)

    def _do(self, job: Job, progress: Progress) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(self._actor.attempt.remote(absolute(job)))
        except errors.RayTaskError as error:
            raise error.cause from error  # as if raised here
        except errors.RayActorError as error:
            raise Died from error

    def _stop(self) -> None:
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None


@dataclass(frozen=True)
class Shares:
    """How a cluster is divided among processes."""

    count: int
    """number of processes"""
    cpus: int
    """CPUs per process"""
    gpus: int
    """GPUs per process: 0 or 1"""

    @classmethod
    def of(cls, ray: Any, count: int | None, limit: int | None = None) -> Shares:
        """The shares of `count` processes, by default one per GPU or per four CPUs; at most `limit`.

        Raises `UserError` if the cluster is too small.
        """
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        if count is not None and count > max(cpus, gpus):
            raise UserError(
                f"the cluster has {cpus} CPUs and {gpus} GPUs, too few for {count} jobs: ask for fewer"
            )
        count = count or gpus or max(1, cpus // CPUS_PER_JOB)
        count = min(count, limit or count)
        return cls(count, max(1, cpus // count), int(count <= gpus))


@contextmanager
def cluster_lanes(
    address: str, count: int | None, due: int, networks: LoadOptions
) -> Iterator[list[ClusterLane]]:
    """A block with lanes for at most `due` jobs: `count` of them, or by default as many as `Shares.of` gives.

    Raises `UserError` if Ray is not installed, or the cluster cannot be reached or is too small.
    """
    with cluster(address, "a batch") as ray, ExitStack() as stack:
        shares = Shares.of(ray, count, due)
        networks = replace(networks, threads=networks.threads or shares.cpus)
        lanes = [ClusterLane(ray, networks, shares.cpus, shares.gpus) for _ in range(shares.count)]
        for lane in lanes:
            stack.callback(lane.close)
        yield lanes
