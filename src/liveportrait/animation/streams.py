"""Reading ahead and finishing behind: one thread each, a bounded number of frames, nothing left running.

The codecs and OpenCV release Python's lock, so decoding, the networks and encoding run side by side.
Errors come out where the frames do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
DEPTH = 4  # frames in flight on each side

_END = object()


@contextmanager
def read_ahead(items: Iterable[T], depth: int = DEPTH) -> Iterator[Iterator[T]]:
    """The same items in order, at most `depth` of them made in advance by a thread.

    On leaving the block the thread has ended, and `items` may be closed.
    """
    source = iter(items)
    with ThreadPoolExecutor(1, "read-ahead") as pool:

        def ahead() -> Generator[T, None, None]:
            pending = deque(pool.submit(next, source, _END) for _ in range(depth))
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, source, _END))
                yield item  # type: ignore[misc]  # next's default is the end mark, which never gets here

        try:
            yield ahead()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def finish_behind(finish: Callable[..., None], depth: int = DEPTH) -> Iterator[Callable[..., None]]:
    """A function that has a thread call `finish` with its arguments, in order, waiting while `depth` are due.

    Leaving the block waits for the rest. The first error of `finish` is raised by a later call or on leaving;
    when the block itself fails, what is not begun is dropped.
    """
    pending: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(1, "finish-behind")

    def submit(*arguments: Any) -> None:
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
