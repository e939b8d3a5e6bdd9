"""Stage one (paper section 3.2), from a configuration file to weights.

The paper's joint training of F, M, W and G ([joint] in the configuration):

    liveportrait train stage-one --config configs/base.toml

The compact model's warm start; on a machine without an accelerator run both parts at the same time, one thread each:

    liveportrait train stage-one --config configs/compact.toml --part motion
    liveportrait train stage-one --config configs/compact.toml --part render

A stopped part continues from its last checkpoint when started again. `--part export` writes the weights.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import Networks, build
from liveportrait.networks.compact.generator import Generator
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.training import distributed
from liveportrait.training.checkpoint import load_average, samples_seen
from liveportrait.training.config import RunConfig
from liveportrait.training.data.batches import batches
from liveportrait.training.data.corpora import Corpora, open_corpora
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import PairSampler
from liveportrait.training.losses.perceptual import chip_map
from liveportrait.training.phase import Objective, Phase, compile_networks
from liveportrait.training.stage_one.config import JointSettings, StageOneConfig, load_config
from liveportrait.training.stage_one.joint import JointTrainer
from liveportrait.training.stage_one.joint_model import JointModel, Pair, joint_model
from liveportrait.training.stage_one.validation import GRID_ROWS, measure_joint, shown
from liveportrait.training.stage_one.warm_start import (
    rendering_checkpoints,
    train_motion,
    train_rendering,
    trained_motion,
    trained_renderer,
    warm_started,
)

LICENCE = "Research use only: the training data do not allow more."
VALIDATION_BATCHES, VALIDATION_BATCH = 12, 2
VALIDATE_EVERY = 500  # steps
SEED_OFFSET = 100  # so that the joint phase does not repeat the warm start's draws
Part = Literal["all", "motion", "render", "joint", "export"]


def run(config_path: Path, part: Part = "all", output: str | None = None) -> Path:
    """Train, and return the folder with the weights (or, for a single part, the run's folder).

    Raises `UserError` for a wrong configuration, missing shards or a part whose input is not trained yet.
    """
    config = load_config(config_path)
    folder = Path(output or config.output)
    config = dataclasses.replace(config, output=str(folder))
    if part == "export":
        return export(config)
    torch.set_num_threads(config.threads)
    with distributed.processes(config.device) as device:
        config = dataclasses.replace(config, device=device)
        train(config, planned(config) if part == "all" else (part,), config_path.parent)
        return export(config) if part == "all" and distributed.is_first() else folder


def train(config: StageOneConfig, parts: tuple[Part, ...], base: Path) -> None:
    """Train the given parts in turn; the configuration's paths are relative to `base`."""
    corpora = run_corpora(config, base)
    if "motion" in parts:
        train_motion(config, corpora)
    if "render" in parts:
        train_rendering(config, corpora, base / config.perceptual if config.perceptual else None)
    if "joint" in parts:
        train_joint(config, base, corpora)


def train_joint(config: StageOneConfig, base: Path, corpora: Corpora) -> JointModel:
    """Train to the end of the joint schedule, from its checkpoint if there is one; returns the moving average.

    The configuration's paths are relative to `base`.
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
    phase = Phase("joint", config, settings.schedule, trainer.state)
    if config.compile:
        compile_networks(phase.state.modules.values(), device)
    check = batches(PairSampler(corpora.held_out, side), VALIDATION_BATCH, config.seed)
    validation = [Pair.of(batch, device) for batch in itertools.islice(check, VALIDATION_BATCHES)]

    def validate() -> dict[str, float]:
        figures, rows = measure_joint(trainer.average, validation, settings.size, trainer.perceptual)
        grid = np.concatenate([np.concatenate([shown(p) for p in row], 1) for row in rows[:GRID_ROWS]])
        cv2.imwrite(str(phase.folder / "joint.png"), grid[:, :, ::-1])
        return figures

    def losses(batch: dict[str, Tensor]) -> Iterator[Objective]:
        return trainer.losses(Pair.of(batch, device))

    sampler = PairSampler(corpora.train, side, settings.mix)
    with closing(phase.batches(sampler, config.seed + SEED_OFFSET, corpora.stream)) as drawn:
        phase.run(drawn, losses, validate, VALIDATE_EVERY)
    return trainer.average


def joint_settings(config: StageOneConfig) -> JointSettings:
    """The configuration's settings of the joint phase. Raises `UserError` if it has none."""
    if config.joint is None:
        raise UserError("the configuration has no joint phase: add a [joint] table or choose another --part")
    return config.joint


def starting_networks(config: StageOneConfig, base: Path, corpus: Corpus) -> Networks:
    """The networks that the joint phase starts from: the given weights, or the run's warm start, or random ones."""
    if config.init:
        folder = base / config.init
        found = weights.load(folder if folder.is_dir() else config.init)
        if found.variant.architecture != config.variant:
            raise UserError(
                f"init = {config.init!r} has weights of the architecture {found.variant.architecture!r}, "
                f"but the configuration trains {config.variant!r}"
            )
        return found
    networks = build(config.sizes)
    if not isinstance(networks.motion, MotionExtractor):  # only COMPACT has a warm start
        return networks
    motion, rendering = trained_motion(config), rendering_checkpoints(config)
    if motion is not None:
        networks.motion = motion
    else:
        labels = corpus.motion
        networks.motion.set_statistics(transform_keypoints(labels), labels)
    if rendering:
        renderer = trained_renderer(rendering[-1])
        networks.appearance, networks.warping = renderer.appearance, renderer.warping
        networks.generator = renderer.generator
    return networks


def planned(config: StageOneConfig) -> tuple[Part, ...]:
    """The parts that a configuration needs, in order; compact weights from scratch begin with a warm start."""
    joint: tuple[Part, ...] = () if config.joint is None else ("joint",)
    if config.variant != "compact" or config.init:
        return joint
    return ("motion", "render", *joint) if config.render or not joint else joint


def run_corpora(config: RunConfig, base: Path) -> Corpora:
    """Training and held-out corpus, kept in the run's folder."""
    return open_corpora(config.data, base, Path(config.output) / "corpus", config.seed)


def export(config: StageOneConfig) -> Path:
    """Write the moving averages as weights to `weights/` in the run's folder.

    They are the joint phase's if it has begun, otherwise the warm start's.
    """
    checkpoint = joint_checkpoint(config)
    if checkpoint is not None:
        networks, done = trained_jointly(config, checkpoint), [checkpoint]
    else:
        networks, done = warm_started(config)
    if isinstance(networks.generator, Generator):
        networks.generator.keep_more(config.mask_shift)
    training = {
        "config": dataclasses.asdict(config),
        "last_phase": done[-1].stem,
        "samples": {path.stem: samples_seen(path) for path in done},
    }
    target = Path(config.output) / "weights"
    weights.save(networks, target, weights.Metadata("stage one of this program", LICENCE, training))
    return target


def joint_checkpoint(config: StageOneConfig) -> Path | None:
    """The joint phase's checkpoint; None if there is no such phase or it has not begun."""
    path = Path(config.output) / "joint.safetensors"
    return path if config.joint is not None and path.exists() else None


def trained_jointly(config: StageOneConfig, checkpoint: Path) -> Networks:
    """F, M, W and G of the joint phase."""
    model = joint_model(build(config.sizes), from_scratch=not config.init)
    return load_average(checkpoint, "generator", model).networks()
