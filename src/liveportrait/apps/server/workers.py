"""The threads that do jobs: one after the other from the table, each to its end or to a reason why not.

A result is written under a hidden name; then what is known of it is recorded, it takes its name, and the job is done.
Whatever ends the process in between, the next start finds either the result or a job to do again.
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

MOST_ATTEMPTS = 3
_LONGEST_RETRY_S = 600
_STUCK_S = 0.5  # that a thread may take to notice that it should end
_log = logging.getLogger("liveportrait.server")


class Interrupted(Exception):
    """The work on a job stops before its end."""


@dataclass(eq=False)
class Ticket:
    """A job at work, and how far it is."""

    record: Record
    seconds: float
    """that it may take"""
    step: str = ""
    done: int = 0
    total: int | None = None
    reason: Literal["", "cancelled", "ending", "late"] = ""
    """why it stops"""
    _began: float = field(default_factory=time.monotonic)
    _first: tuple[float, int] = (0.0, 0)  # when the step's first frames were done, and how many

    def progress(self, step: str, done: int, total: int | None) -> None:
        """Note how far it is. Raises `Interrupted` where it is to stop."""
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
        """Frames a second of the step, None until it is known."""
        since, first = self._first
        return (self.done - first) / max(time.monotonic() - since, 1e-3) if self.done > first else None


class Workers:
    """As many threads as jobs may run at once."""

    def __init__(
        self, settings: ServerSettings, store: JobStore, results: Path, perform: Perform, metrics: Metrics
    ) -> None:
        """`perform` does a job and writes its result to a path; what it raises ends the job."""
        self._settings, self._store, self._results = settings, store, results
        self._perform, self._metrics = perform, metrics
        self._changed = threading.Condition()
        self._at_work: dict[str, Ticket] = {}
        self._threads: list[threading.Thread] = []
        self._ending = False
        self._mean_s = 5.0  # that a job takes
        results.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Take up what an earlier process left, and begin."""
        sweep_unfinished(self._results)
        for record in self._store.jobs("running"):
            if self.result(record).exists():
                self._store.end(record.id, "running", "done")
            elif record.attempts >= MOST_ATTEMPTS:
                told = f"the service ended {record.attempts} times at this job: it is not tried again"
                self._store.end(record.id, "running", "failed", told)
            else:
                self._store.change(record.id, "running", state="queued")
        for number in range(self._settings.jobs):
            thread = threading.Thread(target=self._work, name=f"job-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """A job was added."""
        with self._changed:
            self._changed.notify()

    def cancel(self, job: str) -> None:
        """Stop a job, at the latest after the frames that it is at; one that has ended stays as it is."""
        with self._changed:
            if ticket := self._at_work.get(job):
                ticket.reason = ticket.reason or "cancelled"
            elif self._store.end(job, "queued", "cancelled"):
                self._count(self._store.job(job))

    def ticket(self, job: str) -> Ticket | None:
        """How far a job is, while it is at work."""
        return self._at_work.get(job)

    def result(self, record: Record, compare: bool = False) -> Path:
        """Where a job's result lies once it is done, or the comparison that it was asked for."""
        return self._results / f"{record.id}{'_compare' if compare else ''}{record.suffix}"

    @property
    def retry_s(self) -> int:
        """Seconds after which a place in the queue is likely to be free."""
        return min(max(math.ceil(self._mean_s / self._settings.jobs), 1), _LONGEST_RETRY_S)

    def stop(self) -> None:
        """Begin nothing more; what is not done in time goes back to the queue."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._join(self._settings.end_seconds)
        with self._changed:
            for ticket in self._at_work.values():
                ticket.reason = ticket.reason or "ending"
        self._join(_STUCK_S)
        with self._changed:
            for ticket in self._at_work.values():  # whoever is at it still is not waited for
                self._put_back(ticket.record)

    def _join(self, seconds: float) -> None:
        last = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(last - time.monotonic(), 0))

    def _work(self) -> None:
        while not self._ending:
            try:
                if ticket := self._next():
                    self._do(ticket)
            except sqlite3.Error:
                if self._ending:  # the table may be closed by now
                    return
                _log.exception("the table of jobs cannot be written to")
                time.sleep(1)

    def _next(self) -> Ticket | None:
        """The next job, at work from now on, as soon as there is one; None at the end."""
        with self._changed:
            while not self._ending:
                if record := self._store.claim():
                    self._metrics.wait.observe(time.time() - record.created)
                    ticket = Ticket(record, self._settings.limits.job_seconds)
                    self._at_work[record.id] = ticket
                    return ticket
                self._changed.wait()
        return None

    def _do(self, ticket: Ticket) -> None:
        record, began = ticket.record, time.monotonic()
        try:
            report = self._made(ticket)
        except Exception as error:
            self._stopped(ticket, error)
        else:
            seconds = time.monotonic() - began
            self._mean_s += (seconds - self._mean_s) / 4
            self._metrics.work.labels(record.kind).observe(seconds)
            self._metrics.count_stages(report.seconds, report.frames)
            self._store.end(record.id, "running", "done")
        finally:
            with self._changed:
                del self._at_work[record.id]
        self._count(self._store.job(record.id))

    def _made(self, ticket: Ticket) -> Report:
        """Do the work; the result is under its name afterwards, and nothing else is left."""
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

    def _stopped(self, ticket: Ticket, error: Exception) -> None:
        """Note why a job came to no result. Whatever fails while it is being stopped fails because of that."""
        record = ticket.record
        if ticket.reason == "ending":
            self._put_back(record)
        elif ticket.reason == "cancelled":
            self._store.end(record.id, "running", "cancelled")
        elif ticket.reason == "late":
            told = f"it took longer than the {self._settings.limits.job_seconds:g} s that a job may run"
            self._store.end(record.id, "running", "failed", told)
        elif isinstance(error, UserError):
            self._store.end(record.id, "running", "failed", str(error))
        else:
            _log.error("job %s failed", record.id, exc_info=error)
            told = f"something went wrong at this job ({type(error).__name__}): the service's log says what"
            self._store.end(record.id, "running", "failed", told)

    def _put_back(self, record: Record) -> None:
        self._store.change(record.id, "running", state="queued", attempts=record.attempts - 1)

    def _count(self, record: Record | None) -> None:
        if record and record.is_finished:
            self._metrics.jobs.labels(record.kind, record.state).inc()
