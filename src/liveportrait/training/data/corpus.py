"""A small corpus in memory: chosen frames of every clip with their lifted motion, kept on disk between runs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.data.shards import Sample, is_held_out, read_shard
from liveportrait.errors import UserError
from liveportrait.face.canonical import EYE_BLINK
from liveportrait.folders import replace_folder, unfinished_beside
from liveportrait.motion.lifting import lift, measure_effect
from liveportrait.networks.interface import Motion
from liveportrait.training import distributed
from liveportrait.types import Array

Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class Clip:
    """T frames of one person in one take; a picture is a clip of one frame."""

    frames: NDArray[np.uint8]  # (T,256,256,3) RGB
    landmarks: NDArray[np.float32]  # (T,111,2) px
    blendshapes: NDArray[np.float32]  # (T,52)
    motion: Motion  # batch T

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, number: int) -> tuple[Tensor, Tensor, Motion]:
        """One frame as a batch of one: picture (1,256,256,3) uint8, landmarks (1,111,2) px and motion."""
        rows = slice(number, number + 1)
        # A copy, as frames may be a read-only memory map
        picture = torch.from_numpy(np.array(self.frames[rows]))
        return picture, torch.from_numpy(self.landmarks[rows]), self.motion.rows(rows)


@dataclass(frozen=True)
class Corpus:
    """N frames, clip after clip."""

    folder: Path
    frames: NDArray[np.uint8]  # (N,256,256,3) RGB, may be a memory map
    landmarks: NDArray[np.float32]  # (N,111,2) px
    blendshapes: NDArray[np.float32]  # (N,52)
    motion: Motion  # batch N
    clip: NDArray[np.int64]  # (N,)
    digest: str = ""  # of the shards and settings that it was built from

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Pickles the folder only: another process maps the frames itself instead of getting a copy."""
        return load_corpus, (self.folder,)

    def rows_of_clips(self) -> list[NDArray[np.int64]]:
        """Row indices of every clip."""
        edges = np.flatnonzero(np.diff(self.clip)) + 1
        return np.split(np.arange(len(self.clip)), edges)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each clip."""
        return np.array([len(rows) for rows in self.rows_of_clips()])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First row of each clip."""
        return self.lengths.cumsum() - self.lengths

    def take(self, number: int) -> Clip:
        """One of the clips, without copying it."""
        rows = slice(int(self.starts[number]), int(self.starts[number] + self.lengths[number]))
        return Clip(self.frames[rows], self.landmarks[rows], self.blendshapes[rows], self.motion.rows(rows))

    def subset(self, rows: Rows) -> Corpus:
        """Some of the frames, in their order."""
        return replace(
            self,
            frames=self.frames[rows],
            landmarks=self.landmarks[rows],
            blendshapes=self.blendshapes[rows],
            motion=self.motion.rows(rows),
            clip=self.clip[rows],
        )


