"""Jobs side by side: each lane is another process, here or on a cluster, that does one job after the other.

A process that dies (a decoder crashed, the memory was full) costs no other job. Its own is done once more in a new one;
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
from liveportrait.apps.batches.bench import Bench, Outcome
from liveportrait.apps.batches.manifest import Row
from liveportrait.apps.jobs import Job, Opening, opening_of
from liveportrait.errors import UserError
from liveportrait.processes import end_with_parent
from liveportrait.types import Progress

CRASHED = "its process was killed twice: the memory was full, or a decoder crashed"
SECONDS_TO_END = 5.0


class Died(Exception):
    """The process that did a job is gone."""


class Lane(ABC):
    """Does jobs one after the other, in a process of its own. It belongs to one thread."""

    opening: Opening | None = None
    """what it has open, or will have after the job that it does"""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "lane")  # waits for the process

    def submit(self, job: Job, progress: Progress) -> Future[Outcome]:
        """Begin a job; the future raises `Died`, or `UserError` where no job can be done."""
        self.opening = opening_of(job) or self.opening
        self._start()
        return self._thread.submit(self._do, job, progress)

    def end(self) -> None:
        """End the process, whatever it does: what waits for it raises `Died`. The next job starts another."""
        self.opening = None
        self._stop()

    def close(self) -> None:
        """End the process for good."""
        self.end()
        self._thread.shutdown()

    @abstractmethod
    def _start(self) -> None:
        """Start the process, if there is none."""

    @abstractmethod
    def _do(self, job: Job, progress: Progress) -> Outcome:
        """Have a job done, and wait for it."""

    @abstractmethod
    def _stop(self) -> None:
        """End the process, if there is one."""


class ProcessLane(Lane):
    """A process of this machine."""

    def __init__(self, networks: LoadOptions) -> None:
        super().__init__()
        self._networks = networks
        self._process: multiprocessing.process.BaseProcess | None = None

    def _start(self) -> None:
        if self._process:
            return
        # Spawned: a fork of a process that has run threads can hang on their locks.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._networks), daemon=True)
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
            self._process.join(SECONDS_TO_END)
            self._process.kill()
            self._process.join()
            self._process = None


def _work(pipe: Connection, networks: LoadOptions) -> None:
    """The life of a process: a job in, its progress and its outcome out."""
    end_with_parent()
    bench = Bench(networks)
    while True:
        job = pipe.recv()
        try:
            pipe.send(bench.do(job, lambda *step: pipe.send(step)))
        except UserError as error:
            pipe.send(error)


class Waiting:
    """Rows to be done, those that open the same source together."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._groups: dict[object, deque[Row]] = {}
        for row in rows:
            # A template opens nothing that another row could use.
            self._groups.setdefault(opening_of(row.job) or row.name, deque()).append(row)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self, lane: Lane, lanes: Sequence[Lane]) -> Row:
        """The next row for a lane: one for what it has open, or else for what no lane has, or else of the most."""
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


def spread(
    rows: Sequence[Row], lanes: Sequence[Lane], begin: Callable[[Row], Progress]
) -> Iterator[tuple[Row, Outcome]]:
    """Have the rows done by the lanes; each with its outcome as soon as it is known.

    `begin` is called before each job and gives what is told of its progress, by another thread. Raises `UserError`
    where no job can be done.
    """
    waiting, idle = Waiting(rows), deque(lanes)
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
