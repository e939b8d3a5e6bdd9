"""The joint phase of stage one, from a configuration and a corpus to a checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import Networks, build
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.training.compile import compile_networks
from liveportrait.training.config import JointSettings, StageOneConfig
from liveportrait.training.data.batches import batches, corpus_motion, motion_of, pictures_of
from liveportrait.training.data.corpora import Corpora
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import PairSampler
from liveportrait.training.losses.identity import chip_map
from liveportrait.training.phase import Phase
from liveportrait.training.stage_one.checkpoints import (
    VARIANTS,
    rendering_checkpoints,
    trained_motion,
    trained_renderer,
)
from liveportrait.training.stage_one.joint import JointTrainer, run_phase
from liveportrait.training.stage_one.joint_model import JointModel, Pair
from liveportrait.training.stage_one.validation import measure, shown

VALIDATION_BATCHES, VALIDATION_BATCH = 12, 2
VALIDATE_EVERY = 500  # steps
SEED_OFFSET = 100  # of the draws, so that the warm start's are not repeated
SHOWN = 6  # rows of the sample grid


def train_joint(config: StageOneConfig, base: Path, corpora: Corpora) -> JointModel:
    """Train to the end of the joint schedule, from its checkpoint if there is one; returns the moving average.

    `base`: the folder that the configuration's paths are relative to.
    """
    settings, device = joint_settings(config), torch.device(config.device)
    torch.manual_seed(config.seed)
    networks = starting_networks(config, base, corpora.train)
    side = networks.variant.input_size
    trainer = JointTrainer(
        networks,
        settings,
        device,
        bf16=config.bf16,
        from_scratch=not config.init,
        chips=chip_map(corpora.train.landmarks),
        vgg19=base / settings.vgg19 if settings.vgg19 else None,
    )
    phase = Phase("joint", config, settings.schedule, trainer.state())
    if config.compile:
        compile_networks(phase.state.modules.values(), device)
    check = batches(PairSampler(corpora.held_out, side), VALIDATION_BATCH, config.seed)
    validation = [pair_of(batch, device) for batch in itertools.islice(check, VALIDATION_BATCHES)]
    draw = PairSampler(corpora.train, side, settings.mix)
    loader = phase.batches(draw, config.seed + SEED_OFFSET, corpora.stream)

    def validate() -> dict[str, float]:
        average = phase.state.averages["generator"]
        assert isinstance(average, JointModel)
        figures, rows = measure(average, validation, settings.size, trainer.perceptual)
        grid = np.concatenate([np.concatenate([shown(p) for p in row], 1) for row in rows[:SHOWN]])
        cv2.imwrite(str(phase.folder / "joint.png"), grid[:, :, ::-1])
        return figures

    try:
        return run_phase(trainer, phase, pairs(loader, device), validate, VALIDATE_EVERY)
    finally:
        loader.close()


def joint_settings(config: StageOneConfig) -> JointSettings:
    """Those of the configuration, which must have some."""
    if config.joint is None:
        raise UserError("the configuration has no joint phase: add a [joint] table or choose another --part")
    return config.joint


def pairs(drawn: Iterable[dict[str, Tensor]], device: torch.device) -> Iterator[Pair]:
    """Batches of `PairSampler` as pairs."""
    for batch in drawn:
        yield pair_of(batch, device)


def pair_of(batch: dict[str, Tensor], device: torch.device) -> Pair:
    """A batch of `PairSampler` as a pair with its labels."""
    return Pair(
        source=pictures_of(batch, "source_picture", device),
        driving=pictures_of(batch, "driving_picture", device),
        source_label=motion_of(batch, "source_", device),
        driving_label=motion_of(batch, "driving_", device),
    )


def starting_networks(config: StageOneConfig, base: Path, corpus: Corpus) -> Networks:
    """What the joint phase starts from: the given weights, else the run's warm start, else random numbers."""
    if config.init:
        folder = base / config.init
        found = weights.load(folder if folder.is_dir() else config.init)
        if found.variant.architecture != config.variant:
            raise UserError(
                f"init = {config.init!r} holds weights of the architecture {found.variant.architecture!r}: "
                f"the configuration trains {config.variant!r}"
            )
        return found
    networks = build(VARIANTS[config.variant])
    if config.variant != "compact":
        return networks
    motion, rendering = trained_motion(config), rendering_checkpoints(config)
    if motion is not None:
        networks.motion = motion
    else:
        labels = corpus_motion(corpus.motion)
        assert isinstance(networks.motion, MotionExtractor)
        networks.motion.set_statistics(transform_keypoints(labels), labels)
    if rendering:
        renderer = trained_renderer(rendering[-1])
        networks.appearance, networks.warping = renderer.appearance, renderer.warping
        networks.generator = renderer.generator
    return networks
