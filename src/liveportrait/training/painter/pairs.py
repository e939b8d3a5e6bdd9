"""Pairs for the painter of mouths, rendered once and cut to patches.

A pair is a source and a target of the same person: frames of a clip, or a picture and a copy with its lips brought
together. The corpus's clips are processed in a fixed random order, in chunks. Each chunk becomes one file that appears
only when complete, so several processes can share the work and a killed one continues where it stopped.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.face.canonical import MOUTH_SMILE
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.networks import Networks
from liveportrait.networks.compact.painter import (
    Patch,
    looking,
    mouth_patch,
    mouth_shape,
    patch_cues,
)
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import MOUTH
from liveportrait.training.data.augment import (
    Change,
    ColourChange,
    augment_batch,
    random_colour,
    random_similarity,
)
from liveportrait.training.data.closing import close_mouth
from liveportrait.training.data.corpus import Clip, Corpus
from liveportrait.training.painter.patches import CLOSED, REAL
from liveportrait.types import Array

CHUNK = 40  # clips and pictures per file
MAX_TARGETS = 5  # per source
OPENING_WEIGHT = 2.5  # of the opening, in eye distances, among the numbers of `_mouth_states`
SAME_ODDS = 0.03  # odds of a target whose mouth is like its source's, in units of `_mouth_states`
MIN_OPEN = 0.1  # opening of an open mouth, in eye distances
GREY, RECOLOURED = 0.13, 0.4  # cumulative shares of the pairs without colour, and with changed colours
MOVED = 0.6  # share of the pictures whose head is moved
JITTER = (0.03, 0.03, 0.05, 0.03)  # of a patch's placement: two shifts in half widths, log of size, radians
MIDDLE_LIPS = [MESH_ROWS.index(row) for row in (13, 14)]
MOUTH_ENDS = [MESH_ROWS.index(row) for row in (61, 291)]
EYE_ENDS = [MESH_ROWS.index(row) for row in (33, 263)]
# Share of driven lips that differ from the target's, and by how much (standard deviation, in head scales).
LIP_NOISE_SHARE, LIP_NOISE = 0.35, 0.012


@dataclass
class _Job:
    """Sources and targets of one person."""

    sources: list[Tensor] = field(default_factory=list)  # (1,256,256,3) uint8
    source_motions: list[Motion] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    motions: list[Motion] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)  # the source of each target
    kinds: list[int] = field(default_factory=list)


def render_pairs(
    networks: Networks,
    corpus: Corpus,
    folder: Path,
    seed: int,
    part: int = 0,
    parts: int = 1,
    exact: bool = False,
) -> None:
    """Render the missing chunks: this process's share of them, as number `part` of `parts` processes.

    With `exact` nothing is augmented, for held-out people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(corpus.lengths))
    for number, start in enumerate(range(0, len(order), CHUNK)):
        path = folder / f"{number:04d}.npz"
        if number % parts != part or path.exists():
            continue
        rng = np.random.default_rng([seed, number])
        records = []
        for clip in order[start : start + CHUNK]:
            for job in _jobs(corpus.take(int(clip)), rng, exact):
                records.append(_cut(networks, job, rng, exact))
        temporary = path.with_name(f".{number:04d}-{os.getpid()}")
        joined = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **joined)
        temporary.replace(path)


