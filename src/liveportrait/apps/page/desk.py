"""The desk behind the page: one animator, one queue for long work, and what each visitor has open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from liveportrait.apps.jobs import Job, run_job
from liveportrait.apps.page.visitors import Visitors

if TYPE_CHECKING:
    from collections.abc import Callable

    from liveportrait.animation.animator import Animator
    from liveportrait.animation.report import Report


class Cancelled(Exception):
    """The visitor does not want it any more."""


@dataclass(eq=False)
class Ticket:
    """A job in the queue."""

    job: Job
    step: str = ""
    done: int = 0
    total: int | None = None
    since: float = 0.0  # when the step's first frames were done
    first_done: int | None = None  # how many these were
    cancelled: bool = False
    started: bool = False
    future: Future[Report] = field(default_factory=Future)

    def progress(self, step: str, done: int, total: int | None) -> None:
        """Note how far it is. Raises `Cancelled`."""
        if self.cancelled:
            raise Cancelled
        if step != self.step:
            self.step, self.first_done = step, None
        if self.first_done is None and done:
            self.since, self.first_done = time.monotonic(), done
        self.done, self.total = done, total

    def cancel(self) -> None:
        self.cancelled = True
        self.future.cancel()

    def close(self) -> None:
        self.cancel()


class Desk:
    def __init__(self, load: Callable[[], Animator], folder: Path) -> None:
        self._load, self._lock = load, threading.Lock()
        self._animator: Animator | None = None
        self._pool = ThreadPoolExecutor(1, "job")
        self._waiting: list[Ticket] = []
        self.visitors = Visitors(folder)

    @property
    def animator(self) -> Animator:
        with self._lock:
            self._animator = self._animator or self._load()
            return self._animator

    def submit(self, job: Job) -> Ticket:
        ticket = Ticket(job)

        def work() -> Report:
            ticket.started = True
            ticket.progress("", 0, None)
            return run_job(self.animator, job, ticket.progress)

        ticket.future = self._pool.submit(work)
        self._waiting.append(ticket)
        return ticket

    def place(self, ticket: Ticket) -> int:
        """How many are before it."""
        self._waiting = [each for each in self._waiting if not each.future.done()]
        return self._waiting.index(ticket) if ticket in self._waiting else 0

    def close(self) -> None:
        self.visitors.close()
        self._pool.shutdown(cancel_futures=True)
