"""The service's jobs past one machine: a Ray Serve deployment does them, as many replicas as there is work for.

The table of jobs stays the one queue. It refuses with status 429 what is too much, and what it accepted survives: a job
whose replica dies is done again by another one. No more jobs are handed over than there may be replicas, so nothing
waits inside Ray longer than a new replica takes to start.
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
from liveportrait.apps.batches.bench import Bench
from liveportrait.apps.batches.cluster import Shares, absolute
from liveportrait.apps.jobs import Job
from liveportrait.apps.server.settings import ClusterSettings, ServerSettings
from liveportrait.errors import UserError
from liveportrait.processes import cluster
from liveportrait.types import Progress

if TYPE_CHECKING:
    from liveportrait.animation.report import Report

MOST_TRIES = 3
UP_S, DOWN_S = 2.0, 120.0  # that a change of work lasts before replicas are added or taken away
_log = logging.getLogger("liveportrait.server")


class Cancelled(Exception):
    """Nobody waits for a job any more."""


class Replica:
    """A process of the cluster that does one job after the other."""

    def __init__(self, networks: LoadOptions) -> None:
        """Loads the networks. Raises `UserError`."""
        self._bench = Bench(networks)
        _ = self._bench.animator  # a replica that is ready can work
        self._thread = ThreadPoolExecutor(1, "job")

    async def do(self, job: Job) -> AsyncIterator[tuple[str, int, int | None] | Report | UserError]:
        """Do a job: the steps of its progress, then its report, or what the user should know instead.

        It stops soon after its caller does.
        """
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[tuple[str, int, int | None] | None] = asyncio.Queue()
        unwanted = threading.Event()

        def progress(*step: Any) -> None:
            if unwanted.is_set():
                raise Cancelled
            loop.call_soon_threadsafe(steps.put_nowait, step)

        work = loop.run_in_executor(self._thread, self._bench.make, job, progress)
        work.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                yield step
            try:
                yield work.result()
            except UserError as error:
                yield error
        finally:
            unwanted.set()


@dataclass(frozen=True)
class Replicas:
    """The deployment, as the service sees it."""

    most: int
    """how many jobs may run at once"""
    handle: Any
    lost: tuple[type[Exception], ...]
    """what Ray raises where a replica is gone"""

    def make(self, job: Job, progress: Progress) -> Report:
        """Have a job done, again by another replica where one is lost. Raises `UserError`, and what `progress` does."""
        for attempt in range(MOST_TRIES):
            answer = self.handle.do.remote(absolute(job))
            try:
                for message in answer:
                    if isinstance(message, UserError):
                        raise message
                    if not isinstance(message, tuple):
                        return message
                    progress(*message)
            except self.lost as error:
                _log.warning("a replica is gone, attempt %d at %s: %s", attempt + 1, job.out.name, error)
            except BaseException:
                answer.cancel()
                raise
        raise UserError(
            f"{MOST_TRIES} replicas died at this job: it takes too much memory, or a file is broken"
        )


def application_name(data: Path) -> str:
    """What Ray Serve calls the deployment of a service: one for each data folder, for several may share a cluster."""
    return f"liveportrait-{hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]}"


@contextmanager
def replicas(settings: ServerSettings, chosen: ClusterSettings) -> Iterator[Replicas]:
    """The deployment on the chosen cluster, while the block lasts.

    The data folder must have the same path on all machines. Raises `UserError` where Ray is missing or the cluster
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
                "upscale_delay_s": UP_S,
                "downscale_delay_s": DOWN_S,
            },
            ray_actor_options={"num_cpus": shares.cpus, "num_gpus": shares.gpus},
        )
        ray.serve.start(proxy_location="Disabled")  # callers come through the service
        try:
            handle = ray.serve.run(deployment.bind(networks), name=name, route_prefix=None)
            errors = ray.exceptions
            lost = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError)
            yield Replicas(shares.count, handle.options(stream=True), lost)
        finally:
            ray.serve.delete(name)