def _jobs(clip: Clip, rng: np.random.Generator, exact: bool) -> Iterator[_Job]:
    """The job of a clip, or of a picture with parted lips."""
    state = _mouth_states(clip)
    opening = state[:, 0] / OPENING_WEIGHT
    job = _Job()
    flip, colour = _random_look(rng, exact)

    def add(frame: int, own: bool = False, meeting: float | None = None) -> tuple[Tensor, Motion] | None:
        picture, landmarks, motion = clip.frame(frame)
        if meeting is not None:
            closed = close_mouth(picture[0].numpy(), landmarks[0].numpy(), motion, meeting)
            if closed is None:
                return None
            picture, motion = torch.from_numpy(closed[0])[None], closed[1]
        moves = own and len(clip) == 1 and rng.random() < MOVED
        head = random_similarity(rng, degrees=10, zoom=0.08, shift=0.06) if moves else None
        return augment_batch(picture, landmarks, motion, [Change(head=head, flip=flip, colour=colour)], 256)

    def pair(source: int, targets: NDArray[np.int64], meeting: float | None = None) -> None:
        made = add(source, own=True, meeting=meeting)
        if made is None:
            return
        job.sources.append(made[0])
        job.source_motions.append(made[1])
        for target in targets:
            shown = add(int(target))
            assert shown is not None
            job.targets.append(shown[0])
            job.motions.append(shown[1])
            job.owners.append(len(job.sources) - 1)
            job.kinds.append(REAL if meeting is None else CLOSED)

    if len(clip) >= 4:
        by_opening = np.argsort(opening)
        for source in (by_opening[0], by_opening[len(clip) // 4], rng.integers(len(clip)), by_opening[-1]):
            odds = (np.abs(state - state[source]).sum(1) + SAME_ODDS) ** 1.5
            odds[source] = 0
            count = min(MAX_TARGETS, len(clip) - 1)
            pair(int(source), rng.choice(len(clip), count, replace=False, p=odds / odds.sum()))
    opened = rng.permutation(np.flatnonzero(opening > MIN_OPEN) if len(clip) > 1 else np.arange(1))
    for source in opened[: 1 if exact else 3]:
        others = rng.permutation(opened)[: min(MAX_TARGETS - 1, len(opened) - 1)]
        pair(int(source), np.array([source, *others]), meeting=float(rng.uniform(0.05, 0.45)))
    if job.targets:
        yield job


def _random_look(rng: np.random.Generator, exact: bool) -> tuple[bool, ColourChange | None]:
    """Whether a job is mirrored, and its colours."""
    flip, chance = bool(rng.random() < 0.5), rng.random()
    if exact:
        return False, None
    if chance < GREY:
        return flip, ColourChange(saturation=0.0)
    return flip, random_colour(rng) if chance < RECOLOURED else None


def _mouth_states(clip: Clip) -> Array:
    """The state of the mouth in each frame (T,3): opening, width and smile, scaled to comparable weights."""
    points = clip.landmarks
    unit = np.linalg.norm(points[:, EYE_ENDS[0]] - points[:, EYE_ENDS[1]], axis=1)
    opening, width = (
        np.linalg.norm(points[:, a] - points[:, b], axis=1) / np.maximum(unit, 1)
        for a, b in (MIDDLE_LIPS, MOUTH_ENDS)
    )
    smile = clip.blendshapes[:, list(MOUTH_SMILE)].mean(1)
    return np.stack([OPENING_WEIGHT * opening, 1.2 * width, 0.5 * smile], 1)


@torch.no_grad()
def _cut(
    networks: Networks, job: _Job, rng: np.random.Generator, exact: bool
) -> dict[str, NDArray[np.generic]]:
    """Patches (N,13,64,80) uint8 of source, warped source, first painting, target and mask, with shapes and cues."""
    to_tensor = lambda pictures: torch.cat(pictures).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    sources, targets = to_tensor(job.sources), to_tensor(job.targets)
    features = networks.appearance(sources)
    source_pose = pose_of(Motion.cat(job.source_motions))
    true = Motion.cat(job.motions)
    driven = true if exact else _perturb_lips(true, rng)
    pose, true_pose = pose_of(driven), pose_of(true)
    records = []
    for rows in np.array_split(np.arange(len(targets)), -(-len(targets) // 4)):
        owners = [job.owners[row] for row in rows]
        seen = {name: value[owners] for name, value in features.items()}
        own, goal, real = source_pose.rows(owners), pose.rows(rows), true_pose.rows(rows)
        warped = networks.warping(seen, own, goal)
        painting, logits = networks.generator.layers(warped)  # type: ignore[operator]
        mask = logits.sigmoid()
        first = mask * warped["image"] + (1 - mask) * painting
        place = mouth_patch(goal) if exact else _jitter(mouth_patch(goal), rng)
        source_place = mouth_patch(own)
        cut = place.cut(torch.cat([warped["image"], first, targets[rows], mask], 1))
        patches = torch.cat([source_place.cut(sources[owners]), cut], 1)
        true_place = mouth_patch(real)
        records.append(
            {
                "patches": (patches.clamp(0, 1) * 255 + 0.5).byte(),
                "source_shape": mouth_shape(own, source_place),
                "shape": mouth_shape(goal, place),
                "shown_shape": mouth_shape(real, place),
                "looking": torch.cat([looking(own), looking(goal)], 1),
                "cues": patch_cues(true_place.cut(targets[rows]), mouth_shape(real, true_place)),
                "kind": torch.tensor([job.kinds[row] for row in rows]),
            }
        )
    return {name: torch.cat([record[name] for record in records]).numpy() for name in records[0]}


def _perturb_lips(motion: Motion, rng: np.random.Generator) -> Motion:
    """The motion with some of the lips slightly displaced, as when another face drives them."""
    noise = (
        rng.normal(size=(motion.batch, len(MOUTH), 2))
        * LIP_NOISE
        * (rng.random((motion.batch, 1, 1)) < LIP_NOISE_SHARE)
    )
    expression = motion.expression.clone()
    expression[:, list(MOUTH), :2] += torch.from_numpy(noise).float()
    return motion._replace(expression=expression)


def _jitter(patch: Patch, rng: np.random.Generator) -> Patch:
    """The patch, slightly misplaced relative to the keypoints."""
    count = len(patch.centre)
    right, down, size, angle = torch.from_numpy(
        rng.normal(size=(4, count)).astype(np.float32).clip(-2, 2)
    ).mul(torch.tensor(JITTER)[:, None])
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shift = (torch.stack([right, down], 1)[:, None] @ patch.axes)[:, 0]
    return Patch(patch.centre + shift, (turn @ patch.axes) * size.exp()[:, None, None])
