"""Stage two's figures on held-out people: control error of openings, and motion of the shoulders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.face import default_analyzer
from liveportrait.metrics.displacement import displacement
from liveportrait.networks.geometry import pixel_grid, pose_of
from liveportrait.networks.interface import CROP_SIDE
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.stage_two.closed_form import PARTS, measured_openings, to_frames
from liveportrait.training.stage_two.frozen_networks import (
    FrozenNetworks,
    repeated,
    repeated_rows,
    to_pictures,
)
from liveportrait.training.stage_two.losses import DRIVES, UNIT, face_mask, flow_length, head_mask, sources_of
from liveportrait.training.stage_two.samplers import (
    DriveMix,
    MotionBank,
    SourceSampler,
    drive,
    readable_rows,
)

REQUESTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
NATURAL = DriveMix(relative=1.0, absolute=0.0, moved=0.0)
BOTTOM = 0.75  # y from which the lowest eighth of the crop begins, where the shoulders are


def control_error(
    name: Literal["eyes", "lips"], module: nn.Module, networks: FrozenNetworks, corpus: Corpus, sources: int,
    requests: Sequence[float] = REQUESTS,
) -> dict[str, float]:  # fmt: skip
    """Requested openings against those that the face mesh measures in the rendered picture.

    `error` is the mean of |measured − requested| over sources and requests (and over both eyes), `measured/c` the mean
    opening at request c, `lost` the share of pictures without a face. One frame per clip, the same ones every time.
    """
    analyzer, columns = default_analyzer(), list(PARTS[name])
    usable = set(readable_rows(corpus).tolist())
    rows = np.array([clip[0] for clip in corpus.rows_of_clips() if int(clip[0]) in usable])
    found: dict[float, list[NDArray[np.float32]]] = {wanted: [] for wanted in requests}
    lost = 0
    for row in np.random.default_rng(0).permutation(rows)[:sources]:
        frame = np.ascontiguousarray(corpus.frames[row])
        own = measured_openings(analyzer, frame)
        if own is None:
            continue
        features, _, pose = networks.source(to_pictures(frame[None], networks.device))
        still = repeated_rows(pose, len(requests))
        ratios = np.array([[*own[columns], wanted] for wanted in requests], np.float32)
        with torch.no_grad():
            offset = module(still.keypoints, torch.from_numpy(ratios).to(networks.device))
            driven = still._replace(keypoints=still.keypoints + offset)
            pictures, _ = networks.render(repeated(features, len(requests)), still, driven)
        for wanted, picture in zip(requests, to_frames(pictures), strict=True):
            openings = measured_openings(analyzer, picture)
            if openings is None:
                lost += 1
            else:
                found[wanted].append(openings[columns])
    errors = [np.abs(np.stack(values) - wanted).mean() for wanted, values in found.items() if values]
    figures = {
        "error": float(np.mean(errors)) if errors else float("nan"),
        "lost": lost / (sources * len(requests)),
    }
    return figures | {f"measured/{c:g}": float(np.mean(values)) for c, values in found.items() if values}


@torch.no_grad()
def shoulder_motion(
    module: nn.Module, networks: FrozenNetworks, corpus: Corpus, bank: MotionBank, drives: int
) -> Mapping[str, float]:
    """Motion of the shoulders without stitching (off) and with it (on), and their ratio (share).

    Held-out sources follow held-out people's change between two frames. The shoulders are the lowest eighth of the
    crop outside the head (`head_mask`). `picture`: length of the optical flow there from reconstruction to result, in
    percent of the side (`metrics.displacement`); `flow`: length of W's own flow there in the same unit, if W has one;
    `face`: how much stitching changes W's flow of the face.
    """
    sampler = SourceSampler(corpus, bank, NATURAL, 1)
    found: dict[str, list[float]] = {}
    for number in range(drives):
        example = sampler(np.random.default_rng((0, number)))
        batch = {key: torch.from_numpy(np.array(value))[None] for key, value in example.items()}
        features, motion, pose = sources_of(batch, networks)
        flat = {name: batch[name][0].to(networks.device) for name in DRIVES}
        driven = pose_of(drive(motion, flat, bank, networks.groups))
        shift = (driven.keypoints - pose.keypoints)[..., :2].mean(1)
        landmarks = batch["landmarks"].to(networks.device)
        recon = to_frames(networks.render(features, pose, pose)[0])[0]
        shoulders = _shoulders(landmarks, shift, CROP_SIDE).cpu().numpy()
        if not shoulders.any():
            continue
        keypoints = module(pose.keypoints, driven.keypoints)
        stitched = driven._replace(keypoints=keypoints, pin=torch.ones_like(driven.pin))
        flows = []
        for label, target in (("off", driven), ("on", stitched)):
            picture, flow = networks.render(features, pose, target)
            moved = displacement(recon, to_frames(picture)[0], shoulders)
            found.setdefault(f"picture_{label}", []).append(moved)
            if flow is not None:
                held = _shoulders(landmarks, shift, flow.shape[1]).float()[None]
                found.setdefault(f"flow_{label}", []).append(_percent(flow_length(flow, held)))
                flows.append(flow)
        if flows:
            face = face_mask(landmarks, shift, flows[0].shape[1])
            found.setdefault("face", []).append(_percent(flow_length(flows[1], face, flows[0])))
    figures = {name: float(np.nanmean(values)) for name, values in found.items()}
    for name in ("picture", "flow"):
        if f"{name}_off" in figures:
            figures[f"{name}_share"] = figures[f"{name}_on"] / max(figures[f"{name}_off"], 1e-6)
    return figures


def _shoulders(landmarks: Tensor, shift: Tensor, size: int) -> Tensor:
    """The bottom band outside the head, (S,S) bool."""
    low = pixel_grid(size, size, landmarks.device)[..., 1] > BOTTOM
    return (head_mask(landmarks, shift, size)[0] < 0.5) & low


def _percent(tenths: Tensor) -> float:
    """Converts tenths of the crop's half side to percent of its side."""
    return float(tenths) * UNIT / 2 * 100
