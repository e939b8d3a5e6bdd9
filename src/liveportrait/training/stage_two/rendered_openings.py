"""Sources rendered with closed-form offsets for random openings, and what the face mesh measures on the result.

They teach the opening reader to read rendered faces, and tell how far a face opens that is asked to (`Response`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer, default_analyzer
from liveportrait.face.ratios import opening_ratios
from liveportrait.motion.lifting import Array
from liveportrait.networks.interface import CROP_SIDE
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.stage_two.closed_form import (
    PARTS,
    Response,
    closed_form,
    fit_response,
    opening_effect,
)
from liveportrait.training.stage_two.frozen_networks import (
    FrozenNetworks,
    repeated,
    repeated_pose,
    to_pictures,
)
from liveportrait.training.stage_two.samplers import MotionBank, ratios_of, readable_rows

REQUESTS = 4  # pictures of one source
OVERDRIVE = (-0.3, 1.5)  # openings asked for: what is rendered opens less


@dataclass(frozen=True)
class RenderedOpenings:
    """N rendered pictures."""

    frames: NDArray[np.uint8]  # (N,256,256,3)
    landmarks: Array  # (N,111,2) px, of the source
    own: Array  # (N,3) openings of the source, see `ratios_of`
    asked: Array  # (N,2) of eyes and of lips
    measured: Array  # (N,3) on the picture

    def response(self, part: str) -> Response:
        """How far eyes or lips open that were asked to."""
        columns = list(PARTS[part])
        own, measured = (torch.from_numpy(values[:, columns].mean(1)) for values in (self.own, self.measured))
        return fit_response(own, torch.from_numpy(self.asked[:, list(PARTS).index(part)]), measured)

    def save(self, folder: Path) -> None:
        """Write them; the folder is complete once labels.npz is there."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "frames.npy", self.frames)
        labels = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "frames"}
        np.savez(folder / "labels.tmp.npz", **labels)
        (folder / "labels.tmp.npz").replace(folder / "labels.npz")

    @classmethod
    def load(cls, folder: Path) -> RenderedOpenings:
        """Read what `save` wrote."""
        with np.load(folder / "labels.npz") as labels:
            return cls(np.load(folder / "frames.npy", mmap_mode="r"), **labels)


def measured_openings(
    analyzer: FaceAnalyzer, picture: NDArray[np.uint8], near: Face | None = None
) -> Array | None:
    """Openings (3,) of the face in a picture (S,S,3) by the face mesh, where it settles; None if there is none."""
    face = analyzer.track(picture, near) if near else None
    if face is None:
        faces = analyzer.detect(picture, smallest=picture.shape[0] / 4)
        if not faces:
            return None
        face = faces[0]
    face = analyzer.track(picture, face)
    return None if face is None else opening_ratios(face.landmarks)


def render_openings(
    networks: FrozenNetworks, corpus: Corpus, bank: MotionBank, count: int, seed: int
) -> RenderedOpenings:
    """About `count` pictures, in the networks' own device. Raises UserError where few of them show a face."""
    rng = np.random.default_rng((seed, 0x4EAD))
    analyzer, effect, usable = default_analyzer(), opening_effect(bank), readable_rows(corpus)
    frames: list[NDArray[np.uint8]] = []
    labels: list[tuple[Array, ...]] = []
    for tried in itertools.count():
        if len(frames) >= count:
            break
        if tried >= count:
            raise UserError(
                f"Only {len(frames)} of {tried * REQUESTS} rendered pictures show a face: these weights do not "
                "reconstruct faces well enough for stage two; set reader.rendered to 0 to train without."
            )
        row = rng.choice(usable, 1)
        own = ratios_of(corpus.landmarks[row])
        asked = rng.uniform(*OVERDRIVE, (REQUESTS, 2)).astype(np.float32)
        features, motion, pose = networks.source(to_pictures(corpus.frames[row], networks.device))
        still, offset = repeated_pose(pose, REQUESTS), torch.zeros_like(pose.keypoints)
        for column, part in enumerate(PARTS):
            wanted = torch.from_numpy(asked[:, column]).to(networks.device)
            now = torch.from_numpy(own).to(networks.device)
            offset = offset + closed_form(motion, now, wanted, effect, part)
        driven = still._replace(keypoints=still.keypoints + offset)
        with torch.no_grad():
            pictures = to_frames(networks.render(repeated(features, REQUESTS), still, driven)[0])
        for picture, request in zip(pictures, asked, strict=True):
            openings = measured_openings(analyzer, picture)
            if openings is not None and openings.max() < OVERDRIVE[1]:
                frames.append(picture)
                labels.append((corpus.landmarks[row[0]], own[0], request, openings))
    landmarks, sources, requests, measured = (np.stack(values) for values in zip(*labels, strict=True))
    return RenderedOpenings(np.stack(frames), landmarks, sources, requests, measured)


def to_frames(pictures: Tensor) -> NDArray[np.uint8]:
    """Frames (B,256,256,3) uint8 of pictures (B,3,S,S) in [0, 1]."""
    if pictures.shape[-1] != CROP_SIDE:
        pictures = torch.nn.functional.interpolate(pictures, size=CROP_SIDE, mode="area")
    return (pictures.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).cpu().contiguous().numpy()
