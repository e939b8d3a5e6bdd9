"""A closed-form start for eye and lip retargeting: how M's keypoints follow openings, by least squares.

Within a clip a person's openings and keypoints vary together. Regressing the keypoints, in the head's own frame, on
the openings gives offsets that open or close any face. Nothing is rendered, so the module learns them in seconds.
They fall short, because W moves lids less far than requested, especially beyond natural openings; training through
pictures makes up for that.

Sources are also rendered with these offsets for random openings and measured by the face mesh. That shows how far a
face opens on request (`Response`), and teaches the opening regressor to measure rendered faces.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer, default_analyzer
from liveportrait.face.measures import opening_ratios
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import CROP_SIDE, NUM_KEYPOINTS, Motion
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.stage_two.frozen_networks import (
    FrozenNetworks,
    repeated,
    repeated_rows,
    to_pictures,
)
from liveportrait.training.stage_two.samplers import MotionBank, displaced, ratios_of, readable_rows
from liveportrait.types import Array

RIDGE = 0.01
NEGLIGIBLE = 0.3  # keypoints that move less than this share of the farthest-moving one are left alone
PARTS = {"eyes": (0, 1), "lips": (2,)}  # columns of the openings (see `ratios_of`)
BATCH = 256
RATE = 1e-3
REACH = (-0.5, 2.0)  # range of requests to the closed form
REQUESTS = 4  # pictures per source
OVERDRIVE = (-0.3, 1.5)  # range of requested openings: rendered faces open less


def opening_effect(bank: MotionBank) -> Tensor:
    """Keypoint displacement per unit of opening, (3,21,3) for left eye, right eye and lips, in units of x_c."""
    turned = bank.motion.canonical + bank.motion.expression @ bank.motion.rotation.transpose(1, 2)
    shape = (bank.clips, bank.frames, -1)
    inputs, outputs = bank.ratios.to(turned).view(shape), turned.flatten(1).view(shape)
    x = (inputs - inputs.mean(1, keepdim=True)).flatten(0, 1)
    y = (outputs - outputs.mean(1, keepdim=True)).flatten(0, 1)
    effect = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(3).to(x), x.T @ y).unflatten(
        1, (NUM_KEYPOINTS, 3)
    )
    length = effect.norm(dim=-1, keepdim=True)
    return torch.where(length < NEGLIGIBLE * length.amax(1, keepdim=True), 0.0, effect)


def closed_form(source: Motion, ratios: Tensor, wanted: Tensor, effect: Tensor, part: str) -> Tensor:
    """Offsets Δ (B,21,3) that take a source's openings (B,3) to the wanted one (B,): s·(Σ (c_d − c_s) effect) R."""
    columns = list(PARTS[part])
    change = wanted[:, None] - ratios[:, columns]
    local = torch.einsum("bk,kpc->bpc", change, effect[columns])
    return source.scale[:, :, None] * (local @ source.rotation)


@dataclass(frozen=True)
class Response:
    """The opening that a closed-form request results in, as W moves lids less far than their keypoints."""

    coefficients: Tensor  # (7,) for the terms of `_terms`

    def request_for(self, own: Tensor, wanted: Tensor) -> Tensor:
        """The request (B,), within `REACH`, that turns an opening `own` (B,) into `wanted` (B,)."""
        asked = torch.linspace(*REACH, 201, device=own.device)
        expected = _terms(own[:, None], asked[None]) @ self.coefficients.to(own)  # (B,201)
        return asked[(expected - wanted[:, None]).abs().argmin(1)]


def fit_response(own: Tensor, asked: Tensor, measured: Tensor) -> Response:
    """Least squares over N rendered faces: own openings, requests and measured openings (N,)."""
    terms = _terms(own, asked).double()
    # By SVD: if all faces have the same opening, some terms are undetermined.
    return Response(
        torch.linalg.lstsq(terms, measured.double()[:, None], driver="gelsd").solution[:, 0].float()
    )


def _terms(own: Tensor, asked: Tensor) -> Tensor:
    """Terms (…,7): a cubic in the request, and its first three terms times the source's opening."""
    own, asked = torch.broadcast_tensors(own, asked)
    powers = [torch.ones_like(asked), asked, asked**2, asked**3]
    return torch.stack([*powers, own, own * asked, own * asked**2], -1)


def learn_closed_form(
    module: nn.Module,
    bank: MotionBank,
    part: str,
    steps: int,
    highest: float,
    response: Response | None = None,
) -> None:
    """Train a retargeting module on the closed-form offsets of the bank's frames, moved at random.

    With a `response`, requests to the closed form are adjusted so that the rendered face opens as wanted.
    """
    effect, columns = opening_effect(bank), list(PARTS[part])
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE)
    device = bank.ratios.device
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        rows = torch.randint(len(bank.ratios), (BATCH,), device=device)
        turn = torch.randn(BATCH, 3, device=device) * torch.tensor([0.0, 0.0, 8.0], device=device)
        shift, zoom = 0.15 * torch.randn(BATCH, 2, device=device), 0.15 * torch.randn(BATCH, device=device)
        source = displaced(bank.motion.rows(rows), shift, zoom, turn)
        ratios, wanted = bank.ratios[rows], highest * torch.rand(BATCH, device=device)
        found = module(transform_keypoints(source), torch.cat([ratios[:, columns], wanted[:, None]], 1))
        asked = wanted if response is None else response.request_for(ratios[:, columns].mean(1), wanted)
        loss = (found - closed_form(source, ratios, asked, effect, part)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@dataclass(frozen=True)
class RenderedOpenings:
    """N rendered pictures and their openings."""

    frames: NDArray[np.uint8]  # (N,256,256,3)
    landmarks: Array  # (N,111,2) px, the source's
    own: Array  # (N,3) openings of the source, see `ratios_of`
    asked: Array  # (N,2) requested openings of eyes and of lips
    measured: Array  # (N,3) openings measured in the picture

    def response(self, part: str) -> Response:
        """The response of eyes or lips to requests."""
        columns = list(PARTS[part])
        own, measured = (torch.from_numpy(values[:, columns].mean(1)) for values in (self.own, self.measured))
        return fit_response(own, torch.from_numpy(self.asked[:, list(PARTS).index(part)]), measured)

    def save(self, folder: Path) -> None:
        """Write to a folder, which is complete once labels.npz exists."""
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
    """Openings (3,) of the face in a picture (S,S,3) by a second pass of the face mesh; None if there is no face."""
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
    """Render about `count` pictures and measure them. Raises `UserError` if too few of them show a face."""
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
                "reconstruct faces well enough for stage two; set reader.rendered to 0 to train without them."
            )
        row = rng.choice(usable, 1)
        own = ratios_of(corpus.landmarks[row])
        asked = rng.uniform(*OVERDRIVE, (REQUESTS, 2)).astype(np.float32)
        features, motion, pose = networks.source(to_pictures(corpus.frames[row], networks.device))
        still, offset = repeated_rows(pose, REQUESTS), torch.zeros_like(pose.keypoints)
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
    """Frames (B,256,256,3) uint8 from pictures (B,3,S,S) in [0, 1]."""
    if pictures.shape[-1] != CROP_SIDE:
        pictures = torch.nn.functional.interpolate(pictures, size=CROP_SIDE, mode="area")
    return (pictures.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).cpu().contiguous().numpy()
