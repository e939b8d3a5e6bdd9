"""Other processes that work for this one, on this machine or on a cluster. Every room may import this."""

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
    """How many CUDA devices there are. Asks PyTorch, which takes seconds to import."""
    import torch

    return torch.cuda.device_count()


def obey_starter() -> None:
    """To be called first in a spawned process: it ends with the one that started it, however that ends.

    Interruptions end it silently. Whatever ends it, no unfinished file is left.
    """

    def end(number: int | None = None, frame: FrameType | None = None) -> None:
        remove_unfinished()
        os._exit(1)

    def end_with(process: BaseProcess) -> None:
        process.join()
        end()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if starter := multiprocessing.parent_process():
        threading.Thread(target=end_with, args=(starter,), daemon=True).start()


@contextmanager
def cluster(address: str, purpose: str, *libraries: str) -> Iterator[Any]:
    """A block in which this process is connected to a Ray cluster; gives the module `ray`.

    `address` is that of a running cluster ("auto" finds it), or "local" for one on this machine. `purpose` begins the
    sentence for whoever lacks Ray or one of its `libraries` ("ray.data"). Raises UserError where one is not installed
    or the cluster cannot be reached.
    """
    # A background task of Ray's would start a cluster of its own once this one is left. Ray reads it when imported.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        ray = import_module("ray")
        for library in libraries:
            import_module(library)
    except ImportError as error:
        raise UserError(
            f"{purpose} over a cluster needs Ray, which is not installed: pip install 'liveportrait[cluster]'"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster begun here; it would send them off
    try:
        quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
        ray.init(address=address, include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"the Ray cluster at {address!r} cannot be reached: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
