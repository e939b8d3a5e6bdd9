"""Stage one (paper section 3.2), from a configuration file to weights.

The paper's joint training of F, M, W and G ([joint] in the configuration):

    liveportrait train stage-one --config configs/base.toml

The compact model's warm start; on one machine without an accelerator run the two parts side by side, one thread each:

    liveportrait train stage-one --config configs/compact.toml --part motion
    liveportrait train stage-one --config configs/compact.toml --part render

A part that is stopped goes on from its last checkpoint when started again. `--part export` writes the weights.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import torch

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import COMPACT, Networks
from liveportrait.networks.compact.generator import Generator
from liveportrait.training import distributed
from liveportrait.training.config import RunConfig, StageOneConfig, load_config
from liveportrait.training.data.corpora import Corpora, open_corpora
from liveportrait.training.stage_one.checkpoints import (
    joint_checkpoint,
    rendering_checkpoints,
    samples_seen,
    trained_jointly,
    trained_motion,
    trained_renderer,
)
from liveportrait.training.stage_one.joint_run import train_joint
from liveportrait.training.stage_one.motion_from_labels import train_motion
from liveportrait.training.stage_one.rendering_from_labels import Renderer, RenderTrainer

LICENCE = "Research use only: the training data do not allow more."
Part = Literal["all", "motion", "render", "joint", "export"]


def run(config_path: Path, part: Part = "all", output: str | None = None) -> Path:
    """Train, and return the folder with the weights (or, for one part alone, the run's folder).

    Raises UserError for a wrong configuration, missing shards or a part whose input is not trained yet.
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
    """The given parts, one after the other; `base` is what the configuration's paths are relative to."""
    corpora = run_corpora(config, base)
    if "motion" in parts:
        train_motion(config, corpora)
    if "render" in parts:
        train_rendering(config, corpora, base / config.perceptual if config.perceptual else None)
    if "joint" in parts:
        train_joint(config, base, corpora)


def planned(config: StageOneConfig) -> tuple[Part, ...]:
    """The parts that a configuration asks for, in order: a warm start for compact weights that begin from nothing."""
    joint: tuple[Part, ...] = () if config.joint is None else ("joint",)
    if config.variant != "compact" or config.init:
        return joint
    return ("motion", "render", *joint) if config.render or not joint else joint


def run_corpora(config: RunConfig, base: Path) -> Corpora:
    """Training and held-out corpus, kept in the run's folder."""
    return open_corpora(config.data, base, Path(config.output) / "corpus", config.seed)


def train_rendering(config: StageOneConfig, corpora: Corpora, perceptual: Path | None) -> None:
    """The phases of rendering, one after the other, each from the average of the one before."""
    renderer: Renderer | None = None
    for number, phase in enumerate(config.render):
        motion = None
        if phase.needs_motion:
            motion = trained_motion(config)
            if motion is None:
                raise UserError(
                    f"render[{number}] needs a trained M in {config.output}: run --part motion first."
                )
            motion = motion.to(config.device)
        if renderer is not None and phase.earlier_warping:
            mix_warping(renderer, trained_renderer(rendering_checkpoints(config)[0]), phase.earlier_warping)
        renderer = RenderTrainer(config, number, motion, perceptual).run(corpora, renderer)


def mix_warping(renderer: Renderer, earlier: Renderer, share: float) -> None:
    """Average W with an earlier W of the same run (Wortsman et al. 2022, "Model soups")."""
    theirs = earlier.warping.state_dict()
    for name, value in renderer.warping.state_dict().items():
        value.lerp_(theirs[name], share)


def export(config: StageOneConfig) -> Path:
    """Write the moving averages as weights, `weights/` in the run's folder.

    Those of the joint phase where it has begun, else the warm start's.
    """
    checkpoint = joint_checkpoint(config)
    if checkpoint is not None:
        networks, done = trained_jointly(config, checkpoint), [checkpoint]
    else:
        networks, done = warm_start(config)
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


def warm_start(config: StageOneConfig) -> tuple[Networks, list[Path]]:
    """The networks trained apart, and their checkpoints."""
    motion, done = trained_motion(config), rendering_checkpoints(config)
    if motion is None or not done:
        raise UserError(f"{config.output} holds no trained M or no rendering phase: train the parts first.")
    renderer = trained_renderer(done[-1])
    networks = Networks(COMPACT, renderer.appearance, motion, renderer.warping, renderer.generator)
    return networks, [Path(config.output) / "motion.safetensors", *done]
