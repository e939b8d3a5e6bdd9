"""Reading ahead, working in parallel and writing behind: order, bounds, errors, and nothing left running."""

from __future__ import annotations

import threading
import time

import pytest

from liveportrait.animation.report import Gauge
from liveportrait.animation.session import batches, parallel_map, read_ahead, write_behind

NAMES = ("read-ahead", "write-behind", "worker")


def helper_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(NAMES)]


def test_items_come_in_order_and_at_most_depth_ahead():
    made: list[int] = []

    def items():
        for index in range(50):
            made.append(index)
            yield index

    seen = []
    with read_ahead(items(), depth=3) as ahead:
        for item in ahead:
            seen.append(item)
            time.sleep(0.001)
            assert len(made) <= len(seen) + 4
    assert seen == list(range(50)) and helper_threads() == []


def test_a_source_error_is_raised_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="disk"), read_ahead(items()) as ahead:
        for item in ahead:
            seen.append(item)
    assert seen == [1, 2] and helper_threads() == []


def test_leaving_early_ends_the_reader_before_the_source_is_closed():
    closed_while_running = []

    def items():
        try:
            while True:
                yield 0
        finally:
            closed_while_running.append(bool(helper_threads()))

    source = items()
    with pytest.raises(KeyboardInterrupt), read_ahead(source) as ahead:
        next(ahead)
        raise KeyboardInterrupt
    source.close()
    assert closed_while_running == [False]


def test_writes_finish_in_order_before_the_block_ends():
    done = []

    def slow(item):
        time.sleep(0.001)
        done.append(item)

    with write_behind(slow, depth=2) as submit:
        for index in range(20):
            submit(index)
            assert index - len(done) <= 3
    assert done == list(range(20)) and helper_threads() == []


def test_a_write_error_reaches_the_caller():
    def fail(item):
        raise OSError(f"item {item}")

    with pytest.raises(OSError, match="item 0"), write_behind(fail) as submit:
        for index in range(20):
            submit(index)
    assert helper_threads() == []


def test_an_error_of_the_last_item_is_not_lost():
    def fail_late(item):
        if item == 3:
            raise OSError("too late")

    with pytest.raises(OSError, match="too late"), write_behind(fail_late, depth=8) as submit:
        for index in range(4):
            submit(index)


def test_workers_run_in_parallel_and_results_keep_their_order():
    both = threading.Barrier(2, timeout=120)
    taken, seen = [], []

    def items():
        for index in range(20):
            taken.append(index)
            yield index

    def work(item):
        both.wait()  # passes only while two threads are at work
        return -item

    with parallel_map(work, items(), 2) as results:
        for result in results:
            seen.append(result)
            assert len(taken) <= len(seen) + 2
    assert seen == [-index for index in range(20)] and helper_threads() == []


def test_a_workers_error_is_raised_in_order():
    entered, seen = [], []

    def work(item):
        if item == 3:
            raise OSError("no memory")
        return item

    with (
        pytest.raises(OSError, match="memory"),
        parallel_map(work, range(100), 3, enter=lambda: entered.append(1)) as results,
    ):
        for result in results:
            seen.append(result)
    assert seen == [0, 1, 2] and 1 <= len(entered) <= 3 and helper_threads() == []


def test_gauges_show_which_stage_waits():
    behind, ahead = Gauge(2), Gauge(3)
    with write_behind(lambda item: time.sleep(0.01), 2, behind) as submit:
        for index in range(10):
            submit(index)
    assert behind.seen == 10 and behind.full >= 5
    made = []
    with read_ahead((made.append(index) or index for index in range(10)), 3, ahead) as items:
        for index in items:
            while len(made) < min(index + 4, 10):  # until the reader is ahead
                time.sleep(0.001)
    assert ahead.seen == 11 and ahead.total / ahead.seen > 1


def test_the_last_batch_may_be_shorter():
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
