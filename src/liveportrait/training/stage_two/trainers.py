"""Stage two's three trainings: F, M, W and G stay fixed, one small module learns.

    L_st   = ‖(I_st − I_recon) ⊙ (1 − M_st)‖₁ + w_reg ‖Δ_st‖₁
    L_eyes = ‖(I_eyes − I_recon) ⊙ (1 − M_eyes)‖₁ + w_cond ‖c_p − c_d‖₁ + w_reg ‖Δ_eyes‖₁        (L_lip alike)

with I_recon = G(W(f_s; x_s, x_s)). L_st has two more terms where W tells its flow: see `StitchingLosses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Motion, Pose
from liveportrait.training.checkpoint import TrainingState, average_of
from liveportrait.training.config import Schedule
from liveportrait.training.data.batches import batches, pictures_of
from liveportrait.training.data.samplers import Sampler
from liveportrait.training.losses.rendering import weighted_sum
from liveportrait.training.phase import BETAS, Phase
from liveportrait.training.stage_two.closed_form import PARTS
from liveportrait.training.stage_two.config import StageTwoConfig
from liveportrait.training.stage_two.frozen_networks import FrozenNetworks, repeated, repeated_pose
from liveportrait.training.stage_two.losses import (
    eye_mask,
    face_mask,
    flow_length,
    head_mask,
    held_region,
    lip_mask,
    outside_difference,
)
from liveportrait.training.stage_two.opening_regressor import OpeningReader
from liveportrait.training.stage_two.samplers import FlowSources, MotionBank, drive, seen_keypoints

VALIDATE_EVERY = 200  # steps
DRIVES = ("kind", "first", "now", "shift", "zoom", "turn")
MEASURING_NOISE = 0.01  # of the source's own openings, as two measurements of one face differ
Losses = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def train_module(
    name: str,
    module: nn.Module,
    config: StageTwoConfig,
    schedule: Schedule,
    weights: object,
    sampler: Sampler,
    losses: Losses,
    validate: Callable[[nn.Module], Mapping[str, float]],
) -> nn.Module:
    """Train one module to the end of a schedule, or on from its checkpoint; returns its moving average.

    `name` is the phase's; an example is a source with several drives or requests, and the schedule counts sources.
    """
    optimizer = torch.optim.AdamW(module.parameters(), betas=BETAS, weight_decay=schedule.weight_decay)
    average = average_of(module)
    phase = Phase(name, config, schedule, TrainingState({name: module}, {name: optimizer}, {name: average}))
    loader = batches(sampler, phase.rank_slice, config.seed + 1, phase.state.step * schedule.accumulate)
    while not phase.finished:
        batch = next(loader)
        phase.seed()
        terms = losses(batch)
        phase.step(weighted_sum(terms, weights), terms)
        phase.log(lambda: validate(average), VALIDATE_EVERY)
    return average


def sources_of(batch: dict[str, Tensor], networks: FrozenNetworks) -> tuple[Features, Motion, Pose]:
    """F, M and pose of a batch's sources."""
    seen = seen_keypoints(batch["landmarks"].numpy(), batch["rotation"].numpy())
    pictures = pictures_of(batch, "picture", networks.device)
    motion = networks.tracked_motion(pictures, seen, batch["tracked"].to(networks.device))
    return networks.features(pictures), motion, pose_of(motion)


@dataclass(frozen=True, eq=False)
class StitchingTask:
    """What the two trainings of S share."""

    module: nn.Module
    networks: FrozenNetworks
    bank: MotionBank
    drives: int  # of every source

    def poses(self, batch: dict[str, Tensor], motion: Motion) -> tuple[Pose, Pose, Pose]:
        """Poses (B·n) of sources (B) as they are, driven without stitching, and with it."""
        flat = {name: batch[name].to(self.networks.device).flatten(0, 1) for name in DRIVES}
        many = Motion(*(part.repeat_interleave(self.drives, dim=0) for part in motion))
        still, driven = pose_of(many), pose_of(drive(many, flat, self.bank, self.networks.groups))
        keypoints = self.module(still.keypoints, driven.keypoints)
        return still, driven, driven._replace(keypoints=keypoints, pin=torch.ones_like(driven.pin))


