"""Trains the opening reader: on labelled frames, and on rendered faces that the face mesh has measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.ratios import eye_ratios, lip_ratio
from liveportrait.motion.lifting import Array
from liveportrait.training.checkpoint import TrainingState, average_of
from liveportrait.training.corpus import Corpus
from liveportrait.training.frozen import FrozenNetworks, repeated, repeated_pose, to_pictures
from liveportrait.training.imitation import closed_form, opening_effect
from liveportrait.training.loop import BETAS, Phase
from liveportrait.training.opening_reader import OpeningReader, reading_loss
from liveportrait.training.sampling import Example, batches, pictures_of
from liveportrait.training.stage_two_config import StageTwoConfig
from liveportrait.training.stage_two_sampling import MotionBank, ratios_of, readable_rows

VALIDATE_EVERY = 250  # steps
VALIDATION_FRAMES = 400
REQUESTS = 4  # rendered pictures of one source
OVERDRIVE = (-0.3, 1.5)  # requests: what is rendered opens less than asked


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


def measured_openings(
    analyzer: FaceAnalyzer, picture: NDArray[np.uint8], near: Face | None = None
) -> Array | None:
    """Openings (3,) of the face in a picture (S,S,3) by the face mesh, where it settles; None if there is none."""
    face = analyzer.track(picture, near) if near else None
    if face is None:
        faces = analyzer.detect(picture, smallest=picture.shape[0] / 4)
        if not faces:
            return None
        face = faces[0]
    face = analyzer.track(picture, face)
    return None if face is None else np.concatenate([eye_ratios(face.landmarks), lip_ratio(face.landmarks)])


def rendered_frames(
    networks: FrozenNetworks, corpus: Corpus, bank: MotionBank, count: int, seed: int
) -> MeasuredFrames:
    """Sources with closed-form offsets for random openings, rendered, and measured by the face mesh."""
    rng = np.random.default_rng((seed, 0x4EAD))
    analyzer, effect = FaceAnalyzer(), opening_effect(bank)
    usable = readable_rows(corpus)
    frames: list[NDArray[np.uint8]] = []
    landmarks: list[Array] = []
    ratios: list[Array] = []
    for tried in itertools.count():
        if len(frames) >= count:
            break
        if tried >= count:
            raise UserError(
                f"Only {len(frames)} of {tried * REQUESTS} rendered pictures show a face: these weights do not "
                "reconstruct faces well enough for stage two; set reader.rendered to 0 to train without."
            )
        row = rng.choice(usable, 1)
        features, motion, pose = networks.source(to_pictures(corpus.frames[row], networks.device))
        own = torch.from_numpy(ratios_of(corpus.landmarks[row])).to(networks.device)
        wanted = torch.from_numpy(rng.uniform(*OVERDRIVE, (REQUESTS, 2)).astype(np.float32)).to(
            networks.device
        )
        offset = torch.zeros_like(pose.keypoints)
        for column, part in enumerate(("eyes", "lips")):
            offset = offset + closed_form(motion, own, wanted[:, column], effect, part)
        still = repeated_pose(pose, REQUESTS)
        with torch.no_grad():
            driven = still._replace(keypoints=still.keypoints + offset)
            pictures, _ = networks.render(repeated(features, REQUESTS), still, driven)
        for picture in to_frames(pictures):
            openings = measured_openings(analyzer, picture)
            if openings is not None and openings.max() < 1.5:
                frames.append(picture)
                landmarks.append(corpus.landmarks[row[0]])
                ratios.append(openings)
    return MeasuredFrames(np.stack(frames), np.stack(landmarks), np.stack(ratios), np.arange(len(frames)))


def to_frames(pictures: Tensor) -> NDArray[np.uint8]:
    """Frames (B,256,256,3) uint8 of pictures (B,3,S,S) in [0, 1]."""
    if pictures.shape[-1] != 256:
        pictures = torch.nn.functional.interpolate(pictures, size=(256, 256), mode="area")
    return (pictures.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).cpu().contiguous().numpy()


def train_reader(
    config: StageTwoConfig, corpus: Corpus, held_out: Corpus, render: Callable[[], MeasuredFrames | None]
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
    labelled, rendered = labelled_frames(corpus), render()

    def draw(rng: np.random.Generator) -> Example:
        return labelled(rng) if rendered is None or rng.random() < 0.5 else rendered(rng)

    loader = batches(draw, phase.share, config.seed, phase.state.step * schedule.accumulate)
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
