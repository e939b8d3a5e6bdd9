"""Clips from shards too large for memory and disk: read in sequence, held for a while, and drawn from.

A reader (one worker of one process) gets its own part of the shards of every epoch, in an order shuffled by
(seed, epoch), and reads them one after the other. It holds the last `window` clips; for every clip that enters,
`draws_per_clip` examples are drawn from those held. The clips held for an example thus follow from its number alone: a
resumed run reads one window again and continues exactly. The window bounds the memory, to about 6 MB per clip of 32
frames.

Clips are lifted one at a time, with the effect of blendshapes measured once on a sample of shards.
"""

from __future__ import annotations

import collections
import itertools
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.shards import Sample, is_held_out, read_entries
from liveportrait.errors import UserError
from liveportrait.motion.lifting import lift
from liveportrait.training import distributed
from liveportrait.training.data.batches import RankSlice, generator, stack
from liveportrait.training.data.corpus import Clip, choose_frames
from liveportrait.training.data.samplers import ClipSampler, Example
from liveportrait.types import Array


@dataclass(frozen=True)
class ShardStream:
    """Shards to read, and what must be known beforehand to read them."""

    shards: tuple[Path, ...]
    slots: tuple[int, ...]  # number of entries of each shard, usable or not
    effect: Array  # (52,63) see lifting.measure_effect
    frames_per_clip: int
    one_in: int  # identities held out
    seed: int

    def order(self, epoch: int, reader: int, readers: int) -> list[int]:
        """The shards that a reader reads in an epoch."""
        shuffled = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        return [int(shard) for shard in shuffled[reader::readers]]

    def read(self, reader: int, readers: int, first: int) -> Iterator[Clip | None]:
        """A reader's endless sequence of slots from number `first`; None for a slot that cannot be used."""
        for epoch in itertools.count():
            for shard in self.order(epoch, reader, readers):
                if first >= self.slots[shard]:
                    first -= self.slots[shard]
                    continue
                for slot, sample in enumerate(self._samples(shard)):
                    if slot >= first:
                        yield None if sample is None else self._clip(sample, shard, epoch, slot)
                first = 0

    def _samples(self, shard: int) -> Iterator[Sample | None]:
        """One item per slot of the shard; broken, held-out and unlabelled ones are None."""
        slots: Iterator[Sample | None] = self._slots(self.shards[shard])
        return itertools.islice(itertools.chain(slots, itertools.repeat(None)), self.slots[shard])

    def _slots(self, path: Path) -> Iterator[Sample | None]:
        broken: list[str] = []
        for entry in read_entries(path, broken.append):
            _report_skipped(broken, path)
            yield from itertools.repeat(None, len(broken))  # they came before this entry
            broken.clear()
            usable = isinstance(entry, Sample) and not is_held_out(entry.identity, self.one_in)
            yield entry if isinstance(entry, Sample) and usable else None
        _report_skipped(broken, path)

    def _clip(self, sample: Sample, shard: int, epoch: int, slot: int) -> Clip | None:
        rng = np.random.default_rng((self.seed, shard, epoch, slot))
        wanted = choose_frames(sample, self.frames_per_clip, rng)
        if not len(wanted):
            return None
        try:
            frames = sample.frames(wanted)
        except UserError as error:
            _report_skipped([str(error)], self.shards[shard])
            return None
        labels = sample.landmarks[wanted], sample.rotation[wanted], sample.blendshapes[wanted]
        motion = lift(*labels, np.zeros(len(wanted), np.int64), self.effect)
        return Clip(frames, labels[0], labels[2], motion)


_reported: dict[str, None] = {}


def _report_skipped(broken: Sequence[str], path: Path) -> None:
    """Print what is skipped, once per process, with a running count."""
    for sentence in broken:
        if sentence not in _reported:
            _reported[sentence] = None
            print(f"skipped ({len(_reported)} so far): {sentence} (shard {path.name})", file=sys.stderr)


