"""Jobs shared out among the processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from liveportrait.data.preparation.parts import write_part
from liveportrait.data.preparation.work import Job, make_part, skipped

QUEUED = 2  # jobs waiting or running, for each process

Work = Callable[[Job], str]


def run_in_pool(jobs: Iterable[Job], workers: int, work: Work = make_part) -> Iterator[str]:
    """Keys of the jobs, each as it is finished. One worker is this process itself; more are spawned.

    A process that dies (a decoder crashed, the memory was full) costs no other job: the jobs that were under way are
    done again one at a time, and the one that kills its process again is reported as dropped.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    waiting = deque(jobs)
    while waiting:
        under_way: dict[Future[str], Job] = {}
        with _pool(min(workers, len(waiting))) as pool:
            try:
                while waiting or under_way:
                    while waiting and len(under_way) < QUEUED * workers:
                        under_way[pool.submit(work, waiting[0])] = waiting[0]
                        waiting.popleft()
                    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        key = future.result()
                        del under_way[future]
                        yield key
            except BrokenProcessPool:
                pass
        for job in under_way.values():
            yield _alone(job, work)


def _alone(job: Job, work: Work) -> str:
    """Do a job in a process of its own, which it may kill."""
    with _pool(1) as pool:
        try:
            return pool.submit(work, job).result()
        except BrokenProcessPool:
            detail = "its process was killed: the decoder crashed or the memory was full"
            write_part(Path(job.folder), job.key, skipped("crashed", detail), {})
            return job.key


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned: a fork of a process that has run torch and OpenCV threads can hang on their locks.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_process)


def _prepare_process() -> None:
    """Ends this process with the one that started it, however that ends; interruptions end it silently."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))
    starter = multiprocessing.parent_process()
    assert starter is not None

    def follow() -> None:
        starter.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
