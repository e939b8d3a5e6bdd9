"""Jobs in parallel: each lane is a process, here or on a cluster, that runs one job at a time.

A process that dies (a decoder crashed, memory ran out) affects no other job. Its own is run once more in a new process;
if that dies too, the job has failed.
"""

from __future__ import annotations

import multiprocessing
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.batches.manifest import Row
from liveportrait.apps.batches.runner import JobRunner, Outcome
from liveportrait.apps.jobs import Job, Opening, opening_of
from liveportrait.errors import UserError
from liveportrait.processes import end_with_parent
from liveportrait.types import Progress

CRASHED = "its process died twice: memory ran out, or a decoder crashed"
TERMINATE_TIMEOUT_S = 5.0


class Died(Exception):
    """The process that ran a job is gone."""


class Lane(ABC):
    """Runs one job at a time, in its own process. Use it from one thread."""

    opening: Opening | None = None
    """what it has open, or will have after the current job"""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "lane")  # waits for the process

    def submit(self, job: Job, progress: Progress) -> Future[Outcome]:
        """Start a job; the future raises `Died`, or `UserError` if no job at all can run."""
        self.opening = opening_of(job) or self.opening
        self._start()
        return self._thread.submit(self._do, job, progress)

    def end(self) -> None:
        """Kill the process: futures raise `Died`. The next job starts a new one."""
        self.opening = None
        self._stop()

    def close(self) -> None:
        """Kill the process, and start no more."""
        self.end()
        self._thread.shutdown()

    @abstractmethod
    def _start(self) -> None:
        """Start the process unless there is one."""

    @abstractmethod
    def _do(self, job: Job, progress: Progress) -> Outcome:
        """Run a job in the process, and wait for it."""

    @abstractmethod
    def _stop(self) -> None:
        """Kill the process if there is one."""


class ProcessLane(Lane):
    """A process on this machine."""

    def __init__(self, networks: LoadOptions) -> None:
        super().__init__()
        self._networks = networks
        self._process: multiprocessing.process.BaseProcess | None = None

    def _start(self) -> None:
        if self._process:
            return
        # Spawned, since the fork of a process with threads can hang on their locks.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_worker_main, args=(theirs, self._networks), daemon=True)
        self._process.start()
        theirs.close()

    def _do(self, job: Job, progress: Progress) -> Outcome:
        try:
            self._pipe.send(job)
            while isinstance(message := self._pipe.recv(), tuple):
                progress(*message)
        except (EOFError, OSError) as error:
            raise Died from error
        if isinstance(message, UserError):
            raise message
        return message

    def _stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.join(TERMINATE_TIMEOUT_S)
            self._process.kill()
            self._process.join()
            self._process = None


def _worker_main(pipe: Connection, networks: LoadOptions) -> None:
    """The main loop of the process: receives jobs, sends their progress and outcomes."""
    end_with_parent()
    runner = JobRunner(networks)
    while True:
        job = pipe.recv()
        try:
            pipe.send(runner.attempt(job, lambda *step: pipe.send(step)))
        except UserError as error:
            pipe.send(error)


class RowQueue:
    """Rows to run, grouped by the source they open."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._groups: dict[object, deque[Row]] = {}
        for row in rows:
            # A template opens nothing that other rows could share.
            self._groups.setdefault(opening_of(row.job) or row.name, deque()).append(row)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self, lane: Lane, lanes: Sequence[Lane]) -> Row:
        """The next row for a lane: for the source it has open, or one that no lane has open, or the largest group."""
        free = self._groups.keys() - {each.opening for each in lanes}
        key: object = lane.opening
        if key not in self._groups:
            key = next((key for key in self._groups if key in free), None) or max(
                self._groups, key=lambda key: len(self._groups[key])
            )
        group = self._groups[key]
        row = group.popleft()
        if not group:
            del self._groups[key]
        return row


def run_rows(
    rows: Sequence[Row], lanes: Sequence[Lane], begin: Callable[[Row], Progress]
) -> Iterator[tuple[Row, Outcome]]:
    """Run the rows in the lanes; yields each with its outcome as soon as it is known.

    `begin` is called before each job and returns its progress function, which another thread calls. Raises `UserError`
    if no job at all can run.
    """
    waiting, idle = RowQueue(rows), deque(lanes)
    busy: dict[Future[Outcome], tuple[Lane, Row]] = {}
    died: set[str] = set()
    while waiting or busy:
        while waiting and idle:
            lane = idle.popleft()
            row = waiting.take(lane, lanes)
            busy[lane.submit(row.job, begin(row))] = lane, row
        for future in wait(busy, return_when=FIRST_COMPLETED).done:
            lane, row = busy.pop(future)
            try:
                outcome = future.result()
            except Died:
                lane.end()
                if row.name not in died:
                    died.add(row.name)
                    busy[lane.submit(row.job, begin(row))] = lane, row
                    continue
                outcome = Outcome(reason=CRASHED)
            idle.append(lane)
            yield row, outcome