def flow_terms(flow: Tensor, unstitched: Tensor, landmarks: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """What W's flow (B,h,w,2) says: outside the head nothing shall move, and the face as without stitching."""
    size = flow.shape[1]
    return {
        "still": flow_length(flow, held_region(head_mask(landmarks, shift, size))),
        "face": flow_length(flow, face_mask(landmarks, shift, size), unstitched),
    }


def head_shift(still: Pose, driven: Pose) -> Tensor:
    """How far the head moves in the picture (B,2): the mean of its keypoints."""
    return (driven.keypoints - still.keypoints)[..., :2].mean(1)


class StitchingLosses:
    """L_st of a batch of sources with drives.

    Beside the paper's terms, where W tells its flow: "still" holds what lies outside the head (a plain shoulder looks
    the same wherever it is, so pixels alone hold it loosely), and "face" lets the face move as without stitching.
    """

    def __init__(self, task: StitchingTask) -> None:
        self.task = task

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of a batch from `SourceSampler`."""
        task, networks, count = self.task, self.task.networks, self.task.drives
        features, motion, pose = sources_of(batch, networks)
        still, driven, stitched = task.poses(batch, motion)
        landmarks = batch["landmarks"].to(networks.device).repeat_interleave(count, dim=0)
        many, shift = repeated(features, count), head_shift(still, driven)
        picture, flow = networks.render(many, still, stitched)
        with torch.no_grad():
            recon = networks.render(features, pose, pose)[0].repeat_interleave(count, dim=0)
        terms = {
            "outside": outside_difference(picture, recon, head_mask(landmarks, shift, picture.shape[-1])),
            "regularity": (stitched.keypoints - driven.keypoints).abs().mean(),
        }
        if flow is not None:
            with torch.no_grad():
                unstitched = networks.flow(many["context"], still, driven)
            terms |= flow_terms(flow, unstitched, landmarks, shift)
        return terms


class FlowLosses:
    """Those terms of `StitchingLosses` that need no picture, on sources prepared once."""

    def __init__(self, task: StitchingTask, sources: FlowSources) -> None:
        self.task, self.sources = task, sources

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of a batch from `FlowSampler`."""
        networks, count, rows = self.task.networks, self.task.drives, batch["source"]
        still, driven, stitched = self.task.poses(
            batch, Motion(*(part[rows] for part in self.sources.motion))
        )
        context = self.sources.context[rows].float().repeat_interleave(count, dim=0)
        landmarks = self.sources.landmarks[rows].repeat_interleave(count, dim=0)
        with torch.no_grad():
            unstitched = networks.flow(context, still, driven)
        flow = networks.flow(context, still, stitched)
        terms = flow_terms(flow, unstitched, landmarks, head_shift(still, driven))
        return terms | {"regularity": (stitched.keypoints - driven.keypoints).abs().mean()}


class RetargetingLosses:
    """L_eyes or L_lip of a batch of sources with requests."""

    def __init__(
        self, name: Literal["eyes", "lips"], module: nn.Module, networks: FrozenNetworks,
        reader: OpeningReader, config: StageTwoConfig,
    ) -> None:  # fmt: skip
        self.columns, self.mask = list(PARTS[name]), eye_mask if name == "eyes" else lip_mask
        self.module, self.networks, self.reader = module, networks, reader
        self.settings = getattr(config, name)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        device, count = self.networks.device, self.settings.requests
        features, _, pose = sources_of(batch, self.networks)
        many, still = repeated(features, count), repeated_pose(pose, count)
        landmarks = batch["landmarks"].to(device).repeat_interleave(count, dim=0)
        ratios = batch["ratios"].to(device)[:, self.columns].repeat_interleave(count, dim=0)
        ratios = ratios + MEASURING_NOISE * torch.randn_like(ratios)
        wanted = batch["wanted"].to(device).flatten()[:, None]
        offset = self.module(still.keypoints, torch.cat([ratios, wanted], 1))
        picture, _ = self.networks.render(many, still, still._replace(keypoints=still.keypoints + offset))
        with torch.no_grad():
            recon = self.networks.render(features, pose, pose)[0].repeat_interleave(count, dim=0)
        read = self.reader(picture, landmarks)[:, self.columns]
        return {
            "outside": outside_difference(picture, recon, self.mask(landmarks, picture.shape[-1])),
            "condition": (read - wanted).abs().mean(),
            "regularity": offset.abs().mean(),
        }