class Window:
    """The clips a reader holds; `Clips` to a sampler."""

    def __init__(self, stream: ShardStream, size: int, reader: int, readers: int, tick: int) -> None:
        """Filled with `size` slots from number `tick`."""
        self._slots = stream.read(reader, readers, tick)
        self._held = collections.deque(itertools.islice(self._slots, size), maxlen=size)
        self.tick = tick
        self._refresh()

    def advance(self) -> None:
        """Drop the oldest slot and read the next."""
        self._held.append(next(self._slots))
        self.tick += 1
        self._refresh()

    def _refresh(self) -> None:
        self._clips = [clip for clip in self._held if clip is not None]
        self.lengths: NDArray[np.int64] = np.array([len(clip) for clip in self._clips], np.int64)

        if not self._clips:
            raise UserError(
                f"None of {len(self._held)} consecutive entries can be trained on (labelled and not held out): "
                "correct data.shards, or raise data.window."
            )

    def take(self, number: int) -> Clip:
        """One of the clips."""
        return self._clips[number]


class StreamBatches:
    """Makes batches from a stream; each worker process keeps its own window."""

    def __init__(
        self,
        stream: ShardStream,
        sampler: ClipSampler,
        rank_slice: RankSlice,
        seed: int,
        *,
        workers: int,
        window: int,
        draws_per_clip: int,
    ) -> None:
        """Raises `UserError` if there are fewer shards than readers."""
        self.stream, self.sampler, self.rank_slice, self.seed = stream, sampler, rank_slice, seed
        self.workers, self.size, self.draws = workers, window, draws_per_clip
        self.readers = rank_slice.world * workers
        if len(stream.shards) < self.readers:
            raise UserError(
                f"{len(stream.shards)} shards cannot be divided among {self.readers} readers ({rank_slice.world} "
                f"processes with {workers} workers each): lower data.workers, or use more and smaller shards."
            )
        self._window: tuple[int, Window] | None = None

    def __call__(self, number: int) -> Example:
        """This process's micro-batch `number`, from the window of worker `number` mod `workers`."""
        step, places = self.rank_slice.part(number)
        turn, worker = divmod(number, self.workers)
        examples = []
        for drawn, place in enumerate(places):
            window = self._at(worker, (turn * self.rank_slice.size + drawn) // self.draws)
            examples.append(self.sampler.draw(window, generator(self.seed, step, place)))
        return stack(examples)

    def _at(self, worker: int, tick: int) -> Window:
        """A worker's window after `tick` slots have left it."""
        if self._window is None or self._window[0] != worker or self._window[1].tick > tick:
            reader = self.rank_slice.rank * self.workers + worker
            self._window = worker, Window(self.stream, self.size, reader, self.readers, tick)
        window = self._window[1]
        while window.tick < tick:
            window.advance()
        return window


def count_slots(path: Path) -> int:
    """The number of entries of a shard, from its members' names alone."""
    count, last = 0, ""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = member.name.rpartition(".")[0]
                count += name != last
                last = name
    except (tarfile.TarError, OSError) as error:
        if not count:
            raise UserError(f"Shard {path} cannot be read ({error}): fetch or prepare it again.") from error
    return count


def count_all_slots(shards: Sequence[Path], file: Path) -> tuple[int, ...]:
    """The number of entries of each shard, counted once by the first process and kept in `file`."""
    with distributed.main_process_first():
        stored: dict[str, list[int]] = json.loads(file.read_text()) if file.exists() else {}
        sizes = {str(path): path.stat().st_size for path in shards}
        changed = [path for path in shards if stored.get(str(path), [0, -1])[1] != sizes[str(path)]]
        if changed:
            for path in changed:
                stored[str(path)] = [count_slots(path), sizes[str(path)]]
            temporary = file.with_name(f".{file.name}.tmp")
            temporary.write_text(json.dumps(stored))
            temporary.replace(file)
    return tuple(stored[str(path)][0] for path in shards)
