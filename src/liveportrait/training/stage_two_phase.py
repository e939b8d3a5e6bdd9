"""Stage two's three trainings: F, M, W and G stay fixed, one small module learns.

    L_st   = ‖(I_st − I_recon) ⊙ (1 − M_st)‖₁ + w_reg ‖Δ_st‖₁
    L_eyes = ‖(I_eyes − I_recon) ⊙ (1 − M_eyes)‖₁ + w_cond ‖c_p − c_d‖₁ + w_reg ‖Δ_eyes‖₁        (L_lip alike)

with I_recon = G(W(f_s; x_s, x_s)). L_st has two more terms where W tells its flow: see `StitchingLosses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Motion, Pose
from liveportrait.training.checkpoint import TrainingState, average_of
from liveportrait.training.frozen import FrozenNetworks, repeated, repeated_pose
from liveportrait.training.imitation import PARTS
from liveportrait.training.loop import BETAS, Phase
from liveportrait.training.opening_reader import OpeningReader
from liveportrait.training.render_losses import weighted_sum
from liveportrait.training.sampling import Sampler, batches, pictures_of
from liveportrait.training.stage_two_config import StageTwoConfig
from liveportrait.training.stage_two_losses import (
    eye_mask,
    face_mask,
    flow_length,
    head_mask,
    held_region,
    lip_mask,
    outside_difference,
)
from liveportrait.training.stage_two_sampling import MotionBank, drive, seen_keypoints

Module = Literal["stitching", "eyes", "lips"]
VALIDATE_EVERY = 200  # steps
DRIVES = ("kind", "first", "now", "shift", "zoom", "turn")
MEASURING_NOISE = 0.01  # of the source's own openings, as two measurements of one face differ
Losses = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def train_module(
    name: Module,
    module: nn.Module,
    config: StageTwoConfig,
    sampler: Sampler,
    losses: Losses,
    validate: Callable[[nn.Module], Mapping[str, float]],
) -> nn.Module:
    """Train one module to the end of its schedule, or on from its checkpoint; returns its moving average.

    An example is a source with several drives or requests; the schedule counts sources.
    """
    settings = getattr(config, name)
    schedule = settings.schedule
    optimizer = torch.optim.AdamW(module.parameters(), betas=BETAS, weight_decay=schedule.weight_decay)
    average = average_of(module)
    state = TrainingState({name: module}, {name: optimizer}, {name: average})
    phase = Phase(name, config, schedule, state)
    loader = batches(sampler, phase.share, config.seed + 1, state.step * schedule.accumulate)
    while not phase.finished:
        batch = next(loader)
        phase.seed()
        terms = losses(batch)
        phase.step(weighted_sum(terms, settings.weights), terms)
        phase.log(lambda: validate(average), VALIDATE_EVERY)
    return average


def sources_of(batch: dict[str, Tensor], networks: FrozenNetworks) -> tuple[Features, Motion, Pose]:
    """F, M and pose of a batch's sources."""
    seen = seen_keypoints(batch["landmarks"].numpy(), batch["rotation"].numpy())
    pictures = pictures_of(batch, "picture", networks.device)
    return networks.source(pictures, seen, batch["tracked"].to(networks.device))


class StitchingLosses:
    """L_st of a batch of sources with drives.

    Beside the paper's terms, where W tells its flow: "still" holds what lies outside the head (a plain shoulder looks
    the same wherever it is, so pixels alone hold it loosely), and "face" lets the face move as without stitching.
    """

    def __init__(
        self, module: nn.Module, networks: FrozenNetworks, bank: MotionBank, config: StageTwoConfig
    ) -> None:
        self.module, self.networks, self.bank = module, networks, bank
        self.settings, self.groups = config.stitching, networks.groups

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        device, count = self.networks.device, self.settings.drives
        features, motion, pose = sources_of(batch, self.networks)
        many, still = repeated(features, count), repeated_pose(pose, count)
        flat = {name: value.to(device).flatten(0, 1) for name, value in batch.items() if name in DRIVES}
        sources = Motion(*(part.repeat_interleave(count, dim=0) for part in motion))
        driven = pose_of(drive(sources, flat, self.bank, self.groups))
        stitched = driven._replace(keypoints=self.module(still.keypoints, driven.keypoints))
        landmarks = batch["landmarks"].to(device).repeat_interleave(count, dim=0)
        shift = (driven.keypoints - still.keypoints)[..., :2].mean(1)
        terms = {"regularity": (stitched.keypoints - driven.keypoints).abs().mean()}
        paints = float(torch.rand(())) < self.settings.rendered
        with torch.no_grad():
            unstitched = self.networks.flow(many, still, driven)
        if paints or unstitched is None:
            picture, flow = self.networks.render(many, still, stitched)
            with torch.no_grad():
                recon = self.networks.render(features, pose, pose)[0].repeat_interleave(count, dim=0)
            mask = head_mask(landmarks, shift, picture.shape[-1])
            terms["outside"] = outside_difference(picture, recon, mask)
        else:
            flow = self.networks.flow(many, still, stitched)
        if flow is not None and unstitched is not None:
            size = flow.shape[1]
            terms["still"] = flow_length(flow, held_region(head_mask(landmarks, shift, size)))
            terms["face"] = flow_length(flow, face_mask(landmarks, shift, size), unstitched)
        return terms


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
