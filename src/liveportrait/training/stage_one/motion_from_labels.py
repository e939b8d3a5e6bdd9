"""Stage one, motion: M learns from single labelled frames."""

from __future__ import annotations

import torch

from liveportrait.networks import COMPACT, build
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import HALF_SIDE, Motion
from liveportrait.networks.keypoints import LIDS
from liveportrait.training.checkpoint import TrainingState, average_of
from liveportrait.training.compile import compiled
from liveportrait.training.config import StageOneConfig
from liveportrait.training.data.batches import corpus_motion, motion_of, pictures_of
from liveportrait.training.data.corpora import Corpora
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import FrameSampler
from liveportrait.training.losses.motion import LID_OPENINGS, LIP_OPENINGS, motion_losses, openings
from liveportrait.training.losses.rendering import weighted_sum
from liveportrait.training.phase import BETAS, Phase

VALIDATION_FRAMES = 240
VALIDATE_EVERY = 250  # steps


def train_motion(config: StageOneConfig, corpora: Corpora) -> MotionExtractor:
    """Train M to the end of its schedule, from its checkpoint if there is one; returns the moving average."""
    phase_config, device = config.motion, torch.device(config.device)
    schedule = phase_config.schedule
    torch.manual_seed(config.seed)
    network = build(COMPACT).motion
    assert isinstance(network, MotionExtractor)
    labels = corpus_motion(corpora.train.motion)
    network.set_statistics(transform_keypoints(labels), labels)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), betas=BETAS, weight_decay=schedule.weight_decay)
    average = average_of(network)
    state = TrainingState({"motion": network}, {"motion": optimizer}, {"motion": average})
    phase = Phase("motion", config, schedule, state)
    detailed = compiled(network.detailed, device) if config.compile else network.detailed
    loader = phase.batches(FrameSampler(corpora.train, phase_config.blinks), config.seed, corpora.stream)
    try:
        while not phase.finished:
            batch = next(loader)
            phase.seed()
            picture, label = pictures_of(batch, "picture", device), motion_of(batch, "", device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
                motion, coarse = detailed(picture, phase_config.patch_jitter)
            terms = motion_losses(motion, coarse, label)
            phase.step(weighted_sum(terms, phase_config.weights), terms)
            phase.log(lambda: validate(average, corpora.held_out, device), VALIDATE_EVERY)
    finally:
        loader.close()
    assert isinstance(average, MotionExtractor)
    return average


@torch.no_grad()
def validate(network: torch.nn.Module, held_out: Corpus, device: torch.device) -> dict[str, float]:
    """Figures on evenly spaced held-out frames.

    pixels: mean keypoint error, px of 256; degrees: mean angle between rotations; lip and lid: correlation of
    the openings' lengths with the labels' over all frames.
    """
    rows = torch.linspace(0, len(held_out.clip) - 1, min(VALIDATION_FRAMES, len(held_out.clip))).long()
    labels = Motion(*(value[rows] for value in corpus_motion(held_out.motion)))
    parts: list[Motion] = []
    for chunk in rows.split(24):
        pictures = torch.from_numpy(held_out.frames[chunk.numpy()]).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            parts.append(network(pictures.permute(0, 3, 1, 2).float().div(255)))
    found = Motion(*(torch.cat(values).cpu() for values in zip(*parts, strict=True)))
    error = (transform_keypoints(found) - transform_keypoints(labels))[..., :2].norm(dim=-1)
    cosine = ((found.rotation * labels.rotation).sum((1, 2)) - 1) / 2

    def correlation(pairs: list[int]) -> float:
        a, b = (openings(m)[:, pairs].norm(dim=-1).mean(1) for m in (found, labels))
        return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

    return {
        "pixels": float(error.mean() * HALF_SIDE),
        "lid_pixels": float(error[:, list(LIDS)].mean() * HALF_SIDE),
        "degrees": float(cosine.clamp(-1, 1).acos().rad2deg().mean()),
        "lip": correlation(LIP_OPENINGS),
        "lid": correlation(LID_OPENINGS),
    }
