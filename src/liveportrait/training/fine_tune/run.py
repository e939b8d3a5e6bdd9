"""Fine-tunes weights to one person, a style or animals, with held-out figures before and after."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from liveportrait import weights
from liveportrait.engine import pick_device
from liveportrait.errors import UserError
from liveportrait.folders import check_new_folder, temporary_folder
from liveportrait.media.image import contact_sheet, save_image
from liveportrait.metrics.perceptual import PerceptualDistance
from liveportrait.training.config import Schedule
from liveportrait.training.data.samplers import PairMix
from liveportrait.training.fine_tune.data import BATCH, Target, held_out_pairs, read, training_pairs
from liveportrait.training.losses.perceptual import chip_map
from liveportrait.training.losses.rendering import RenderWeights
from liveportrait.training.phase import Phase
from liveportrait.training.stage_one.config import JointSettings, JointWeights, StageOneConfig
from liveportrait.training.stage_one.joint import JointTrainer
from liveportrait.training.stage_one.validation import Rows, measure_joint, shown

LICENCE = "Research use only, and on the terms of the pictures they were fine-tuned on."
HELD_OUT_BATCHES, HELD_OUT_BATCH = 16, 2
SHEET_ROWS = 8  # of the contact sheet
DEFAULT_SIZE = 128  # px, of the compact model
REPORT_FILE, SHEET_FILE, LOG_FILE = "fine_tune.json", "fine_tune.png", "fine_tune.jsonl"

LEARNING_RATE = 1e-4
# Of the weights that are kept: the learning rate is constant, so the average must settle
AVERAGE_DECAY = 0.99
ADVERSARIAL_FROM = 2000  # samples; before that the discriminators know too little
# Share of labelled motion: from keypoints that M cannot find yet, W and G mostly learn blur
KNOWN_MOTION = 0.8

# COMPACT: labels pin the keypoints, which are landmarks, and the losses of the warm start continue.
COMPACT = JointWeights(
    equivariance=2.0, keypoint_prior=0.0, head_pose=1.0, deformation=0.0, guide=1.0,
    perceptual_whole=0.4, perceptual_face=0.7, perceptual_lips=0.4,
    gan_whole=0.02, gan_face=0.02, gan_lips=0.02,
    matching_whole=0.2, matching_face=0.2, matching_lips=0.2,
    identity=0.3, labels=1.0, layers=1.0,
)  # fmt: skip
# BASE: the keypoints' meaning was learned without labels. The anchor preserves it; labels would change it.
BASE = JointWeights(head_pose=0.0, guide=0.0, keypoint_prior=0.0, anchor=10.0)


@dataclass(frozen=True)
class Options:
    """Options of a fine-tuning."""

    to: Target
    minutes: float = 10.0  # of training; measuring before and after takes extra time
    samples: int | None = None  # instead of a time
    # Side (px) of the pictures that F sees and that are compared; the variant's by default
    size: int | None = None
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """The result of a fine-tuning, with the figures of `stage_one.validation.measure_joint` on held-out pairs."""

    weights: str  # the weights it started from
    to: Target
    samples: int
    minutes: float
    before: dict[str, float]
    after: dict[str, float]

    def table(self) -> str:
        """The figures as text, one per line."""
        lines = [
            f"{self.to}: {self.samples} samples in {self.minutes:.1f} min",
            f"{'':16}{'before':>10}{'after':>10}",
        ]
        lines += [f"{name:16}{value:10.4f}{self.after[name]:10.4f}" for name, value in self.before.items()]
        return "\n".join(lines)


def weights_for(target: Target, architecture: str) -> JointWeights:
    """The weights of the loss terms. For animals head pose, lip GAN and identity are dropped, as in the paper."""
    terms = COMPACT if architecture == "compact" else BASE
    if target != "animals":
        return terms
    terms = replace(terms, head_pose=0.0, gan_lips=0.0, matching_lips=0.0, identity=0.0)
    if architecture == "compact":
        terms = replace(terms, equivariance=10.0, deformation=0.2, consistency=2.0, anchor=1.0)
    return terms


def settings_for(target: Target, architecture: str, size: int, samples: int) -> JointSettings:
    """Settings of a joint phase of `samples` samples at a constant learning rate."""
    schedule = Schedule(
        samples=samples,
        batch=BATCH,
        learning_rate=LEARNING_RATE,
        final_ratio=1.0,
        warmup_steps=20,
        weight_decay=0.0,
    )
    return JointSettings(
        schedule,
        size=size,
        weights=weights_for(target, architecture),
        layers=RenderWeights(keep=0.25, texture=6.0, still=0.3),
        mix=PairMix(pictures=0.2, extremes=0.3, distant=0.7),
        adversarial_from=ADVERSARIAL_FROM,
        known_motion=KNOWN_MOTION,
        fixed_statistics=True,
    )


def run(start: str | Path, shards: Sequence[Path], output: Path, options: Options) -> Report:
    """Fine-tune weights and write them to the new folder `output`, with the figures and a contact sheet.

    start: a name or folder of weights. Raises `UserError` for impossible options, shards that lack what the target
    needs, or an output that already exists.
    """
    _check(options, shards)
    check_new_folder(output, may_be_empty=True)
    device = torch.device(pick_device(options.device))
    networks = weights.load(start, device)
    variant = networks.variant
    size = options.size or (DEFAULT_SIZE if variant.architecture == "compact" else variant.input_size)
    _check_size(size, variant.architecture, variant.input_size)
    samples = options.samples or 10**9
    settings = settings_for(options.to, variant.architecture, size, samples)
    torch.manual_seed(options.seed)
    with temporary_folder() as scratch:
        train, held_out = read(shards, scratch / "corpus", options.to, options.seed)
        chips = None if train.labelled is None else chip_map(train.labelled.landmarks)
        trainer = JointTrainer(networks, settings, device, bf16=True, chips=chips)
        config = StageOneConfig(
            output=str(scratch), seed=options.seed, average_decay=AVERAGE_DECAY, checkpoint_seconds=math.inf
        )
        phase = Phase("fine_tune", config, settings.schedule, trainer.state)
        perceptual = PerceptualDistance().to(device)
        check = held_out_pairs(held_out, variant.input_size, device, HELD_OUT_BATCHES, HELD_OUT_BATCH)

        def figures() -> tuple[dict[str, float], Rows]:
            found, rows = measure_joint(trainer.average, check, size, perceptual)
            return {"psnr_gain": found["psnr"] - found["psnr_copy"], **found}, rows

        before, rows_before = figures()
        started = time.monotonic()
        deadline = math.inf if options.samples else started + 60 * options.minutes
        pairs = training_pairs(train, variant.input_size, settings.mix, device, options.seed)
        phase.run(pairs, trainer.losses, dict, 10**9, lambda: time.monotonic() > deadline)
        minutes = (time.monotonic() - started) / 60
        after, rows_after = figures()
        report = Report(str(start), options.to, phase.state.samples, round(minutes, 2), before, after)
        found = trainer.average.networks()
        tuned = replace(
            networks,
            appearance=found.appearance,
            motion=found.motion,
            warping=found.warping,
            generator=found.generator,
        )
        about = {"fine_tuned_from": str(start), **asdict(report), "settings": asdict(settings)}
        origin = f"fine-tuning of {start} to {options.to} with this program"
        sheet, log = _sheet(rows_before, rows_after), scratch / LOG_FILE

        def accompany(folder: Path) -> None:
            if log.exists():
                (folder / LOG_FILE).write_text(log.read_text())
            (folder / REPORT_FILE).write_text(json.dumps(asdict(report), indent=2) + "\n")
            save_image(folder / SHEET_FILE, sheet)

        weights.save(tuned, output, weights.Metadata(origin, LICENCE, about), accompany=accompany)
    return report


def _check(options: Options, shards: Sequence[Path]) -> None:
    if not shards:
        raise UserError("there is nothing to fine-tune on: name shards with --data")
    if options.samples is None and not 0 < options.minutes < math.inf:
        raise UserError(f"--minutes is {options.minutes}: it must be greater than 0")
    if options.samples is not None and options.samples <= 0:
        raise UserError(f"--samples is {options.samples}: it must be greater than 0")


def _check_size(size: int, architecture: str, input_size: int) -> None:
    if architecture == "compact" and size not in (64, 128, 192, 256):
        raise UserError(f"--size is {size}: the compact model takes 64, 128, 192 or 256")
    if architecture != "compact" and size != input_size:
        raise UserError(f"--size is {size}: these weights take pictures of {input_size} px")


def _sheet(before: Rows, after: Rows) -> np.ndarray:
    """A contact sheet with a row per pair: source, driving picture, output before and after."""
    rows = [
        [*(shown(picture) for picture in old), shown(new[-1])]
        for old, new in zip(before[:SHEET_ROWS], after[:SHEET_ROWS], strict=True)
    ]
    return contact_sheet(rows, ["source, driving, before, after", *([""] * (len(rows) - 1))], cell=192)
