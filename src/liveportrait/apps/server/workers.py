"""The threads that run jobs from the table, each to its result or to a reason for failure.

A result is written under a hidden name; then its figures are recorded, it is renamed, and the job is marked done. So if
the process ends at any point, the next start finds either the result or a job to run again.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from liveportrait.apps.server.metrics import Metrics
from liveportrait.apps.server.settings import ServerSettings
from liveportrait.apps.server.store import JobStore, Record
from liveportrait.errors import UserError
from liveportrait.folders import sweep_unfinished, unfinished_beside
from liveportrait.types import Progress

if TYPE_CHECKING:
    from liveportrait.animation.report import Report

Perform = Callable[[Record, Path, Progress], "Report"]

MAX_ATTEMPTS = 3
_MAX_RETRY_S = 600
_UNWIND_S = 0.5  # that a thread gets to notice that it should stop
_log = logging.getLogger("liveportrait.server")


class Interrupted(Exception):
    """A job is stopped before its end."""


@dataclass(eq=False)
class Ticket:
    """A running job and its progress."""

    record: Record
    seconds: float
    """time limit"""
    step: str = ""
    done: int = 0
    total: int | None = None
    reason: Literal["", "cancelled", "ending", "late"] = ""
    """why it stops"""
    _began: float = field(default_factory=time.monotonic)
    _first: tuple[float, int] = (0.0, 0)  # when the step's first frames were done, and how many

    def progress(self, step: str, done: int, total: int | None) -> None:
        """Record progress. Raises `Interrupted` if the job must stop."""
        now = time.monotonic()
        if not self.reason and now - self._began > self.seconds:
            self.reason = "late"
        if self.reason:
            raise Interrupted
        if step != self.step or not self._first[0]:
            self._first = now, done
        self.step, self.done, self.total = step, done, total

    @property
    def rate(self) -> float | None:
        """Frames per second of the current step; None until it is known."""
        since, first = self._first
        return (self.done - first) / max(time.monotonic() - since, 1e-3) if self.done > first else None


class Workers:
    """A thread for each job that may run at once."""

    def __init__(
        self, settings: ServerSettings, store: JobStore, results: Path, perform: Perform, metrics: Metrics
    ) -> None:
        """`perform` runs a job and writes its result to a path; an exception ends the job."""
        self._settings, self._store, self._results = settings, store, results
        self._perform, self._metrics = perform, metrics
        self._changed = threading.Condition()
        self._running: dict[str, Ticket] = {}
        self._threads: list[threading.Thread] = []
        self._ending = False
        self._mean_s = 5.0  # moving average of a job's duration
        results.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Recover the jobs of an earlier process, and start the threads."""
        sweep_unfinished(self._results)
        for record in self._store.jobs("running"):
            if self.result(record).exists():
                self._store.end(record.id, "running", "done")
            elif record.attempts >= MAX_ATTEMPTS:
                message = f"the service ended {record.attempts} times during this job: it is not tried again"
                self._store.end(record.id, "running", "failed", message)
            else:
                self._store.change(record.id, "running", state="queued")
        for number in range(self._settings.jobs):
            thread = threading.Thread(target=self._work, name=f"job-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Say that a job was added."""
        with self._changed:
            self._changed.notify()

    def cancel(self, job: str) -> None:
        """Stop a job, after its current frames at the latest; does nothing if it has ended."""
        with self._changed:
            if ticket := self._running.get(job):
                ticket.reason = ticket.reason or "cancelled"
            elif self._store.end(job, "queued", "cancelled"):
                self._count(self._store.job(job))

    def ticket(self, job: str) -> Ticket | None:
        """The ticket of a running job."""
        return self._running.get(job)

    def result(self, record: Record, compare: bool = False) -> Path:
        """The path of a job's result, or of its comparison, once the job is done."""
        return self._results / f"{record.id}{'_compare' if compare else ''}{record.suffix}"

    @property
    def retry_s(self) -> int:
        """Seconds until a place in the queue is likely to be free."""
        return min(max(math.ceil(self._mean_s / self._settings.jobs), 1), _MAX_RETRY_S)

    def stop(self) -> None:
        """Start no more jobs; those that do not end in time return to the queue."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._join(self._settings.end_seconds)
        with self._changed:
            for ticket in self._running.values():
                ticket.reason = ticket.reason or "ending"
        self._join(_UNWIND_S)
        with self._changed:
            for ticket in self._running.values():  # do not wait for these threads
                self._put_back(ticket.record)

    def _join(self, seconds: float) -> None:
        last = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(last - time.monotonic(), 0))

    def _work(self) -> None:
        while not self._ending:
            try:
                if ticket := self._next():
                    self._process(ticket)
            except sqlite3.Error:
                if self._ending:  # the table may be closed by now
                    return
                _log.exception("cannot write to the job table")
                time.sleep(1)

    def _next(self) -> Ticket | None:
        """Wait for the next job and mark it as running; None at shutdown."""
        with self._changed:
            while not self._ending:
                if record := self._store.claim():
                    self._metrics.wait.observe(time.time() - record.created)
                    ticket = Ticket(record, self._settings.limits.job_seconds)
                    self._running[record.id] = ticket
                    return ticket
                self._changed.wait()
        return None

    def _process(self, ticket: Ticket) -> None:
        record, began = ticket.record, time.monotonic()
        try:
            report = self._run_job(ticket)
        except Exception as error:
            self._record_failure(ticket, error)
        else:
            seconds = time.monotonic() - began
            self._mean_s += (seconds - self._mean_s) / 4
            self._metrics.work.labels(record.kind).observe(seconds)
            self._metrics.count_stages(report.seconds, report.frames)
            self._store.end(record.id, "running", "done")
        finally:
            with self._changed:
                del self._running[record.id]
        self._count(self._store.job(record.id))

    def _run_job(self, ticket: Ticket) -> Report:
        """Run the job; its result then has its name, and no other file is left."""
        record = ticket.record
        with unfinished_beside(self.result(record)) as folder:
            folder.mkdir()
            report = self._perform(record, folder / f"{record.id}{record.suffix}", ticket.progress)
            known = {"frames": report.frames, "seconds": report.elapsed, "notes": report.remarks}
            self._store.change(record.id, "running", **known)
            if report.compare:
                report.compare.replace(self.result(record, compare=True))
            report.out.replace(self.result(record))
            return report

    def _record_failure(self, ticket: Ticket, error: Exception) -> None:
        """Record why a job has no result. If it was being stopped, that is the reason, whatever the error."""
        record = ticket.record
        if ticket.reason == "ending":
            self._put_back(record)
        elif ticket.reason == "cancelled":
            self._store.end(record.id, "running", "cancelled")
        elif ticket.reason == "late":
            message = f"it took longer than the limit of {self._settings.limits.job_seconds:g} s"
            self._store.end(record.id, "running", "failed", message)
        elif isinstance(error, UserError):
            self._store.end(record.id, "running", "failed", str(error))
        else:
            _log.error("job %s failed", record.id, exc_info=error)
            message = f"something went wrong in this job ({type(error).__name__}): see the service's log"
            self._store.end(record.id, "running", "failed", message)

    def _put_back(self, record: Record) -> None:
        self._store.change(record.id, "running", state="queued", attempts=record.attempts - 1)

    def _count(self, record: Record | None) -> None:
        if record and record.is_finished:
            self._metrics.jobs.labels(record.kind, record.state).inc()
