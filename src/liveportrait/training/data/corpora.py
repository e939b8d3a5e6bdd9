"""Opens the data of a configuration's [data] table: a corpus, and batches drawn from it in one of three modes.

- "loader": a corpus mapped from disk, batches drawn by worker processes on the CPU;
- "resident": the same corpus on the device, batches drawn there;
- "stream": batches drawn from shards as they are read; the corpus is a sample of them, for statistics.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import NamedTuple

import torch

from liveportrait.errors import UserError
from liveportrait.training.config import DataConfig
from liveportrait.training.data.batches import (
    BackgroundBatches,
    Batches,
    CorpusBatches,
    RankSlice,
    ResidentBatches,
)
from liveportrait.training.data.corpus import Corpus, ensure_corpus, stored_effect
from liveportrait.training.data.samplers import ClipSampler
from liveportrait.training.data.stream import ShardStream, StreamBatches, count_all_slots


class Corpora(NamedTuple):
    """The data of a run."""

    train: Corpus
    held_out: Corpus  # other identities
    stream: ShardStream | None = None  # in mode "stream", the shards that `train` is a sample of


def open_corpora(data: DataConfig, base: Path, folder: Path, seed: int) -> Corpora:
    """Training and held-out corpus, decoded from the shards once and kept in `folder`.

    Patterns in data.shards are relative to `base`. In mode "stream" both corpora come from `sample_shards` evenly
    spaced shards. Raises `UserError` if no shard matches.
    """
    shards = matching_shards(data, base)
    streamed = data.mode == "stream"
    decoded = shards[:: -(-len(shards) // data.sample_shards)] if streamed else shards
    numbers = data.frames_per_clip, data.hold_out_one_in, seed
    train = ensure_corpus(decoded, folder / "train", *numbers)
    held_out = ensure_corpus(decoded, folder / "held-out", *numbers, held_out=True)
    if not streamed:
        return Corpora(train, held_out)
    slots, effect = count_all_slots(shards, folder / "slots.json"), stored_effect(folder / "train")
    return Corpora(train, held_out, ShardStream(tuple(shards), slots, effect, *numbers))


def matching_shards(data: DataConfig, base: Path) -> list[Path]:
    """The shards that a configuration names, relative to `base`. Raises `UserError` if there are none."""
    shards = [Path(path) for pattern in data.shards for path in sorted(glob.glob(str(base / pattern)))]
    if not shards:
        raise UserError(f"No shards match {list(data.shards)} from {base}: correct data.shards.")
    return shards


def open_batches(
    sampler: ClipSampler,
    stream: ShardStream | None,
    data: DataConfig,
    rank_slice: RankSlice,
    seed: int,
    start: int,
    device: torch.device,
) -> Batches:
    """A process's micro-batches from number `start`, drawn in the configured mode.

    They come from the sampler's corpus or, in mode "stream", from the stream.
    """
    if data.mode == "resident":
        return ResidentBatches(sampler, rank_slice, seed, start, device)
    if data.mode == "loader":
        return BackgroundBatches(CorpusBatches(sampler, rank_slice, seed), start, data.workers)
    if stream is None:
        raise UserError("data.mode = 'stream' works in stage one only: choose 'loader' or 'resident' here.")
    make = StreamBatches(
        stream,
        sampler,
        rank_slice,
        seed,
        workers=data.workers,
        window=data.window,
        draws_per_clip=data.draws_per_clip,
    )
    return BackgroundBatches(make, start, data.workers)
