"""Opens what a configuration's [data] table asks for: a corpus, and batches drawn from it in one of three modes.

- "loader": a corpus mapped from disk, batches drawn by worker processes on the CPU;
- "resident": the same corpus on the device, batches drawn there;
- "stream": batches drawn from shards as they are read; the corpus is a sample of them, for statistics.
"""

from __future__ import annotations

import dataclasses
import glob
from pathlib import Path

import torch

from liveportrait.errors import UserError
from liveportrait.training.config import DataConfig
from liveportrait.training.data.corpus import Corpus, ensure_corpus, stored_effect
from liveportrait.training.data.resident import ResidentBatches
from liveportrait.training.data.sampling import ClipSampler, Share
from liveportrait.training.data.streaming import ShardStream, StreamBatches, counted
from liveportrait.training.data.workers import BackgroundBatches, Batches, CorpusBatches


def open_corpora(data: DataConfig, base: Path, folder: Path, seed: int) -> tuple[Corpus, Corpus]:
    """Training and held-out corpus, decoded from the shards once and kept in `folder`.

    `base` is what patterns in data.shards are relative to. In mode "stream" both come from `sample_shards` shards,
    evenly spaced, and the first knows the stream. Raises UserError where no shard matches.
    """
    shards = [Path(path) for pattern in data.shards for path in sorted(glob.glob(str(base / pattern)))]
    if not shards:
        raise UserError(f"No shards match {list(data.shards)} from {base}: correct data.shards.")
    decoded = shards[:: -(-len(shards) // data.sample_shards)] if data.mode == "stream" else shards
    numbers = data.frames_per_clip, data.hold_out_one_in, seed
    corpus = ensure_corpus(decoded, folder / "train", *numbers)
    held_out = ensure_corpus(decoded, folder / "held-out", *numbers, held_out=True)
    if data.mode == "stream":
        stream = ShardStream(
            tuple(shards), counted(shards, folder / "slots.json"), stored_effect(folder / "train"), *numbers
        )
        corpus = dataclasses.replace(corpus, stream=stream)
    return corpus, held_out


def open_batches(
    sampler: ClipSampler, data: DataConfig, share: Share, seed: int, start: int, device: torch.device
) -> Batches:
    """A process's micro-batches from number `start` on, drawn as the configuration says."""
    if data.mode == "resident":
        return ResidentBatches(sampler, share, seed, start, device)
    if data.mode == "loader":
        return BackgroundBatches(CorpusBatches(sampler, share, seed), start, data.workers)
    stream = sampler.corpus.stream
    if stream is None:
        raise UserError("data.mode = 'stream' is for stage one: choose 'loader' or 'resident' here.")
    make = StreamBatches(
        stream,
        sampler,
        share,
        seed,
        workers=data.workers,
        window=data.window,
        draws_per_clip=data.draws_per_clip,
    )
    return BackgroundBatches(make, start, data.workers)
