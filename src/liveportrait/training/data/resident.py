"""A corpus that lives on the device: frames as uint8 tensors, pairs cut, moved and coloured there in batches."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.networks.interface import Motion
from liveportrait.training.data.augment_device import apply_changes
from liveportrait.training.data.batches import Batches, RankSlice, corpus_motion, generator
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import MOTION_FIELDS, ClipSampler, Shot

CHUNK = 512  # frames copied to the device at a time


class ResidentCorpus:
    """All frames (N,256,256,3) uint8, landmarks and motions of a corpus on a device: 0.2 MB a frame."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self.corpus, self.device = corpus, device
        self.frames = torch.empty(corpus.frames.shape, dtype=torch.uint8, device=device)
        for first in range(0, len(corpus.frames), CHUNK):
            chunk = np.ascontiguousarray(corpus.frames[first : first + CHUNK])
            self.frames[first : first + CHUNK] = torch.from_numpy(chunk.copy()).to(device)
        self.landmarks = torch.from_numpy(corpus.landmarks).to(device)
        self.motion = Motion(*(value.to(device) for value in corpus_motion(corpus.motion)))

    def develop(self, shots: list[Shot], size: int) -> dict[str, Tensor]:
        """Pictures (B,size,size,3) uint8 and motions of planned frames, named as in a sampler's examples."""
        rows = [int(self.corpus.starts[shot.clip]) + shot.frame for shot in shots]
        pictures = self.frames[rows].permute(0, 3, 1, 2).float()
        motion = Motion(*(value[rows] for value in self.motion))
        pictures, motion = apply_changes(
            pictures, self.landmarks[rows], motion, [shot.change for shot in shots]
        )
        if size != pictures.shape[-1]:
            pictures = F.interpolate(pictures, size=(size, size), mode="area")
        stored = pictures.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        return {"picture": stored, **{name: getattr(motion, name) for name in MOTION_FIELDS}}


class ResidentBatches(Batches):
    """The batches that `BackgroundBatches` would make, within interpolation tolerance, from a resident corpus.

    Which frames and changes is planned on the CPU from (seed, step, place), some 0.1 ms an example.
    """

    def __init__(
        self, sampler: ClipSampler, rank_slice: RankSlice, seed: int, start: int, device: torch.device
    ) -> None:
        self.sampler, self.rank_slice, self.seed, self.number = sampler, rank_slice, seed, start
        self.resident = ResidentCorpus(sampler.corpus, device)

    @torch.no_grad()
    def __next__(self) -> dict[str, Tensor]:
        step, places = self.rank_slice.part(self.number)
        plans = [
            self.sampler.plan(self.sampler.corpus, generator(self.seed, step, place)) for place in places
        ]
        self.number += 1
        return {
            prefix + name: value
            for prefix in plans[0]
            for name, value in self.resident.develop(
                [plan[prefix] for plan in plans], self.sampler.size
            ).items()
        }

    def close(self) -> None:
        """Nothing runs beside the training."""
