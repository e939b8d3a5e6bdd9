"""Stage two's losses (paper section 3.3): F, M, W and G stay fixed while one small module learns.

    L_st   = ‖(I_st − I_recon) ⊙ (1 − M_st)‖₁ + w_reg ‖Δ_st‖₁
    L_eyes = ‖(I_eyes − I_recon) ⊙ (1 − M_eyes)‖₁ + w_cond ‖c_p − c_d‖₁ + w_reg ‖Δ_eyes‖₁        (same for L_lip)

with I_recon = G(W(f_s; x_s, x_s)). L_st has two more terms if W has a flow, see `StitchingLosses`.

The paper masks the difference between the result and the reconstruction with (1 − M). Here M is taken to be the region
that is *meant* to change: head with hair for stitching, the eyes for R_eyes, mouth and chin for R_lip. Shoulders,
background and the crop's border are thus kept in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from liveportrait.networks.geometry import pixel_grid, pose_of
from liveportrait.networks.interface import HALF_SIDE, Features, Motion, Pose
from liveportrait.training.data.batches import pictures_of
from liveportrait.training.stage_two.closed_form import PARTS
from liveportrait.training.stage_two.frozen_networks import FrozenNetworks, repeated, repeated_rows
from liveportrait.training.stage_two.opening_regressor import OpeningRegressor, Patch, patches
from liveportrait.training.stage_two.samplers import FlowSources, MotionBank, drive, seen_keypoints

SOFTNESS = 0.08  # of a region's edge, as a share of its radius
BORDER = 0.06  # width of the border that paste-back blends, in half sides
MEASUREMENT_NOISE = 0.01  # of the source's openings, as two measurements of one face differ
DRIVES = ("kind", "first", "now", "shift", "zoom", "turn")
UNIT = 0.1  # displacements are in tenths of a half side


def ellipse(centre: Tensor, radii: Tensor, size: int) -> Tensor:
    """A mask (B,S,S), 1 inside and 0 outside with a soft edge; centre and radii (B,2), crop in [-1, 1]."""
    away = (pixel_grid(size, size, centre.device) - centre[:, None, None]) / radii[:, None, None]
    return ((1 - away.norm(dim=-1)) / SOFTNESS).sigmoid()


def face_mask(landmarks: Tensor, shift: Tensor, size: int) -> Tensor:
    """The face from forehead to chin (B,S,S), from landmarks (B,111,2), px of 256, moved by `shift` (B,2)."""
    centre, half = _box(landmarks)
    return ellipse(centre + shift, half, size)


def head_mask(landmarks: Tensor, shift: Tensor, size: int) -> Tensor:
    """The head with hair and some neck (B,S,S), both where it is and where `shift` (B,2) moves it."""
    centre, half = _box(landmarks)
    centre = centre - half * half.new_tensor([0.0, 0.35])  # hair above; 0.2 half heights of neck below
    radii = half * half.new_tensor([1.5, 1.55])
    return torch.maximum(ellipse(centre, radii, size), ellipse(centre + shift, radii, size))


def eye_mask(landmarks: Tensor, size: int) -> Tensor:
    """Both eyes with lids (B,S,S), up to the brows."""
    right, left, _ = patches(landmarks)
    return torch.maximum(_around(right, 1.25, 1.6, size), _around(left, 1.25, 1.6, size))


def lip_mask(landmarks: Tensor, size: int) -> Tensor:
    """Mouth and chin (B,S,S), down to where an open jaw reaches."""
    return _around(patches(landmarks)[2], 1.2, 1.2, size)


def outside_difference(picture: Tensor, reconstruction: Tensor, mask: Tensor) -> Tensor:
    """‖(I − I_recon) ⊙ (1 − M)‖₁ for pictures (B,3,S,S) and mask (B,S,S), averaged over the pixels outside the mask."""
    outside = 1 - mask
    return ((picture - reconstruction).abs().mean(1) * outside).sum() / (outside.sum() + 1e-6)


def flow_length(flow: Tensor, weight: Tensor, reference: Tensor | None = None) -> Tensor:
    """Weighted mean length of W's flow (B,h,w,2) relative to the identity or to a reference flow; weight (B,h,w).

    Pixels would give no gradient on a plain shoulder, which looks the same wherever it is.
    """
    rest = pixel_grid(flow.shape[1], flow.shape[2], flow.device) if reference is None else reference
    length = (flow - rest).square().sum(-1).add(1e-8).sqrt()
    return (length * weight).sum() / (weight.sum() + 1e-6) / UNIT


def held_region(head: Tensor) -> Tensor:
    """The area that stitching keeps in place (B,h,w): everything outside the head, and always the crop's border."""
    border = pixel_grid(head.shape[1], head.shape[2], head.device).abs().amax(-1) > 1 - BORDER
    return torch.maximum(1 - head, border.to(head.dtype)[None])


