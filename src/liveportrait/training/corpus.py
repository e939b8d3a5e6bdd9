"""A small corpus in memory: chosen frames of every clip with their lifted motion, kept on disk between runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.shards import Sample, read_shard
from liveportrait.data.split import is_held_out
from liveportrait.errors import UserError
from liveportrait.face.blendshapes import EYE_BLINK
from liveportrait.motion.lifting import LiftedMotion, lift


@dataclass(frozen=True)
class Corpus:
    """N frames. A clip is a run of rows that shows one person in one take; a picture is a clip of one row."""

    folder: Path
    frames: NDArray[np.uint8]  # (N,256,256,3) RGB, may be a memory map
    landmarks: NDArray[np.float32]  # (N,111,2) px
    blendshapes: NDArray[np.float32]  # (N,52)
    motion: LiftedMotion
    clip: NDArray[np.int64]  # (N,)

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Another process gets the folder and maps the frames itself, rather than a copy of them."""
        return load_corpus, (self.folder,)

    def rows_of_clips(self) -> list[NDArray[np.int64]]:
        """Row numbers of every clip."""
        edges = np.flatnonzero(np.diff(self.clip)) + 1
        return np.split(np.arange(len(self.clip)), edges)


def choose_frames(sample: Sample, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Up to `count` measured frames of a clip that differ most in pose and expression (farthest-point selection)."""
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

    A broken sample is skipped, named and counted on standard error. Writes frames.npy, labels.npz and, last,
    corpus.json: a folder without it was interrupted.
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
    motion = lift(*labels)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "frames.npy", np.concatenate(pictures))
    np.savez(
        folder / "labels.npz",
        landmarks=labels[0],
        blendshapes=labels[2],
        clip=labels[3],
        **{field.name: getattr(motion, field.name) for field in fields(LiftedMotion)},
    )
    about = {"shards": [path.name for path in shards], "frames": len(clip), "clips": len(keys), "keys": keys}
    (folder / "corpus.json").write_text(json.dumps(about))


def load_corpus(folder: Path) -> Corpus:
    """The corpus in `folder`, its frames memory-mapped so that several processes share them."""
    with np.load(folder / "labels.npz") as stored:
        motion = LiftedMotion(**{field.name: stored[field.name] for field in fields(LiftedMotion)})
        return Corpus(
            folder=folder,
            frames=np.load(folder / "frames.npy", mmap_mode="r"),
            landmarks=stored["landmarks"],
            blendshapes=stored["blendshapes"],
            motion=motion,
            clip=stored["clip"],
        )
