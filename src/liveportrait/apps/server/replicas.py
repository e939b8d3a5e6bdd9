"""Runs the service's jobs on several machines: a Ray Serve deployment that scales its replicas with the load.

The job table remains the only queue. It refuses excess jobs with status 429, and accepted jobs survive: if a replica
dies, another one runs its job again. At most as many jobs are handed over as there may be replicas, so nothing waits
inside Ray longer than a new replica takes to start.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.batches.cluster import Shares, absolute
from liveportrait.apps.batches.runner import JobRunner
from liveportrait.apps.jobs import Job
from liveportrait.apps.server.settings import ClusterSettings, ServerSettings
from liveportrait.errors import UserError
from liveportrait.processes import cluster
from liveportrait.types import Progress

if TYPE_CHECKING:
    from liveportrait.animation.report import Report

MAX_ATTEMPTS = 3
UPSCALE_DELAY_S, DOWNSCALE_DELAY_S = 2.0, 120.0  # how long the load must have changed before replicas do
_log = logging.getLogger("liveportrait.server")


class Cancelled(Exception):
    """Nobody is waiting for the job any more."""


class Replica:
    """A process on the cluster that runs one job at a time."""

    def __init__(self, networks: LoadOptions) -> None:
        """Load the networks. Raises `UserError`."""
        self._runner = JobRunner(networks)
        _ = self._runner.animator  # loaded now: a replica that is ready can work
        self._thread = ThreadPoolExecutor(1, "job")

    async def run(self, job: Job) -> AsyncIterator[tuple[str, int, int | None] | Report | UserError]:
        """Run a job: yields its progress, and finally its report or the error to show the user.

        Stops soon after the caller does.
        """
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[tuple[str, int, int | None] | None] = asyncio.Queue()
        cancelled = threading.Event()

        def progress(*step: Any) -> None:
            if cancelled.is_set():
                raise Cancelled
            loop.call_soon_threadsafe(steps.put_nowait, step)

        work = loop.run_in_executor(self._thread, self._runner.run, job, progress)
        work.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            try:
                yield work.result()
            except UserError as error:
                yield error
        finally:
            cancelled.set()


@dataclass(frozen=True)
class Replicas:
    """The deployment, as the service sees it."""

    most: int
    """how many jobs may run at once"""
    handle: Any
    lost: tuple[type[Exception], ...]
    """the errors Ray raises when a replica is gone"""

    def make(self, job: Job, progress: Progress) -> Report:
        """Run a job, on another replica if the first is lost. Raises `UserError`, and whatever `progress` raises."""
        for attempt in range(MAX_ATTEMPTS):
            answer = self.handle.run.remote(absolute(job))
            try:
                for message in answer:
                    if isinstance(message, UserError):
                        raise message
                    if not isinstance(message, tuple):
                        return message
                    progress(*message)
            except self.lost as error:
                _log.warning("lost a replica in attempt %d at %s: %s", attempt + 1, job.out.name, error)
            except BaseException:
                answer.cancel()
                raise
        raise UserError(
            f"{MAX_ATTEMPTS} replicas died on this job: it needs too much memory, or a file is broken"
        )


def application_name(data: Path) -> str:
    """The name of a service's Ray Serve deployment: one per data folder, since several may share a cluster."""
    return f"liveportrait-{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]}"


@contextmanager
def replicas(settings: ServerSettings, chosen: ClusterSettings) -> Iterator[Replicas]:
    """Keep a deployment on the given cluster for the duration of the block.

    The data folder must have the same path on all machines. Raises `UserError` if Ray is missing, or the cluster
    cannot be reached or is too small.
    """
    with cluster(chosen.address, "the service", "ray.serve") as ray:
        shares = Shares.of(ray, chosen.replicas)
        networks = replace(settings.networks, threads=settings.networks.threads or shares.cpus)
        name = application_name(settings.data)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        deployment = ray.serve.deployment(
            Replica,
            name="Replica",
            max_ongoing_requests=1,
            autoscaling_config={
                "min_replicas": min(chosen.idle_replicas, shares.count),
                "max_replicas": shares.count,
                "target_ongoing_requests": 1,
                "upscale_delay_s": UPSCALE_DELAY_S,
                "downscale_delay_s": DOWNSCALE_DELAY_S,
            },
            ray_actor_options={"num_cpus": shares.cpus, "num_gpus": shares.gpus},
        )
        ray.serve.start(proxy_location="Disabled")  # only the service calls it
        try:
            handle = ray.serve.run(deployment.bind(networks), name=name, route_prefix=None)
            errors = ray.exceptions
            lost = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError)
            yield Replicas(shares.count, handle.options(stream=True), lost)
        finally:
            ray.serve.delete(name)
