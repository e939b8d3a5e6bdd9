"""The tools of one piece of work, and its threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from liveportrait.animation.profile import Stopwatch
from liveportrait.animation.threads import DEPTH, parallel_map, read_ahead, write_behind
from liveportrait.engine import Engine
from liveportrait.engine.workers import Workers
from liveportrait.face import FaceAnalyzer
from liveportrait.types import Progress, no_progress

T = TypeVar("T")
R = TypeVar("R")


class Session:
    """One opening of a source or one rendering, from its first frame to its last.

    Everything that is counted or set for the length of a rendering is kept here, so that a portrait may be driven
    several times at once.
    """

    def __init__(
        self, engine: Engine, analyzer: FaceAnalyzer, batch: int, progress: Progress = no_progress
    ) -> None:
        """`batch`: how many frames go through the networks together."""
        self.engine, self.analyzer, self.batch, self.progress = engine, analyzer, batch, progress
        self.clock = Stopwatch()
        self._workers = Workers()

    @contextmanager
    def workers(self, batches: int) -> Iterator[None]:
        """A block in which so many batches are rendered: threads that begin in it share the cores."""
        with self.engine.workers(batches) as self._workers:
            try:
                yield
            finally:
                self._workers = Workers()

    def read_ahead(
        self, items: Iterable[T], queue: str | None = None, depth: int = DEPTH
    ) -> AbstractContextManager[Iterator[T]]:
        """The items in order, made in advance by a thread; `queue` names it in the profile."""
        gauge = self.clock.gauge(queue, depth) if queue else None
        return read_ahead(items, depth, gauge, self._workers.enter)

    def parallel_map(
        self, work: Callable[[T], R], items: Iterable[T], queue: str
    ) -> AbstractContextManager[Iterator[R]]:
        """The results of `work` in order, as many at once as there are workers; `queue` names it in the profile."""
        workers = self._workers
        return parallel_map(
            work, items, workers.count, self.clock.gauge(queue, workers.count + 1), workers.enter
        )

    def write_behind(
        self, write: Callable[[T], None], queue: str
    ) -> AbstractContextManager[Callable[[T], None]]:
        """A function that has a thread call `write` with its argument; `queue` names it in the profile."""
        return write_behind(write, DEPTH, self.clock.gauge(queue, DEPTH))
