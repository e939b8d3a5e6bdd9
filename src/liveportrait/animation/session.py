"""The tools of one piece of work, and its threads: stages run side by side with bounded queues between them.

The codecs, OpenCV, OpenVINO and PyTorch release Python's lock, so decoding, the networks and encoding overlap.
Errors come out where the items do, once: leaving a block waits for its threads and drops what is not begun.
`enter` is called by each thread before its first item.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TypeVar

from liveportrait.animation.report import Gauge, Stopwatch
from liveportrait.engine import Engine
from liveportrait.engine.engine import Workers
from liveportrait.face import FaceAnalyzer
from liveportrait.types import Progress, no_progress

T = TypeVar("T")
R = TypeVar("R")

DEPTH = 4  # frames in flight on each side

_END = object()


class Session:
    """One opening of a source or one rendering, from its first frame to its last.

    Everything that is counted or set for the length of a rendering is kept here, so that a portrait may be driven
    several times at once.
    """

    def __init__(
        self, engine: Engine, analyzer: FaceAnalyzer, batch: int, progress: Progress = no_progress
    ) -> None:
        """`batch`: how many frames go through the networks together."""
        self.engine, self.analyzer, self.batch = engine, analyzer, batch
        self.clock = Stopwatch()
        self._workers = Workers()
        self._progress, self._telling = progress, threading.Lock()

    def progress(self, step: str, done: int, total: int | None) -> None:
        """Tell how far it is, one thread at a time; whoever is told may raise, and so stop the work."""
        with self._telling:
            self._progress(step, done, total)

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


@contextmanager
def read_ahead(
    items: Iterable[T],
    depth: int = DEPTH,
    gauge: Gauge | None = None,
    enter: Callable[[], None] | None = None,
) -> Iterator[Iterator[T]]:
    """The same items in order, at most `depth` of them made in advance by a thread.

    On leaving the block the thread has ended, and `items` may be closed.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead", initializer=enter) as pool:

        def ahead() -> Generator[T, None, None]:
            pending = deque(pool.submit(next, source, _END) for _ in range(depth))
            while True:
                if gauge:
                    gauge.see(sum(future.done() for future in pending))
                if (item := pending.popleft().result()) is _END:
                    return
                pending.append(pool.submit(next, source, _END))
                yield item  # type: ignore[misc]  # next's default is the end mark, which never gets here

        try:
            yield ahead()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def parallel_map(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    gauge: Gauge | None = None,
    enter: Callable[[], None] | None = None,
) -> Iterator[Iterator[R]]:
    """The results of `work` for each item, in order; `workers` threads work on an item each, and one more waits.

    `items` are taken by the caller's thread.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, "worker", initializer=enter) as pool:

        def results() -> Generator[R, None, None]:
            pending: deque[Future[R]] = deque()
            for item in source:
                if gauge:
                    gauge.see(sum(not future.done() for future in pending))
                pending.append(pool.submit(work, item))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        try:
            yield results()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def write_behind(
    write: Callable[[T], None], depth: int = DEPTH, gauge: Gauge | None = None
) -> Iterator[Callable[[T], None]]:
    """A function that has a thread call `write` with its argument, in order, waiting while `depth` are due.

    Leaving the block waits for the rest. The first error of `write` is raised by a later call or on leaving; when the
    block itself fails, what is not begun is dropped.
    """
    pending: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(1, "write-behind")

    def submit(item: T) -> None:
        if gauge:
            gauge.see(sum(not future.done() for future in pending))
        while len(pending) >= depth:
            pending.popleft().result()
        pending.append(pool.submit(write, item))

    try:
        yield submit
        while pending:
            pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one possibly shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
