"""Worker processes, on this machine or on a cluster. Any package may import this one."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from liveportrait.errors import UserError
from liveportrait.folders import remove_unfinished


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """How many CUDA devices there are. Imports PyTorch, which takes seconds."""
    import torch

    return torch.cuda.device_count()


def end_with_parent() -> None:
    """Called first in a spawned process: make it end when its parent does, however that ends.

    Interrupts end it silently. It never leaves an unfinished file.
    """

    def end(number: int | None = None, frame: FrameType | None = None) -> None:
        remove_unfinished()
        os._exit(1)

    def end_with(process: BaseProcess) -> None:
        process.join()
        end()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=end_with, args=(parent,), daemon=True).start()


@contextmanager
def cluster(address: str, purpose: str, *libraries: str) -> Iterator[Any]:
    """Connect this process to a Ray cluster for the length of the block; gives the module `ray`.

    `address` is that of a running cluster ("auto" finds it), or "local" for one on this machine. `purpose` starts the
    error message if Ray or one of its `libraries` ("ray.data") is not installed. Raises UserError for that, and if the
    cluster cannot be reached.
    """
    # Otherwise a background task of Ray starts a new cluster after disconnecting. Ray reads this on import.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        ray = import_module("ray")
        for library in libraries:
            import_module(library)
    except ImportError as error:
        raise UserError(
            f"{purpose} over a cluster needs Ray, which is not installed: pip install 'liveportrait[cluster]'"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here would upload them
    try:
        quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
        ray.init(address=address, include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"the Ray cluster at {address!r} cannot be reached: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
