"""Pairs for fine-tuning: labelled clips and pictures as in stage one, and pictures without labels (animals)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.data.shards import Sample, read_entries
from liveportrait.errors import UserError
from liveportrait.training.data.augment import random_colour, recoloured
from liveportrait.training.data.batches import batches
from liveportrait.training.data.corpus import Corpus, build_corpus, load_corpus
from liveportrait.training.data.samplers import PairMix, PairSampler
from liveportrait.training.losses.transforms import random_transform
from liveportrait.training.stage_one.joint_model import Pair, resized

Target = Literal["person", "style", "animals"]  # what the shards show

BATCH = 4
FRAMES_PER_CLIP = 64
HELD_OUT_ONE_IN = 6  # the last sixth of the clips or pictures is held out
LABELLED_SHARE = 0.5  # of the batches, if there are labelled faces as well as animals
STILL_REACH = 0.9  # radius beyond which the background stands still, in half of the pairs of one picture

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """The data to train on, or the held-out data."""

    labelled: Corpus | None
    pictures: Pictures  # (N,256,256,3) without labels


def read(shards: Sequence[Path], folder: Path, target: Target, seed: int) -> tuple[Part, Part]:
    """Training and held-out part of the shards; the decoded frames go to `folder`.

    Held out is the end of the data: the last sixth of the clips and pictures or, if there are fewer than six clips,
    the last sixth of each clip's frames. For animals, only pictures without labels are held out. Raises `UserError`
    if the shards lack what the target needs.
    """
    if target != "animals":
        train, held_out = split(_labelled(shards, folder, seed))
        return Part(train, _no_pictures()), Part(held_out, _no_pictures())
    pictures, labels = _pictures(shards)
    if len(pictures) < 2:
        raise UserError(
            f"{len(pictures)} pictures without labels in {len(shards)} shards: animals need at least 2; "
            "labelled faces are fine-tuned with --to style or --to person"
        )
    labelled = _labelled(shards, folder, seed) if labels else None
    kept = len(pictures) - max(1, len(pictures) // HELD_OUT_ONE_IN)
    return Part(labelled, pictures[:kept]), Part(None, pictures[kept:])


def _labelled(shards: Sequence[Path], folder: Path, seed: int) -> Corpus:
    build_corpus(shards, folder, FRAMES_PER_CLIP, 1, seed, held_out=True)  # one in one is all of them
    return load_corpus(folder)


def split(corpus: Corpus) -> tuple[Corpus, Corpus]:
    """Training and held-out rows, as in `read`. Raises `UserError` if there is too little to hold out."""
    clips = corpus.rows_of_clips()
    if len(clips) >= HELD_OUT_ONE_IN:
        edge = int(clips[len(clips) - len(clips) // HELD_OUT_ONE_IN][0])
        return corpus.subset(slice(None, edge)), corpus.subset(slice(edge, None))
    late = [rows[len(rows) - len(rows) // HELD_OUT_ONE_IN :] for rows in clips]
    held_out = np.concatenate(late)
    if len(held_out) == 0:
        raise UserError(
            f"{len(clips)} clips of at most {max(map(len, clips))} frames are too few to hold out a sixth: "
            f"give {HELD_OUT_ONE_IN} pictures or clips, or a clip of {HELD_OUT_ONE_IN} labelled frames"
        )
    return corpus.subset(np.setdiff1d(np.arange(len(corpus.clip)), held_out)), corpus.subset(held_out)


def training_pairs(part: Part, side: int, mix: PairMix, device: torch.device, seed: int) -> Iterator[Pair]:
    """Endless batches of BATCH pairs at M's size, labelled and unlabelled."""
    if part.labelled is None:
        yield from picture_pairs(part.pictures, side, BATCH, device, seed)
        return
    labelled = (
        Pair.of(batch, device) for batch in batches(PairSampler(part.labelled, side, mix), BATCH, seed)
    )
    if len(part.pictures) == 0:
        yield from labelled
        return
    unlabelled = picture_pairs(part.pictures, side, BATCH, device, seed)
    rng = np.random.default_rng((seed, 1))
    while True:
        yield next(labelled if rng.random() < LABELLED_SHARE else unlabelled)


def held_out_pairs(part: Part, side: int, device: torch.device, batch_count: int, batch: int) -> list[Pair]:
    """Batches of held-out pairs, the same at each call."""
    if part.labelled is None:
        drawn = picture_pairs(part.pictures, side, batch, device, seed=0)
    else:
        drawn = (Pair.of(found, device) for found in batches(PairSampler(part.labelled, side), batch, seed=0))
    return list(itertools.islice(drawn, batch_count))


def picture_pairs(
    pictures: Pictures, side: int, batch: int, device: torch.device, seed: int
) -> Iterator[Pair]:
    """Pairs of a picture and itself, moved by a known similarity and bent by a spline.

    In about half of the batches the background stands still. Mirrored and recoloured at random.
    """
    for number in itertools.count():
        rng = np.random.default_rng((seed, number, 2))
        chosen = torch.from_numpy(pictures[rng.integers(len(pictures), size=batch)]).to(device)
        flips = torch.from_numpy(rng.random(batch) < 0.5).to(device)
        colours = [random_colour(rng) if rng.random() < 0.7 else None for _ in range(batch)]
        source = recoloured(torch.where(flips[:, None, None, None], chosen.flip(2), chosen), colours)
        source = resized(source.div(255), side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            reach = STILL_REACH if rng.random() < 0.5 else None
            transform = random_transform(batch, reach=reach, device=device)
        yield Pair(source, transform.pictures(source), transform=transform)


def _pictures(shards: Sequence[Path]) -> tuple[Pictures, bool]:
    """The pictures without labels, and whether there are labelled samples as well."""
    found: list[Pictures] = []
    labelled = False
    for shard in shards:
        for entry in read_entries(shard):
            if isinstance(entry, Sample):
                labelled = True
            elif not entry.is_video:
                found.append(entry.frames())
    return (np.concatenate(found) if found else _no_pictures()), labelled


def _no_pictures() -> Pictures:
    return np.empty((0, 256, 256, 3), np.uint8)
