"""Trains V: the sync scorer, the speech network, the free part's parameters and the gains; an hour on one core."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.data.speech import SpeechClip, read_clips
from liveportrait.errors import UserError
from liveportrait.metrics.sync import SyncMeter
from liveportrait.motion.voice.voice import Voice
from liveportrait.networks.voice.speech import BANDS, OUTPUTS, SpeechNetwork, SpeechSizes
from liveportrait.networks.voice.sync import SyncScorer
from liveportrait.training.checkpoint import samples_seen
from liveportrait.training.config import LossWeights, RunConfig, Schedule, read_run
from liveportrait.training.data.corpora import matching_shards
from liveportrait.training.phase import Objective, Terms, network_phase, weighted
from liveportrait.training.speech.calibration import calibrated
from liveportrait.training.speech.examples import PER_CLIP, Examples, usual_levels
from liveportrait.training.speech.free import fit_free
from liveportrait.training.speech.validation import correlation, speech_figures, sync_figures

NAME, SCORER = "speech", "sync"
VALIDATE_EVERY = 200  # steps
BETA = 0.5  # standard deviations: larger errors count linearly, smaller ones by their square
SHUT = 0.5  # standard deviations of the opening, up to which lips count as closed
JAW = 1 + 2  # column of jawOpen among the outputs
OTHERS = 0.2  # weight of distinguishing a clip's windows from those of other clips


@dataclass(frozen=True)
class SpeechWeights(LossWeights):
    """Weights of the terms."""

    opening: float = 1.0
    scores: float = 1.0
    velocity: float = 1.0
    correlation: float = 2.0
    jaw_correlation: float = 0.5
    closure: float = 0.5


@dataclass(frozen=True)
class SpeechConfig(RunConfig):
    """Settings for the training of V."""

    output: str = "runs/speech"
    average_decay: float = 0.995
    sizes: SpeechSizes = field(default_factory=SpeechSizes)
    weights: SpeechWeights = field(default_factory=SpeechWeights)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(10_800, 12, 2e-3, final_ratio=0.02, weight_decay=0.1)
    )
    scorer: Schedule = field(
        default_factory=lambda: Schedule(12_000, 24, 2e-3, final_ratio=0.02, weight_decay=0.2)
    )


def run(config_file: Path, output: str | None = None) -> Path:
    """Train to the end of both schedules, from checkpoints if there are any; returns the path of the voice.

    Raises `UserError` if no shard matches, or if one side of the split has no clips.
    """
    config = read_run(SpeechConfig, config_file, output)
    torch.set_num_threads(config.threads)
    shards = matching_shards(config.data, config_file.parent)
    one_in = config.data.hold_out_one_in
    clips, held_out = (list(read_clips(shards, one_in, apart)) for apart in (False, True))
    if not clips or not held_out:
        raise UserError(
            f"{len(clips)} clips to train on and {len(held_out)} held out: give shards of more people"
        )
    mean, deviation = usual_levels(clips)
    examples = Examples(clips, mean, deviation)
    scorer = train_scorer(config, examples, held_out, mean, deviation)
    network = train(config, examples, held_out, mean, deviation)
    free = fit_free(clips, mean, deviation, config.seed)
    voice = calibrated(
        Voice(network, torch.ones(OUTPUTS), torch.zeros(OUTPUTS), mean, deviation, free), clips
    )
    meter = SyncMeter(scorer, mean, deviation, examples.deviation)
    figures = speech_figures(voice, held_out, meter)
    print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    folder = Path(config.output)
    seen = samples_seen(folder / f"{NAME}.safetensors")
    seconds = sum(len(clip.lips) for clip in clips) / 25
    about = {
        "examples": seen, "minutes": round(seconds / 60, 1), "people": len({clip.identity for clip in clips}),
        "held_out": figures, "config": dataclasses.asdict(config),
    }  # fmt: skip
    voice.save(folder / "voice.safetensors", about)
    meter.save(folder / "scorer.safetensors")
    return folder / "voice.safetensors"


def train(
    config: SpeechConfig,
    examples: Examples,
    held_out: list[SpeechClip],
    mean: np.ndarray,
    deviation: np.ndarray,
) -> SpeechNetwork:
    """Train the speech network; returns its moving average."""
    torch.manual_seed(config.seed)
    network = SpeechNetwork(config.sizes)
    phase, average = network_phase(NAME, NAME, network, config, config.schedule)
    checks = Examples(held_out, mean, deviation, speeds=(1.0,))

    def terms(batch: tuple[Tensor, ...]) -> Terms:
        steps, wanted, style, there = batch
        return speech_terms(network(steps, style)[:, ::2], wanted, there, examples.deviation)

    def validate() -> dict[str, float]:
        return {"correlation": correlation(average, [each[0] for each in checks.clips])}

    batches = examples.batches(config.seed, phase.rank_slice.size, phase.state.step)
    phase.run(batches, weighted(NAME, terms, config.weights), validate, VALIDATE_EVERY)
    return average


def speech_terms(found: Tensor, wanted: Tensor, there: Tensor, deviation: Tensor) -> Terms:
    """Loss terms of predictions (B,T,28) against targets, over the existing frames, mask `there` (B,T)."""
    found, wanted = found / deviation, wanted / deviation
    gap = F.smooth_l1_loss(found, wanted, beta=BETA, reduction="none") * there[..., None]
    change = F.smooth_l1_loss(found.diff(dim=1), wanted.diff(dim=1), beta=BETA, reduction="none")
    change = change * there[:, 1:, None]
    return {
        "opening": gap[..., 0].mean(),
        "scores": gap[..., 1:].mean(),
        "velocity": change[..., 0].mean() + change[..., 1:].mean(),
        "correlation": 1 - correlations(found[..., 0], wanted[..., 0], there).mean(),
        "jaw_correlation": 1 - correlations(found[..., JAW], wanted[..., JAW], there).mean(),
        "closure": ((found[..., 0] - SHUT).relu() * (wanted[..., 0] < SHUT) * there).mean(),
    }


def correlations(first: Tensor, second: Tensor, there: Tensor) -> Tensor:
    """Correlations (B,) of signals (B,T) over the existing frames."""
    share = there / there.sum(1, keepdim=True)
    a, b = (signal - (signal * share).sum(1, keepdim=True) for signal in (first, second))
    power = (a * a * share).sum(1) * (b * b * share).sum(1)
    return (a * b * share).sum(1) / (power + 1e-6).sqrt()


def train_scorer(
    config: SpeechConfig,
    examples: Examples,
    held_out: list[SpeechClip],
    mean: np.ndarray,
    deviation: np.ndarray,
) -> SyncScorer:
    """Train the sync scorer; returns its moving average."""
    torch.manual_seed(config.seed)
    network = SyncScorer()
    phase, average = network_phase(SCORER, SCORER, network, config, config.scorer)
    checks = Examples(held_out, mean, deviation, speeds=(1.0,))

    def losses(batch: tuple[Tensor, Tensor]) -> list[Objective]:
        heard, seen = network.codes(*batch)
        loss = sync_loss(heard @ seen.T * network.temperature.exp())
        return [Objective(SCORER, loss, {})]

    def validate() -> dict[str, float]:
        own = [
            (each[0].steps[:, : 2 * BANDS].float(), each[0].wanted / examples.deviation)
            for each in checks.clips
        ]
        return sync_figures(average, own)._asdict()

    batches = examples.sync_batches(config.seed, phase.rank_slice.size, phase.state.step)
    phase.run(batches, losses, validate, VALIDATE_EVERY)
    return average


def sync_loss(scores: Tensor) -> Tensor:
    """Contrastive loss in both directions among the windows of a clip; with a small weight, also among all windows."""
    count = len(scores)
    clip = torch.arange(count) // PER_CLIP
    within = scores.masked_fill(clip[:, None] != clip, -1e9)
    own = torch.arange(count)
    return (
        F.cross_entropy(within, own) + F.cross_entropy(within.T, own) + OTHERS * F.cross_entropy(scores, own)
    )
