"""Stages that run side by side: threads with bounded queues between them, and nothing left running.

The codecs, OpenCV, OpenVINO and PyTorch release Python's lock, so decoding, the networks and encoding overlap.
Errors come out where the items do, once: leaving a block waits for its threads and drops what is not begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from liveportrait.animation.profile import Gauge

T = TypeVar("T")
R = TypeVar("R")
DEPTH = 4  # frames in flight on each side

_END = object()


def nothing() -> None:
    """What a thread does before its first item, where it has nothing to prepare."""


@contextmanager
def read_ahead(
    items: Iterable[T], depth: int = DEPTH, gauge: Gauge | None = None, prepare: Callable[[], None] = nothing
) -> Iterator[Iterator[T]]:
    """The same items in order, at most `depth` of them made in advance by a thread that calls `prepare` first.

    On leaving the block the thread has ended, and `items` may be closed.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead", initializer=prepare) as pool:

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
def side_by_side(
    work: Callable[[T], R],
    items: Iterable[T],
    lanes: int,
    gauge: Gauge | None = None,
    prepare: Callable[[], None] = nothing,
) -> Iterator[Iterator[R]]:
    """What `work` makes of each item, in order; `lanes` threads work on an item each, and one more item waits.

    `items` are taken by the caller's thread. Each thread calls `prepare` first.
    """
    source = iter(items)
    with ThreadPoolExecutor(lanes, "lane", initializer=prepare) as pool:

        def results() -> Generator[R, None, None]:
            pending: deque[Future[R]] = deque()
            for item in source:
                if gauge:
                    gauge.see(sum(not future.done() for future in pending))
                pending.append(pool.submit(work, item))
                if len(pending) > lanes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        try:
            yield results()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def finish_behind(
    finish: Callable[..., None], depth: int = DEPTH, gauge: Gauge | None = None
) -> Iterator[Callable[..., None]]:
    """A function that has a thread call `finish` with its arguments, in order, waiting while `depth` are due.

    Leaving the block waits for the rest. The first error of `finish` is raised by a later call or on leaving;
    when the block itself fails, what is not begun is dropped.
    """
    pending: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(1, "finish-behind")

    def submit(*arguments: Any) -> None:
        if gauge:
            gauge.see(sum(not future.done() for future in pending))
        while len(pending) >= depth:
            pending.popleft().result()
        pending.append(pool.submit(finish, *arguments))

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
