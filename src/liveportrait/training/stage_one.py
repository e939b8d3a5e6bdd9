"""Stage one (paper section 3.2) for the compact model, from a configuration file to weights.

On one machine without an accelerator, run the two parts side by side, one thread each:

    liveportrait train stage-one --config configs/compact.toml --part motion
    liveportrait train stage-one --config configs/compact.toml --part render

A part that is stopped goes on from its last checkpoint when started again. `--part export` writes the weights.
"""

from __future__ import annotations

import dataclasses
import glob
from pathlib import Path
from typing import Literal

import torch

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import COMPACT, Networks, build
from liveportrait.networks.compact.generator import Generator
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.training.checkpoint import TrainingState
from liveportrait.training.config import StageOneConfig, load_config
from liveportrait.training.corpus import Corpus, build_corpus, load_corpus
from liveportrait.training.motion_phase import train_motion
from liveportrait.training.render_phase import Renderer, RenderTrainer

LICENCE = "Research use only: the training data do not allow more."
Part = Literal["all", "motion", "render", "export"]


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
    corpus, held_out = corpora(config, config_path.parent)
    if part in ("all", "motion"):
        train_motion(config, corpus, held_out)
    if part in ("all", "render"):
        perceptual = config_path.parent / config.perceptual if config.perceptual else None
        train_rendering(config, corpus, held_out, perceptual)
    return export(config) if part == "all" else folder


def corpora(config: StageOneConfig, base: Path) -> tuple[Corpus, Corpus]:
    """Training and held-out corpus, decoded from the shards once and kept in the run's folder."""
    data = config.data
    folder = Path(config.output) / "corpus"
    shards = [Path(path) for pattern in data.shards for path in sorted(glob.glob(str(base / pattern)))]
    if not shards:
        raise UserError(f"No shards match {list(data.shards)} from {base}: correct data.shards.")
    for name, held_out in (("train", False), ("held-out", True)):
        if not (folder / name / "corpus.json").exists():
            build_corpus(
                shards, folder / name, data.frames_per_clip, data.hold_out_one_in, config.seed, held_out
            )
    return load_corpus(folder / "train"), load_corpus(folder / "held-out")


def trained_motion(config: StageOneConfig) -> MotionExtractor | None:
    """The moving average of M from its checkpoint, or None before there is one."""
    path = Path(config.output) / "motion.safetensors"
    if not path.exists():
        return None
    network = build(COMPACT).motion
    assert isinstance(network, MotionExtractor)
    TrainingState({}, {}, {"motion": network}).load(path)
    return network.eval()


def train_rendering(
    config: StageOneConfig, corpus: Corpus, held_out: Corpus, perceptual: Path | None
) -> None:
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
        renderer = RenderTrainer(config, number, motion, perceptual).run(corpus, held_out, renderer)


def export(config: StageOneConfig) -> Path:
    """Write the moving averages as weights, `weights/` in the run's folder.

    W may be averaged with an earlier W of the same run (Wortsman et al. 2022, "Model soups").
    """
    folder = Path(config.output)
    motion = trained_motion(config)
    checkpoints = [folder / f"render-{number}.safetensors" for number in range(len(config.render))]
    done = [path for path in checkpoints if path.exists()]
    if motion is None or not done:
        raise UserError(f"{folder} holds no trained M or no rendering phase: train both parts first.")
    renderer, earlier = trained_renderer(done[-1]), trained_renderer(done[0])
    warping = earlier.warping.state_dict()
    for name, value in renderer.warping.state_dict().items():
        value.lerp_(warping[name], 1 - config.warping_share)
    assert isinstance(renderer.generator, Generator)
    renderer.generator.keep_more(config.mask_shift)
    networks = Networks(COMPACT, renderer.appearance, motion, renderer.warping, renderer.generator)
    target = folder / "weights"
    training = {
        "config": dataclasses.asdict(config),
        "last_phase": done[-1].stem,
        "samples": {path.stem: samples_seen(path) for path in [folder / "motion.safetensors", *done]},
    }
    weights.save(networks, target, weights.Metadata("stage one of this program", LICENCE, training))
    return target


def trained_renderer(checkpoint: Path) -> Renderer:
    """The moving averages of F, W and G."""
    renderer = Renderer()
    TrainingState({}, {}, {"render": renderer}).load(checkpoint)
    return renderer


def samples_seen(checkpoint: Path) -> int:
    """How many samples a checkpoint has seen."""
    state = TrainingState({}, {}, {})
    state.load(checkpoint)
    return state.samples
