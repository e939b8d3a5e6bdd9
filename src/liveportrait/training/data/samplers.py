"""Draws training examples: single frames for M, (source, driving) pairs for F, W and G.

A sampler plans which frames of which clips to use, and how to change them. Plans are carried out one by one on the
CPU here, or in batches on the device (`ResidentBatches`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.face.canonical import EYE_BLINK, JAW_OPEN
from liveportrait.training.data.augment import (
    Change,
    augment_batch,
    random_colour,
    random_degradation,
    random_similarity,
)
from liveportrait.training.data.corpus import Clip, Corpus

Example = dict[str, NDArray[np.generic]]
Sampler = Callable[[np.random.Generator], Example]
MIN_VIDEO_FRAMES = 4  # frames; a shorter clip is treated as a picture


@dataclass(frozen=True)
class PairMix:
    """Shares of the kinds of pairs, as probabilities."""

    pictures: float = 0.25  # a picture and its moved, blinking copy
    extremes: float = 0.35  # of the video pairs: the partner has the most different lids or jaw
    distant: float = 0.6  # of the others: the partner is the most different of four candidates
    blinks: float = 0.15  # of the video pairs: one of the two frames gets a synthetic blink


class Clips(Protocol):
    """A source of clips: a corpus, or the clips that a stream currently holds."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each clip."""

    def take(self, number: int) -> Clip:
        """One of the clips."""


class Shot(NamedTuple):
    """A frame of a clip, and how to change it."""

    clip: int
    frame: int
    change: Change


class ClipSampler(ABC):
    """Plans examples from clips; called with a random generator, it draws one from its corpus."""

    def __init__(self, corpus: Corpus, size: int = PICTURE_SIDE) -> None:
        """`size`: side of the pictures drawn, px."""
        self.corpus, self.size = corpus, size

    @abstractmethod
    def plan(self, clips: Clips, rng: np.random.Generator) -> dict[str, Shot]:
        """The frames of one example, by the prefix that their names get in it."""

    def __call__(self, rng: np.random.Generator) -> Example:
        """One example from the corpus."""
        return self.draw(self.corpus, rng)

    def draw(self, clips: Clips, rng: np.random.Generator) -> Example:
        """One example: for each prefix, a picture (S,S,3) uint8 and the five fields of its motion."""
        example: Example = {}
        for prefix, (clip, frame, change) in self.plan(clips, rng).items():
            picture, motion = augment_batch(*clips.take(clip).frame(frame), [change], self.size)
            found = {"picture": picture, **motion._asdict()}
            example |= {prefix + name: value[0].numpy() for name, value in found.items()}
        return example


class FrameSampler(ClipSampler):
    """Single augmented frames with their motion; the prefix is empty."""

    def __init__(self, corpus: Corpus, blinks: float = 0.25) -> None:
        super().__init__(corpus)
        self.blinks = blinks

    def plan(self, clips: Clips, rng: np.random.Generator) -> dict[str, Shot]:
        """One frame."""
        lengths = clips.lengths
        if rng.random() < 0.6:  # every clip has the same probability, whatever its length
            clip = int(rng.integers(len(lengths)))
        else:
            clip = int(np.searchsorted(lengths.cumsum(), rng.integers(lengths.sum()), side="right"))
        frame = int(rng.integers(lengths[clip]))
        blink = _blink_amount(rng) if rng.random() < self.blinks else 0.0
        flip = bool(rng.random() < 0.5)
        move = random_similarity(rng, degrees=20, zoom=0.15, shift=0.12)
        colour = random_colour(rng)
        blur, detail = random_degradation(rng)
        change = Change(blink, flip=flip, move=move, colour=colour, blur=blur, detail=detail)
        return {"": Shot(clip, frame, change)}


class PairSampler(ClipSampler):
    """Two frames of one clip, or a picture and its moved copy, with the same colours and framing.

    The prefixes are "source_" and "driving_".
    """

    def __init__(self, corpus: Corpus, size: int, mix: PairMix | None = None) -> None:
        super().__init__(corpus, size)
        self.mix = mix or PairMix()

    def plan(self, clips: Clips, rng: np.random.Generator) -> dict[str, Shot]:
        """Source and driving frame, flipped, moved and recoloured together."""
        is_video = clips.lengths >= MIN_VIDEO_FRAMES
        videos, pictures = np.flatnonzero(is_video), np.flatnonzero(~is_video)
        if len(pictures) and (not len(videos) or rng.random() < self.mix.pictures):
            pair = self._picture_pair(int(rng.choice(pictures)), rng)
        else:
            number = int(rng.choice(videos))
            pair = self._video_pair(number, clips.take(number), rng)
        flip, moved = bool(rng.random() < 0.5), rng.random() < 0.6
        move = random_similarity(rng, degrees=10, zoom=0.1, shift=0.08)
        colour = random_colour(rng) if rng.random() < 0.7 else None
        source, driving = (
            Shot(clip, frame, replace(change, flip=flip, move=move if moved else None, colour=colour))
            for clip, frame, change in pair
        )
        return {"source_": source, "driving_": driving}

    def _video_pair(self, number: int, clip: Clip, rng: np.random.Generator) -> list[Shot]:
        first = int(rng.integers(len(clip)))
        if rng.random() < self.mix.extremes:
            second = _most_different_expression(clip, first, rng)
        else:
            candidates = rng.integers(len(clip), size=4)
            second = int(candidates[0])
            if rng.random() < self.mix.distant:
                there, here = clip.motion.rows(candidates), clip.motion.rows([first])
                distance = (
                    (there.rotation - here.rotation).abs().sum((1, 2))
                    + 0.3 * (there.expression - here.expression).abs().sum((1, 2))
                    + 2 * (there.translation - here.translation).abs().sum(1)
                )
                second = int(candidates[int(distance.argmax())])
        changes = [Change(), Change()]
        if rng.random() < self.mix.blinks:
            which = int(rng.random() < 0.7)  # the source more rarely: opening its eyes means inventing them
            changes[which] = Change(blink=_blink_amount(rng))
        return [Shot(number, first, changes[0]), Shot(number, second, changes[1])]

    def _picture_pair(self, number: int, rng: np.random.Generator) -> list[Shot]:
        blink = _blink_amount(rng) if rng.random() < 0.6 else 0.0
        head = random_similarity(rng, degrees=16, zoom=0.1, shift=0.1)
        still, moved = Shot(number, 0, Change()), Shot(number, 0, Change(blink, head))
        return [moved, still] if rng.random() < 0.35 else [still, moved]


def _most_different_expression(clip: Clip, frame: int, rng: np.random.Generator) -> int:
    scores = clip.blendshapes
    blink, jaw = scores[:, EYE_BLINK].mean(1), scores[:, JAW_OPEN]
    eyes = 1.5 if rng.random() < 0.5 else 0.0
    distance = eyes * np.abs(blink - blink[frame]) + np.abs(jaw - jaw[frame])
    return int((distance + 0.1 * rng.random(len(clip))).argmax())


def _blink_amount(rng: np.random.Generator) -> float:
    """How far lids come down, in [0, 1]; half of the synthetic blinks are complete."""
    return 1.0 if rng.random() < 0.5 else float(rng.uniform(0.3, 1.0))
