"""The division of the cores between batches of frames that go through the networks side by side.

Two batches on one core each are done sooner than the same two in turn on two cores: nothing waits at the end of every
layer, and small layers do not divide well. So batches get workers of their own wherever there is more than one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

MOST = 4  # workers: each holds the activations of a batch


@dataclass(frozen=True)
class Workers:
    """So many batches at once, on so many CPU threads each; None leaves the threads as they are."""

    count: int = 1
    threads: int | None = None

    def enter(self) -> None:
        """To be called by a thread before it runs networks. PyTorch's threads are counted for each caller."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


@contextmanager
def divided(cores: int, batches: int) -> Iterator[Workers]:
    """The workers for a number of batches on a number of CPU threads; for the length of a block.

    PyTorch keeps the last count for threads that are yet to start: afterwards it is `cores` again.
    """
    count = max(1, min(cores, batches, MOST))
    try:
        yield Workers(count, cores // count) if count > 1 else Workers()
    finally:
        if count > 1:
            torch.set_num_threads(cores)
