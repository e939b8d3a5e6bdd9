"""Jobs, one per input: run in this process, in a pool of processes, or on a cluster with Ray Data."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import torch
from av.error import FFmpegError

from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import Dropped, Part, write_part
from liveportrait.data.preparation.samples import prepare_picture, prepare_video
from liveportrait.errors import UserError
from liveportrait.face import FaceAnalyzer, default_analyzer
from liveportrait.media import media_kind
from liveportrait.processes import cluster, end_with_parent

JOBS_PER_WORKER = 2  # waiting or running, for each process of a pool


@dataclass(frozen=True)
class Job:
    """One input to prepare, and where its part is stored."""

    path: str  # absolute
    key: str  # fingerprint of the content
    folder: str  # the output, absolute
    options: PrepareOptions


Work = Callable[[Job], str]


def make_part(job: Job) -> str:
    """Prepare one input, store its part and return its key.

    An input that cannot be read gives a part without samples that says so. Raises UserError if the part cannot be
    written. Each network uses one thread, so that processes do not compete and results do not depend on the number of
    cores.
    """
    with _one_thread():
        try:
            part, members = _prepared(job)
        except UserError as error:
            part, members = skipped("unreadable", str(error)), {}
        except (FFmpegError, cv2.error, ValueError, OSError, MemoryError) as error:
            part, members = skipped("failed", f"{type(error).__name__}: {error}"), {}
    write_part(Path(job.folder), job.key, part, members)
    return job.key


def skipped(reason: str, detail: str) -> Part:
    """The part of an input that gave no samples."""
    return Part("unknown", 0.0, (), (Dropped(reason, detail),))


def _prepared(job: Job) -> tuple[Part, dict[str, bytes]]:
    path = Path(job.path)
    if media_kind(path) == "image":
        return prepare_picture(path, job.key, _analyzer(), job.options)
    return prepare_video(path, job.key, _analyzer(), job.options)


@cache
def _analyzer() -> FaceAnalyzer:
    """One analyzer per process, since its networks take a second to compile."""
    return default_analyzer(threads=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_in_pool(jobs: Iterable[Job], workers: int, work: Work = make_part) -> Iterator[str]:
    """Keys of the jobs, each once it is finished. One worker is this process itself; more are spawned.

    If a process dies (a decoder crashed, memory ran out), no other job is lost: the jobs in progress are repeated one
    at a time, and the one that kills its process again is reported as dropped.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    waiting = deque(jobs)
    while waiting:
        in_progress: dict[Future[str], Job] = {}
        with _pool(min(workers, len(waiting))) as pool:
            try:
                while waiting or in_progress:
                    while waiting and len(in_progress) < JOBS_PER_WORKER * workers:
                        in_progress[pool.submit(work, waiting[0])] = waiting[0]
                        waiting.popleft()
                    done, _ = wait(in_progress, return_when=FIRST_COMPLETED)
                    for future in done:
                        key = future.result()
                        del in_progress[future]
                        yield key
            except BrokenProcessPool:
                pass
        for job in in_progress.values():
            yield _run_isolated(job, work)


def _run_isolated(job: Job, work: Work) -> str:
    """Run a job in its own process, which it may kill."""
    with _pool(1) as pool:
        try:
            return pool.submit(work, job).result()
        except BrokenProcessPool:
            detail = "its process was killed: the decoder crashed or memory ran out"
            write_part(Path(job.folder), job.key, skipped("crashed", detail), {})
            return job.key


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned: a fork of a process that has run torch and OpenCV threads can hang on their locks.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent)


def run_on_cluster(jobs: Sequence[Job], address: str) -> Iterator[str]:
    """Keys of the jobs, each once it is finished, with one CPU per job.

    `address` is that of a running Ray cluster ("auto" finds it), or "local" for one on this machine. Inputs and the
    output folder must have the same paths on all machines, and this package must be installed there. Raises UserError
    if Ray is not installed or the cluster cannot be reached.
    """
    with cluster(address, "preparing", "ray.data") as ray:
        ray.data.DataContext.get_current().enable_progress_bars = False
        # One block per input: an input is the unit of work, of retrying and of resuming.
        rows = ray.data.from_items([_to_row(job) for job in jobs], override_num_blocks=len(jobs))
        for row in rows.map(make_part_of_row, num_cpus=1).iter_rows():
            yield str(row["key"])


def make_part_of_row(row: dict[str, Any]) -> dict[str, str]:
    """`make_part` for a job in the form that Ray Data passes."""
    return {"key": make_part(Job(row["path"], row["key"], row["folder"], PrepareOptions(**row["options"])))}


def _to_row(job: Job) -> dict[str, Any]:
    return {"path": job.path, "key": job.key, "folder": job.folder, "options": asdict(job.options)}