def _box(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half size (B,2 each) of the landmarks' bounding box, crop in [-1, 1]."""
    points = landmarks / HALF_SIDE - 1
    low, high = points.amin(1), points.amax(1)
    return (low + high) / 2, (high - low) / 2


def _around(patch: Patch, wide: float, high: float, size: int) -> Tensor:
    """An ellipse around a patch, whose radii are `wide` and `high` times the patch's half sides."""
    away = pixel_grid(size, size, patch.centre.device) - patch.centre[:, None, None]
    u, v = (
        (away * axis[:, None, None]).sum(-1) / axis.square().sum(1)[:, None, None] / factor
        for axis, factor in ((patch.across, wide), (patch.down, high))
    )
    return ((1 - (u**2 + v**2).sqrt()) / SOFTNESS).sigmoid()


def sources_of(batch: dict[str, Tensor], networks: FrozenNetworks) -> tuple[Features, Motion, Pose]:
    """Features, motion and pose of a batch's sources."""
    seen = seen_keypoints(batch["landmarks"].numpy(), batch["rotation"].numpy())
    pictures = pictures_of(batch, "picture", networks.device)
    motion = networks.tracked_motion(pictures, seen, batch["tracked"].to(networks.device))
    return networks.features(pictures), motion, pose_of(motion)


@dataclass(frozen=True, eq=False)
class StitchingTask:
    """The module, networks and drives that both trainings of S share."""

    module: nn.Module
    networks: FrozenNetworks
    bank: MotionBank
    drives: int  # per source

    def poses(self, batch: dict[str, Tensor], motion: Motion) -> tuple[Pose, Pose, Pose]:
        """Poses (B·n) for sources (B): undriven, driven without stitching, and driven with it."""
        flat = {name: batch[name].to(self.networks.device).flatten(0, 1) for name in DRIVES}
        many = repeated_rows(motion, self.drives)
        still, driven = pose_of(many), pose_of(drive(many, flat, self.bank, self.networks.groups))
        keypoints = self.module(still.keypoints, driven.keypoints)
        return still, driven, driven._replace(keypoints=keypoints, pin=torch.ones_like(driven.pin))


def flow_terms(flow: Tensor, unstitched: Tensor, landmarks: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """The terms on W's flow (B,h,w,2): nothing outside the head may move, and the face moves as without stitching."""
    size = flow.shape[1]
    return {
        "still": flow_length(flow, held_region(head_mask(landmarks, shift, size))),
        "face": flow_length(flow, face_mask(landmarks, shift, size), unstitched),
    }


def head_shift(still: Pose, driven: Pose) -> Tensor:
    """Displacement of the head in the picture (B,2): the mean over its keypoints."""
    return (driven.keypoints - still.keypoints)[..., :2].mean(1)


class StitchingLosses:
    """L_st of a batch of sources with drives.

    If W has a flow, two terms are added to the paper's: "still" keeps what lies outside the head in place (a plain
    shoulder looks the same wherever it is, so pixels hardly do), and "face" lets the face move as without stitching.
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
    """The terms of `StitchingLosses` that need no picture, on sources prepared once."""

    def __init__(self, task: StitchingTask, sources: FlowSources) -> None:
        self.task, self.sources = task, sources

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of a batch from `FlowSampler`."""
        networks, count, rows = self.task.networks, self.task.drives, batch["source"]
        still, driven, stitched = self.task.poses(batch, self.sources.motion.rows(rows))
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
        regressor: OpeningRegressor, requests: int,
    ) -> None:  # fmt: skip
        self.columns, self.mask = list(PARTS[name]), eye_mask if name == "eyes" else lip_mask
        self.module, self.networks, self.regressor = module, networks, regressor
        self.requests = requests  # per source

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        device, count = self.networks.device, self.requests
        features, _, pose = sources_of(batch, self.networks)
        many, still = repeated(features, count), repeated_rows(pose, count)
        landmarks = batch["landmarks"].to(device).repeat_interleave(count, dim=0)
        ratios = batch["ratios"].to(device)[:, self.columns].repeat_interleave(count, dim=0)
        ratios = ratios + MEASUREMENT_NOISE * torch.randn_like(ratios)
        wanted = batch["wanted"].to(device).flatten()[:, None]
        offset = self.module(still.keypoints, torch.cat([ratios, wanted], 1))
        picture, _ = self.networks.render(many, still, still._replace(keypoints=still.keypoints + offset))
        with torch.no_grad():
            recon = self.networks.render(features, pose, pose)[0].repeat_interleave(count, dim=0)
        measured = self.regressor(picture, landmarks)[:, self.columns]
        return {
            "outside": outside_difference(picture, recon, self.mask(landmarks, picture.shape[-1])),
            "condition": (measured - wanted).abs().mean(),
            "regularity": offset.abs().mean(),
        }
