"""A thread for work that cannot keep up with its input: a newer item replaces the one that waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_ACTIONS = 8  # in the queue: each may hold an uploaded picture


class NewestFirst(Generic[T]):
    """Calls `work(item, skipped)` in a thread for the newest item, which replaced `skipped` others.

    Actions run in the same thread, in order and before the waiting item. So that results do not pile up at the
    receiver either, each item uses up one of `credit` credits; `give_credit` returns them.
    """

    def __init__(
        self, work: Callable[[T, int], None], failed: Callable[[Exception], None], credit: int = 1
    ) -> None:
        """`failed` is called in the thread with any exception of `work` or an action; the thread continues."""
        self._work, self._failed = work, failed
        self._item: T | None = None
        self._skipped = 0
        self._credit = credit
        self._actions: deque[Callable[[], None]] = deque()
        self._is_busy = self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether the thread is waiting for input."""
        with self._changed:
            return not (self._is_busy or self._actions or self._may_work())

    def put(self, item: T) -> None:
        """Submit an item, replacing one that still waits."""
        with self._changed:
            self._skipped += self._item is not None
            self._item = item
            self._changed.notify()

    def enqueue(self, action: Callable[[], None]) -> bool:
        """Queue an action for the thread; returns False, and drops it, if the queue is full."""
        with self._changed:
            if len(self._actions) >= MAX_ACTIONS:
                return False
            self._actions.append(action)
            self._changed.notify()
            return True

    def give_credit(self, results: int = 1) -> None:
        """Allow `results` more items."""
        with self._changed:
            self._credit += results
            self._changed.notify()

    def close(self, timeout: float | None = None) -> bool:
        """End the thread after its current step and drop what waits; returns whether it ended within `timeout` (s)."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (step := self._next()) is not None:
            try:
                step()
            except Exception as error:
                self._failed(error)

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next step; None when closing."""
        with self._changed:
            self._is_busy = False
            self._changed.wait_for(lambda: self._is_closing or self._actions or self._may_work())
            if self._is_closing:
                return None
            self._is_busy = True
            if self._actions:
                return self._actions.popleft()
            item, skipped = self._item, self._skipped
            assert item is not None
            self._item, self._skipped = None, 0
            self._credit -= 1
        return lambda: self._work(item, skipped)

    def _may_work(self) -> bool:
        return self._item is not None and self._credit > 0
