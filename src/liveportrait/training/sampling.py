"""Draws training examples: single frames for M, (source, driving) pairs for F, W and G."""

from __future__ import annotations

import itertools
import multiprocessing
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.face.blendshapes import EYE_BLINK, JAW_OPEN
from liveportrait.motion.lifting import LiftedMotion
from liveportrait.networks.interface import Motion
from liveportrait.training.augment import (
    FrameMotion,
    Picture,
    close_eyes,
    degrade,
    move_head,
    random_colour,
    random_similarity,
)
from liveportrait.training.corpus import Corpus

Example = dict[str, NDArray[np.generic]]
Sampler = Callable[[np.random.Generator], Example]
MOTION_FIELDS = tuple(field.name for field in fields(FrameMotion))


@dataclass(frozen=True)
class PairMix:
    """Which pairs are drawn, as probabilities."""

    pictures: float = 0.25  # a picture and its moved, blinking copy
    extremes: float = 0.35  # of the video pairs: the partner with the most different lids or jaw
    distant: float = 0.6  # of the others: the most different of four candidates
    blinks: float = 0.15  # of the video pairs: one of the two gets a synthetic blink


class FrameSampler:
    """Single augmented frames with their motion."""

    def __init__(self, corpus: Corpus, blinks: float = 0.25) -> None:
        self.corpus, self.clips, self.blinks = corpus, corpus.rows_of_clips(), blinks

    def __call__(self, rng: np.random.Generator) -> Example:
        """One example: picture (256,256,3) uint8 and the five fields of its motion."""
        if rng.random() < 0.6:  # clips count alike, however long
            clip = self.clips[rng.integers(len(self.clips))]
            row = int(rng.choice(clip))
        else:
            row = int(rng.integers(len(self.corpus.clip)))
        picture, motion = _frame(self.corpus, row)
        if rng.random() < self.blinks:
            picture, motion = close_eyes(picture, self.corpus.landmarks[row], motion, _blink_amount(rng))
        if rng.random() < 0.5:
            picture, motion = np.ascontiguousarray(picture[:, ::-1]), motion.mirrored()
        move = random_similarity(rng, degrees=20, zoom=0.15, shift=0.12)
        picture = degrade(random_colour(rng).apply(move.warp(picture)), rng)
        return {"picture": picture, **_arrays(move.move(motion))}


class PairSampler:
    """Two frames of one clip, or a picture and its moved copy, alike in light and framing."""

    def __init__(self, corpus: Corpus, size: int, mix: PairMix | None = None) -> None:
        self.corpus, self.size, self.mix = corpus, size, mix or PairMix()
        clips = corpus.rows_of_clips()
        self.videos = [rows for rows in clips if len(rows) >= 4]
        self.pictures = [int(rows[0]) for rows in clips if len(rows) < 4]

    def __call__(self, rng: np.random.Generator) -> Example:
        """One example: source and driving pictures (S,S,3) uint8 and both motions, prefixed by role."""
        take_picture = bool(self.pictures) and (not self.videos or rng.random() < self.mix.pictures)
        source, driving = self._picture_pair(rng) if take_picture else self._video_pair(rng)
        flip, moved = rng.random() < 0.5, rng.random() < 0.6
        move = random_similarity(rng, degrees=10, zoom=0.1, shift=0.08)
        colour = random_colour(rng) if rng.random() < 0.7 else None
        example: Example = {}
        for role, (picture, motion) in (("source", source), ("driving", driving)):
            if flip:
                picture, motion = np.ascontiguousarray(picture[:, ::-1]), motion.mirrored()
            if moved:
                picture, motion = move.warp(picture), move.move(motion)
            if colour is not None:
                picture = colour.apply(picture)
            if self.size != picture.shape[0]:
                size = (self.size, self.size)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            example[f"{role}_picture"] = picture
            example |= {f"{role}_{name}": value for name, value in _arrays(motion).items()}
        return example

    def _video_pair(self, rng: np.random.Generator) -> tuple[tuple[Picture, FrameMotion], ...]:
        rows = self.videos[rng.integers(len(self.videos))]
        first = int(rng.choice(rows))
        if rng.random() < self.mix.extremes:
            second = self._most_different_expression(first, rows, rng)
        else:
            candidates = rng.choice(rows, 4)
            second = int(candidates[0])
            if rng.random() < self.mix.distant:
                motion = self.corpus.motion
                distance = (
                    np.abs(motion.rotation[candidates] - motion.rotation[first]).sum((1, 2))
                    + 0.3 * np.abs(motion.expression[candidates] - motion.expression[first]).sum((1, 2))
                    + 2 * np.abs(motion.translation[candidates] - motion.translation[first]).sum(1)
                )
                second = int(candidates[distance.argmax()])
        pair = [_frame(self.corpus, first), _frame(self.corpus, second)]
        if rng.random() < self.mix.blinks:
            which = int(rng.random() < 0.7)  # more often in the driving frame: opening must be invented
            pair[which] = close_eyes(
                pair[which][0],
                self.corpus.landmarks[(first, second)[which]],
                pair[which][1],
                _blink_amount(rng),
            )
        return tuple(pair)

    def _most_different_expression(self, row: int, rows: NDArray[np.int64], rng: np.random.Generator) -> int:
        scores = self.corpus.blendshapes
        blink = scores[rows][:, EYE_BLINK].mean(1)
        jaw = scores[rows, JAW_OPEN]
        eyes = 1.5 if rng.random() < 0.5 else 0.0
        distance = eyes * np.abs(blink - scores[row, EYE_BLINK].mean()) + np.abs(jaw - scores[row, JAW_OPEN])
        return int(rows[(distance + 0.1 * rng.random(len(rows))).argmax()])

    def _picture_pair(self, rng: np.random.Generator) -> tuple[tuple[Picture, FrameMotion], ...]:
        row = self.pictures[rng.integers(len(self.pictures))]
        still = _frame(self.corpus, row)
        moved = still
        if rng.random() < 0.6:
            moved = close_eyes(*still[:1], self.corpus.landmarks[row], still[1], _blink_amount(rng))
        move = random_similarity(rng, degrees=16, zoom=0.1, shift=0.1)
        moved = move_head(*moved, move)
        return (moved, still) if rng.random() < 0.35 else (still, moved)


