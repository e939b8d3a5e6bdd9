"""Trains the opening reader: on labelled frames, and on rendered faces that the face mesh has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.motion.lifting import Array
from liveportrait.training.checkpoint import TrainingState, average_of
from liveportrait.training.data.batches import batches, pictures_of
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import Example
from liveportrait.training.phase import BETAS, Phase
from liveportrait.training.stage_two.config import StageTwoConfig
from liveportrait.training.stage_two.frozen_networks import to_pictures
from liveportrait.training.stage_two.opening_regressor import OpeningReader, reading_loss
from liveportrait.training.stage_two.rendered_openings import RenderedOpenings
from liveportrait.training.stage_two.samplers import ratios_of, readable_rows

VALIDATE_EVERY = 250  # steps
VALIDATION_FRAMES = 400


@dataclass(frozen=True)
class MeasuredFrames:
    """N pictures with the landmarks that say where to look, and their openings."""

    frames: NDArray[np.uint8]  # (N,256,256,3), may be a memory map
    landmarks: Array  # (N,111,2) px; of a rendered picture those of its source
    ratios: Array  # (N,3)
    rows: NDArray[np.int64]  # those to use

    def __call__(self, rng: np.random.Generator) -> Example:
        """One frame at random: picture (256,256,3) uint8, landmarks (111,2), ratios (3,)."""
        row = int(rng.choice(self.rows))
        return {
            "picture": np.asarray(self.frames[row]),
            "landmarks": self.landmarks[row],
            "ratios": self.ratios[row],
        }


def labelled_frames(corpus: Corpus) -> MeasuredFrames:
    """The frames of a corpus on which both eyes can be measured."""
    return MeasuredFrames(corpus.frames, corpus.landmarks, ratios_of(corpus.landmarks), readable_rows(corpus))


def rendered_frames(rendered: RenderedOpenings) -> MeasuredFrames:
    """Rendered pictures with what the face mesh measured on them."""
    rows = np.arange(len(rendered.frames))
    return MeasuredFrames(rendered.frames, rendered.landmarks, rendered.measured, rows)


def train_reader(
    config: StageTwoConfig, corpus: Corpus, held_out: Corpus, render: Callable[[], RenderedOpenings | None]
) -> OpeningReader:
    """Train to the end of the schedule, or on from the checkpoint; returns the moving average.

    `render` makes the rendered pictures; it is called only if there is something left to train.
    """
    torch.manual_seed(config.seed)
    reader = OpeningReader().to(config.device)
    schedule = config.reader.schedule
    optimizer = torch.optim.AdamW(reader.parameters(), betas=BETAS, weight_decay=schedule.weight_decay)
    average = average_of(reader)
    assert isinstance(average, OpeningReader)
    phase = Phase(
        "reader",
        config,
        schedule,
        TrainingState({"reader": reader}, {"reader": optimizer}, {"reader": average}),
    )
    if phase.finished:
        return average
    labelled, made = labelled_frames(corpus), render()
    rendered = None if made is None else rendered_frames(made)

    def draw(rng: np.random.Generator) -> Example:
        return labelled(rng) if rendered is None or rng.random() < 0.5 else rendered(rng)

    loader = batches(draw, phase.rank_slice, config.seed, phase.state.step * schedule.accumulate)
    device = torch.device(config.device)
    while not phase.finished:
        batch = next(loader)
        phase.seed()
        picture = pictures_of(batch, "picture", device)
        terms = reading_loss(reader, picture, batch["landmarks"].to(device), batch["ratios"].to(device))
        phase.step(terms["eyes"] + terms["lips"], terms)
        phase.log(lambda: reading_error(average, labelled_frames(held_out), device), VALIDATE_EVERY)
    return average


@torch.no_grad()
def reading_error(reader: OpeningReader, frames: MeasuredFrames, device: torch.device) -> Mapping[str, float]:
    """Mean absolute error and correlation of what is read, on up to 400 frames; eyes together, lips alone."""
    rows = np.random.default_rng(0).permutation(frames.rows)[:VALIDATION_FRAMES]
    read = []
    for start in range(0, len(rows), 50):
        part = rows[start : start + 50]
        landmarks = torch.from_numpy(frames.landmarks[part]).to(device)
        read.append(reader(to_pictures(frames.frames[part], device), landmarks).cpu().numpy())
    found, wanted = np.concatenate(read), frames.ratios[rows]
    figures = {}
    for name, columns in (("eyes", slice(0, 2)), ("lips", slice(2, 3))):
        a, b = found[:, columns].ravel(), wanted[:, columns].ravel()
        figures[f"{name}_error"] = float(np.abs(a - b).mean())
        figures[f"{name}_correlation"] = float(np.corrcoef(a, b)[0, 1])
    return figures
