"""A thread for work that cannot keep up: what waits is replaced by what is newer, so that nothing gets old."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_ACTIONS = 8  # that may wait: an uploaded picture is held by each


class NewestFirst(Generic[T]):
    """Calls `work(item, skipped)` in a thread for the newest item, `skipped` being how many it replaced.

    Actions run in the same thread, in their order and before the item that waits. So that results do not pile up
    where they are sent to either, there is `credit` for a number of them at first, and each takes one;
    `give_credit` gives it back.
    """

    def __init__(
        self, work: Callable[[T, int], None], failed: Callable[[Exception], None], credit: int = 1
    ) -> None:
        """`failed` is called in the thread with what `work` or an action raises; the thread goes on."""
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
        """Whether there is nothing to do until something comes."""
        with self._changed:
            return not (self._is_busy or self._actions or self._may_work())

    def put(self, item: T) -> None:
        """Hand in an item, in the place of one that still waits."""
        with self._changed:
            self._skipped += self._item is not None
            self._item = item
            self._changed.notify()

    def act(self, action: Callable[[], None]) -> bool:
        """Have the thread do something. False, and it is not done, where too much waits already."""
        with self._changed:
            if len(self._actions) >= MOST_ACTIONS:
                return False
            self._actions.append(action)
            self._changed.notify()
            return True

    def give_credit(self, results: int = 1) -> None:
        """Allow so many results more."""
        with self._changed:
            self._credit += results
            self._changed.notify()

    def close(self, timeout: float | None = None) -> bool:
        """End the thread once it is done with what it is at, and drop what waits. Whether it has ended by then."""
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
        """What to do next, once there is something; None at the end."""
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