def choose_frames(sample: Sample, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of up to `count` measured frames that differ most in pose and expression (farthest-point sampling)."""
    measured = np.flatnonzero(sample.measured)
    if len(measured) <= count:
        return measured
    blink = sample.blendshapes[measured][:, EYE_BLINK].mean(1, keepdims=True)
    features = np.concatenate(
        [
            sample.rotation[measured].reshape(len(measured), -1) * 1.5,
            sample.blendshapes[measured],
            blink,
            sample.landmarks[measured].mean(1) / 64,
        ],
        axis=1,
    )
    chosen = [int(rng.integers(len(measured)))]
    distance = ((features - features[chosen[0]]) ** 2).sum(1)
    for step in range(count - 1):
        odds = distance + 1e-6
        pick = int(distance.argmax()) if step % 2 == 0 else int(rng.choice(len(odds), p=odds / odds.sum()))
        chosen.append(pick)
        distance = np.minimum(distance, ((features - features[pick]) ** 2).sum(1))
    return measured[np.unique(chosen)]


def build_corpus(
    shards: Sequence[Path], folder: Path, frames_per_clip: int, one_in: int, seed: int, held_out: bool = False
) -> None:
    """Decode the shards' training identities (or the held-out ones) into `folder`.

    Broken samples are skipped, then listed and counted on standard error. Writes frames.npy, labels.npz and, last,
    corpus.json; a folder without it is incomplete.
    """
    rng = np.random.default_rng(seed)
    pictures, landmarks, rotation, blendshapes = [], [], [], []
    clip: list[int] = []
    keys: list[str] = []
    broken: list[str] = []
    for shard in shards:
        for sample in read_shard(shard, broken.append):
            if is_held_out(sample.identity, one_in) != held_out:
                continue
            wanted = choose_frames(sample, frames_per_clip, rng)
            if not len(wanted):
                continue
            try:
                frames = sample.frames(wanted)
            except UserError as error:
                broken.append(f"{error} (shard {shard})")
                continue
            pictures.append(frames)
            landmarks.append(sample.landmarks[wanted])
            rotation.append(sample.rotation[wanted])
            blendshapes.append(sample.blendshapes[wanted])
            clip += [len(keys)] * len(wanted)
            keys.append(sample.key)
    for sentence in broken:
        print(f"skipped: {sentence}", file=sys.stderr)
    if broken:
        print(f"skipped {len(broken)} broken samples of {len(shards)} shards", file=sys.stderr)
    if not clip:
        raise UserError(f"No labelled training sample in {len(shards)} shards: check the list of shards.")
    labels = np.concatenate(landmarks), np.concatenate(rotation), np.concatenate(blendshapes), np.array(clip)
    effect = measure_effect(*labels)
    motion = lift(*labels, effect)
    folder.mkdir(parents=True, exist_ok=True)
    stored = np.lib.format.open_memmap(
        folder / "frames.npy", "w+", np.uint8, (len(clip), *pictures[0].shape[1:])
    )
    np.concatenate(pictures, out=stored)
    stored.flush()
    np.savez(
        folder / "labels.npz",
        landmarks=labels[0],
        blendshapes=labels[2],
        clip=labels[3],
        expression_effect=effect,
        **{name: part.numpy() for name, part in motion._asdict().items()},
    )
    about = {
        "digest": corpus_digest(shards, frames_per_clip, one_in, seed, held_out),
        "shards": [path.name for path in shards],
        "frames": len(clip),
        "clips": len(keys),
        "keys": keys,
    }
    (folder / "corpus.json").write_text(json.dumps(about))


def corpus_digest(
    shards: Sequence[Path], frames_per_clip: int, one_in: int, seed: int, held_out: bool
) -> str:
    """Identifies a corpus by the names and sizes of its shards and all settings that determine its content."""
    files = [(path.name, path.stat().st_size) for path in shards]
    content = json.dumps([files, frames_per_clip, one_in, seed, held_out])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def ensure_corpus(
    shards: Sequence[Path], folder: Path, frames_per_clip: int, one_in: int, seed: int, held_out: bool = False
) -> Corpus:
    """The corpus in `folder`, built by the first process if it is missing or was built from other data.

    A rebuilt corpus replaces the old one in one step; processes that have mapped the old one keep it.
    """
    with distributed.main_process_first():
        found = stored_digest(folder)
        if found != corpus_digest(shards, frames_per_clip, one_in, seed, held_out):
            if found is not None:
                print(f"{folder} was built from other shards or settings: rebuilding it", file=sys.stderr)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with unfinished_beside(folder) as fresh:
                build_corpus(shards, fresh, frames_per_clip, one_in, seed, held_out)
                if stored_digest(folder) != stored_digest(fresh):  # otherwise another run was faster
                    replace_folder(fresh, folder)
    return load_corpus(folder)


def stored_effect(folder: Path) -> Array:
    """Effect of blendshapes on keypoints (52,63), from the corpus in `folder`; see `lifting.measure_effect`."""
    with np.load(folder / "labels.npz") as stored:
        return np.asarray(stored["expression_effect"])


def stored_digest(folder: Path) -> str | None:
    """Digest of the corpus in `folder`; "" if an older version built it, None if there is no complete one."""
    path = folder / "corpus.json"
    return str(json.loads(path.read_text()).get("digest", "")) if path.exists() else None


def load_corpus(folder: Path) -> Corpus:
    """The corpus in `folder`, its frames memory-mapped so that several processes share them."""
    with np.load(folder / "labels.npz") as stored:
        motion = Motion(*(torch.from_numpy(stored[name]) for name in Motion._fields))
        return Corpus(
            folder=folder,
            frames=np.load(folder / "frames.npy", mmap_mode="r"),
            landmarks=stored["landmarks"],
            blendshapes=stored["blendshapes"],
            motion=motion,
            clip=stored["clip"],
            digest=stored_digest(folder) or "",
        )
