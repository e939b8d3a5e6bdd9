"""Batches of examples, drawn by background processes or from a corpus that resides on the device.

The order of examples does not depend on how many processes draw them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import queue
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.networks.interface import Motion
from liveportrait.training.data.augment import augment_batch
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import ClipSampler, Example, Sampler, Shot

FRAMES_PER_COPY = 512  # to a device
MAX_PREFETCHED = 6  # batches, over all workers
MakeBatch = Callable[[int], Example]  # micro-batch number since the start -> its examples, stacked


@dataclass(frozen=True)
class RankSlice:
    """The part of every joint batch that one process draws, in `accumulate` micro-batches per step.

    Example j of joint batch n depends on (seed, n, j) alone, so several processes together draw what one would.
    """

    batch: int  # examples of a joint batch
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        """Raise `UserError` for a batch that cannot be divided evenly."""
        if self.batch % (self.accumulate * self.world):
            raise UserError(
                f"A batch of {self.batch} cannot be divided among {self.world} processes with {self.accumulate} "
                f"micro-batches each: make schedule.batch a multiple of {self.world * self.accumulate}."
            )

    @property
    def size(self) -> int:
        """Examples of one micro-batch of this process."""
        return self.batch // (self.accumulate * self.world)

    def part(self, number: int) -> tuple[int, range]:
        """The joint batch, and its examples that form this process's micro-batch `number` since the start."""
        step, micro = divmod(number, self.accumulate)
        first = (micro * self.world + self.rank) * self.size
        return step, range(first, first + self.size)


def generator(seed: int, step: int, place: int) -> np.random.Generator:
    """The random generator of example `place` of joint batch `step`."""
    return np.random.default_rng((seed, step, place))


def batches(
    draw: Sampler, rank_slice: RankSlice | int, seed: int, start: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Endless micro-batches of a slice, or entire batches of the given size, from number `start`."""
    rank_slice = RankSlice(rank_slice) if isinstance(rank_slice, int) else rank_slice
    for number in itertools.count(start):
        step, places = rank_slice.part(number)
        drawn = stack([draw(generator(seed, step, place)) for place in places])
        yield {name: torch.from_numpy(value) for name, value in drawn.items()}


def stack(examples: Sequence[Example]) -> Example:
    """Examples as one batch."""
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


def pictures_of(batch: dict[str, Tensor], name: str, device: torch.device) -> Tensor:
    """Pictures (B,3,S,S), float in [0, 1], from a batch's uint8 (B,S,S,3)."""
    return batch[name].to(device).permute(0, 3, 1, 2).float().div(255)


def motion_of(batch: dict[str, Tensor], prefix: str, device: torch.device) -> Motion:
    """The labelled motion of a batch."""
    return Motion(**{name: batch[prefix + name].to(device) for name in Motion._fields})


class Batches(ABC):
    """An endless iterator of micro-batches; close it at the end."""

    @abstractmethod
    def __next__(self) -> dict[str, Tensor]:
        """The next micro-batch, with the names of a sampler's examples."""

    def __iter__(self) -> Batches:
        return self

    @abstractmethod
    def close(self) -> None:
        """Release the processes and memory that draw them."""


class CorpusBatches:
    """Makes batches from a sampler's corpus."""

    def __init__(self, sampler: ClipSampler, rank_slice: RankSlice, seed: int) -> None:
        self.sampler, self.rank_slice, self.seed = sampler, rank_slice, seed

    def __call__(self, number: int) -> Example:
        """This process's micro-batch `number`."""
        step, places = self.rank_slice.part(number)
        return stack([self.sampler(generator(self.seed, step, place)) for place in places])


class BackgroundBatches(Batches):
    """Batches from worker processes: worker w of W makes batches w, w + W, w + 2W and so on.

    The processes are spawned: a fork of a process that has run torch and OpenCV threads can hang on their locks.
    """

    def __init__(self, make: MakeBatch, start: int = 0, workers: int = 1) -> None:
        """`make` must be picklable; the first batch is number `start`."""
        context = multiprocessing.get_context("spawn")
        self._number = start
        # NumPy arrays go through the queues: tensors would need shared file descriptors.
        self._queues: list[multiprocessing.Queue[Example | str]] = [
            context.Queue(maxsize=max(2, MAX_PREFETCHED // workers)) for _ in range(workers)
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
                if trainer is not None and not trainer.is_alive():  # killed: nobody will ever take the batch
                    return


class ResidentCorpus:
    """All frames (N,256,256,3) uint8, landmarks and motions of a corpus on a device: 0.2 MB per frame."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self.corpus, self.device = corpus, device
        self.frames = torch.empty(corpus.frames.shape, dtype=torch.uint8, device=device)
        for first in range(0, len(corpus.frames), FRAMES_PER_COPY):
            chunk = np.ascontiguousarray(corpus.frames[first : first + FRAMES_PER_COPY])
            self.frames[first : first + FRAMES_PER_COPY] = torch.from_numpy(chunk.copy()).to(device)
        self.landmarks = torch.from_numpy(corpus.landmarks).to(device)
        self.motion = corpus.motion.to(device)

    def augment_batch(self, shots: Sequence[Shot], size: int) -> dict[str, Tensor]:
        """Pictures (B,size,size,3) uint8 and motions of planned frames, with the names of a sampler's examples."""
        rows = [int(self.corpus.starts[shot.clip]) + shot.frame for shot in shots]
        changes = [shot.change for shot in shots]
        frames, landmarks, motion = self.frames[rows], self.landmarks[rows], self.motion.rows(rows)
        pictures, motion = augment_batch(frames, landmarks, motion, changes, size)
        return {"picture": pictures, **motion._asdict()}


class ResidentBatches(Batches):
    """The batches that `BackgroundBatches` would make, up to rounding, from a resident corpus.

    Frames and changes are planned on the CPU from (seed, step, place), in about 0.1 ms per example.
    """

    def __init__(
        self, sampler: ClipSampler, rank_slice: RankSlice, seed: int, start: int, device: torch.device
    ) -> None:
        self.sampler, self.rank_slice, self.seed, self.number = sampler, rank_slice, seed, start
        self.resident = ResidentCorpus(sampler.corpus, device)

    def __next__(self) -> dict[str, Tensor]:
        step, places = self.rank_slice.part(self.number)
        plans = [
            self.sampler.plan(self.sampler.corpus, generator(self.seed, step, place)) for place in places
        ]
        self.number += 1
        return {
            prefix + name: value
            for prefix in plans[0]
            for name, value in self.resident.augment_batch(
                [plan[prefix] for plan in plans], self.sampler.size
            ).items()
        }

    def close(self) -> None:
        """Nothing to release: no process runs in the background."""
