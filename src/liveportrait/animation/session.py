"""A session and its threads: stages run concurrently with bounded queues between them.

The codecs, OpenCV, OpenVINO and PyTorch release the GIL, so decoding, the networks and encoding overlap. Errors are
raised once, where the items come out; leaving a block waits for its threads and drops work that has not started. Each
thread calls `enter` before its first item.
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

    Holds all state that lasts as long as a rendering, so that a portrait can be driven several times at once.
    """

    def __init__(
        self, engine: Engine, analyzer: FaceAnalyzer, batch: int, progress: Progress = no_progress
    ) -> None:
        """`batch`: how many frames go through the networks together."""
        self.engine, self.analyzer, self.batch = engine, analyzer, batch
        self.clock = Stopwatch()
        self._workers = Workers()
        self._progress, self._progress_lock = progress, threading.Lock()

    def progress(self, step: str, done: int, total: int | None) -> None:
        """Report progress, one thread at a time; the callback may raise to stop the work."""
        with self._progress_lock:
            self._progress(step, done, total)

    @contextmanager
    def workers(self, batches: int) -> Iterator[None]:
        """A block in which this many batches are rendered: threads started in it share the cores."""
        with self.engine.workers(batches) as self._workers:
            try:
                yield
            finally:
                self._workers = Workers()

    def read_ahead(
        self, items: Iterable[T], queue: str | None = None, depth: int = DEPTH
    ) -> AbstractContextManager[Iterator[T]]:
        """The items in order, produced ahead by a thread; `queue` is its name in the profile."""
        gauge = self.clock.gauge(queue, depth) if queue else None
        return read_ahead(items, depth, gauge, self._workers.enter)

    def parallel_map(
        self, work: Callable[[T], R], items: Iterable[T], queue: str
    ) -> AbstractContextManager[Iterator[R]]:
        """The results of `work` in order, computed by all workers; `queue` is its name in the profile."""
        workers = self._workers
        return parallel_map(
            work, items, workers.count, self.clock.gauge(queue, workers.count + 1), workers.enter
        )

    def write_behind(
        self, write: Callable[[T], None], queue: str
    ) -> AbstractContextManager[Callable[[T], None]]:
        """A function that makes a thread call `write` with its argument; `queue` is its name in the profile."""
        return write_behind(write, DEPTH, self.clock.gauge(queue, DEPTH))


@contextmanager
def read_ahead(
    items: Iterable[T],
    depth: int = DEPTH,
    gauge: Gauge | None = None,
    enter: Callable[[], None] | None = None,
) -> Iterator[Iterator[T]]:
    """The same items in order, up to `depth` of them produced ahead by a thread.

    After the block the thread has ended, and `items` may be closed.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead", initializer=enter) as pool:

        def ahead() -> Generator[T, None, None]:
            pending = deque(pool.submit(next, source, _END) for _ in range(depth))
            while True:
                if gauge:
                    gauge.record(sum(future.done() for future in pending))
                if (item := pending.popleft().result()) is _END:
                    return
                pending.append(pool.submit(next, source, _END))
                yield item  # type: ignore[misc]  # next's default is the end mark, never yielded

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
    """The results of `work` for each item, in order; each of `workers` threads has one item, and one more is queued.

    `items` are taken by the caller's thread.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, "worker", initializer=enter) as pool:

        def results() -> Generator[R, None, None]:
            pending: deque[Future[R]] = deque()
            for item in source:
                if gauge:
                    gauge.record(sum(not future.done() for future in pending))
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
    """A function that makes a thread call `write` with its argument, in order; it waits while `depth` are pending.

    Leaving the block waits for the rest. The first error of `write` is raised by a later call or on leaving; if the
    block itself fails, pending items are dropped.
    """
    pending: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(1, "write-behind")

    def submit(item: T) -> None:
        if gauge:
            gauge.record(sum(not future.done() for future in pending))
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
