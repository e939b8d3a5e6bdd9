"""Stages that run side by side: threads with bounded queues between them, and nothing left running.

The codecs, OpenCV, OpenVINO and PyTorch release Python's lock, so decoding, the networks and encoding overlap.
Errors come out where the items do, once: leaving a block waits for its threads and drops what is not begun.
`enter` is called by each thread before its first item.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from liveportrait.animation.profile import Gauge

T = TypeVar("T")
R = TypeVar("R")
DEPTH = 4  # frames in flight on each side

_END = object()


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