def _blink_amount(rng: np.random.Generator) -> float:
    """Half of the synthetic blinks are complete."""
    return 1.0 if rng.random() < 0.5 else float(rng.uniform(0.3, 1.0))


def _frame(corpus: Corpus, row: int) -> tuple[Picture, FrameMotion]:
    values = {name: getattr(corpus.motion, name)[row] for name in MOTION_FIELDS}
    return np.asarray(corpus.frames[row]), FrameMotion(**values)


def _arrays(motion: FrameMotion) -> dict[str, NDArray[np.generic]]:
    return {name: np.asarray(getattr(motion, name), np.float32) for name in MOTION_FIELDS}


@dataclass(frozen=True)
class Share:
    """The part of every joint batch that one process draws, in `accumulate` micro-batches a step.

    Example j of joint batch n depends on (seed, n, j) alone, so the processes together draw what one would draw.
    """

    batch: int  # examples of a joint batch
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        """Raise UserError for a batch that cannot be divided evenly."""
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
        """Joint batch, and the examples of it, that are this process's micro-batch `number` since the start."""
        step, micro = divmod(number, self.accumulate)
        first = (micro * self.world + self.rank) * self.size
        return step, range(first, first + self.size)


def batches(draw: Sampler, share: Share | int, seed: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
    """Endless micro-batches of a share, or whole batches of that many examples, from number `start`."""
    share = Share(share) if isinstance(share, int) else share
    for number in itertools.count(start):
        drawn = _draw_batch(draw, share, seed, number)
        yield {name: torch.from_numpy(value) for name, value in drawn.items()}


def _draw_batch(draw: Sampler, share: Share, seed: int, number: int) -> Example:
    step, places = share.part(number)
    examples = [draw(np.random.default_rng((seed, step, place))) for place in places]
    return {name: np.stack([e[name] for e in examples]) for name in examples[0]}


def _serve(draw: Sampler, share: Share, seed: int, start: int, into: multiprocessing.Queue[Example]) -> None:
    cv2.setNumThreads(1)
    into.cancel_join_thread()
    trainer = multiprocessing.parent_process()
    for number in itertools.count(start):
        batch = _draw_batch(draw, share, seed, number)
        while True:
            try:
                into.put(batch, timeout=5)
                break
            except queue.Full:
                if trainer is not None and not trainer.is_alive():  # killed: nobody will ever take it
                    return


class BackgroundBatches:
    """The same batches as `batches`, drawn by a process of their own.

    The process is spawned: a fork of a process that has run torch and OpenCV threads can hang on their locks.
    """

    def __init__(self, draw: Sampler, share: Share | int, seed: int, start: int = 0) -> None:
        share = Share(share) if isinstance(share, int) else share
        context = multiprocessing.get_context("spawn")
        # NumPy through the queue: tensors would need shared file descriptors.
        self._queue: multiprocessing.Queue[Example] = context.Queue(maxsize=6)
        arguments = (draw, share, seed, start, self._queue)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()

    def __next__(self) -> dict[str, Tensor]:
        while True:
            try:
                drawn = self._queue.get(timeout=5)
            except queue.Empty:
                if not self._process.is_alive():
                    code = self._process.exitcode
                    raise RuntimeError(
                        f"the loading process ended with status {code}; see its error above"
                    ) from None
                continue
            return {name: torch.from_numpy(value) for name, value in drawn.items()}

    def __iter__(self) -> BackgroundBatches:
        return self

    def close(self) -> None:
        """Stop the process."""
        self._process.terminate()
        self._process.join()


def pictures_of(batch: dict[str, Tensor], name: str, device: torch.device) -> Tensor:
    """Pictures (B,3,S,S) float in [0, 1] of a batch's uint8 (B,S,S,3)."""
    return batch[name].to(device).permute(0, 3, 1, 2).float().div(255)


def motion_of(batch: dict[str, Tensor], prefix: str, device: torch.device) -> Motion:
    """The labelled motion of a batch."""
    return Motion(**{name: batch[prefix + name].to(device) for name in MOTION_FIELDS})


def corpus_motion(motion: LiftedMotion) -> Motion:
    """A whole corpus' motion as tensors."""
    return Motion(**{name: torch.from_numpy(getattr(motion, name)) for name in MOTION_FIELDS})
