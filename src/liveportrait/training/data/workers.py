"""Batches drawn beside the training: by processes of their own, in an order that does not depend on their number."""

from __future__ import annotations

import itertools
import multiprocessing
import queue
from abc import ABC, abstractmethod
from collections.abc import Callable

import cv2
import torch
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.training.data.sampling import ClipSampler, Example, Share, generator, stack

AHEAD = 6  # batches waiting, over all workers
MakeBatch = Callable[[int], Example]  # micro-batch number since the start -> its examples, stacked


class Batches(ABC):
    """An endless iterator of micro-batches; close it at the end."""

    @abstractmethod
    def __next__(self) -> dict[str, Tensor]:
        """The next micro-batch, names as in a sampler's examples."""

    def __iter__(self) -> Batches:
        return self

    @abstractmethod
    def close(self) -> None:
        """Release what draws them."""


class CorpusBatches:
    """Makes batches from a sampler's corpus."""

    def __init__(self, sampler: ClipSampler, share: Share, seed: int) -> None:
        self.sampler, self.share, self.seed = sampler, share, seed

    def __call__(self, number: int) -> Example:
        """This process's micro-batch `number`."""
        step, places = self.share.part(number)
        return stack([self.sampler(generator(self.seed, step, place)) for place in places])


class BackgroundBatches(Batches):
    """Batches made by processes of their own: worker w of W makes batches w, w + W, w + 2W and so on.

    The processes are spawned: a fork of a process that has run torch and OpenCV threads can hang on their locks.
    """

    def __init__(self, make: MakeBatch, start: int = 0, workers: int = 1) -> None:
        """`make` must be picklable; the first batch is number `start`."""
        context = multiprocessing.get_context("spawn")
        self._number = start
        # NumPy through the queues: tensors would need shared file descriptors.
        self._queues: list[multiprocessing.Queue[Example | str]] = [
            context.Queue(maxsize=max(2, AHEAD // workers)) for _ in range(workers)
        ]
        self._processes = []
        for worker, into in enumerate(self._queues):
            first = start + (worker - start) % workers
            arguments = (make, first, workers, into)
            self._processes.append(context.Process(target=_serve, args=arguments, daemon=True))
            self._processes[-1].start()

    def __next__(self) -> dict[str, Tensor]:
        worker = self._number % len(self._queues)
        while True:
            try:
                drawn = self._queues[worker].get(timeout=5)
                break
            except queue.Empty:
                if not self._processes[worker].is_alive():
                    code = self._processes[worker].exitcode
                    raise RuntimeError(
                        f"a loading process ended with status {code}; see its error above"
                    ) from None
        if isinstance(drawn, str):
            raise UserError(drawn)
        self._number += 1
        return {name: torch.from_numpy(value) for name, value in drawn.items()}

    def close(self) -> None:
        """Stop the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


def _serve(make: MakeBatch, start: int, stride: int, into: multiprocessing.Queue[Example | str]) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    into.cancel_join_thread()
    trainer = multiprocessing.parent_process()
    for number in itertools.count(start, stride):
        batch: Example | str
        try:
            batch = make(number)
        except UserError as error:
            batch = str(error)
        while True:
            try:
                into.put(batch, timeout=5)
                break
            except queue.Full:
                if trainer is not None and not trainer.is_alive():  # killed: nobody will ever take it
                    return
