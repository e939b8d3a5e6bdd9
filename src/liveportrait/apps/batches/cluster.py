"""Lanes on a Ray cluster: this package must be installed on its machines, and files have the same paths on all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.batches.bench import Bench, Outcome
from liveportrait.apps.batches.lanes import Died, Lane
from liveportrait.apps.jobs import Job
from liveportrait.errors import UserError
from liveportrait.processes import cluster
from liveportrait.types import Progress

CPUS_A_JOB = 4  # where nobody says how many jobs: more do little for one animation


class ClusterLane(Lane):
    """A process somewhere on a cluster, with a GPU or so many CPUs to itself. Progress within a job is not told."""

    def __init__(self, ray: Any, networks: LoadOptions, cpus: int, gpus: int) -> None:
        super().__init__()
        self._ray, self._networks = ray, networks
        self._kind = ray.remote(num_cpus=cpus, num_gpus=gpus)(Bench)
        self._actor: Any = None

    def _start(self) -> None:
        if self._actor is None:
            self._actor = self._kind.remote(self._networks)

    def _do(self, job: Job, progress: Progress) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(self._actor.do.remote(job))
        except errors.RayTaskError as error:
            raise error.cause from error  # as if it were raised here
        except errors.RayActorError as error:
            raise Died from error

    def _stop(self) -> None:
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None


@contextmanager
def cluster_lanes(
    address: str, count: int | None, due: int, networks: LoadOptions
) -> Iterator[list[ClusterLane]]:
    """A block with lanes for at most `due` jobs: `count`, or one for each GPU of the cluster, or for every four CPUs.

    Raises `UserError` where Ray is not installed, the cluster cannot be reached, or it is too small.
    """
    with cluster(address, "a batch") as ray:
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        if count is not None and count > max(cpus, gpus):
            raise UserError(f"jobs is {count}, and the cluster has {cpus} CPUs and {gpus} GPUs: choose fewer")
        count = min(count or gpus or max(1, cpus // CPUS_A_JOB), due)
        on_gpus = 0 < count <= gpus
        share = max(1, cpus // count)
        threads = networks.threads or share
        lanes = [
            ClusterLane(ray, replace(networks, threads=threads), share, int(on_gpus)) for _ in range(count)
        ]
        try:
            yield lanes
        finally:
            for lane in lanes:
                lane.close()
