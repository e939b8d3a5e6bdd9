"""Pairs for the painter of mouths, rendered once and cut to patches.

A pair is a source and a target that show one person: frames of a clip, or a picture and itself with its lips brought
together. The jobs are the corpus's clips in a fixed random order; chunks of them are files, each written whole, so that
several processes share the work and a killed one goes on where it stopped.
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

CHUNK = 40  # clips and pictures of one file
TARGETS = 5  # of each source
OPENING_COUNTS = 2.5  # weight of an opening, distances of the eyes, among what a mouth does
LIKE = 0.03  # odds of a target that looks like its source, in the unit of `_differences`
PARTED = 0.1  # opening of a mouth, distances of the eyes, from which on a frame is open
GREY, RECOLOURED = 0.13, 0.4  # shares of the pairs without colour, and in other light
MOVED = 0.6  # share of the pictures whose head is moved
# share of driven lips that are not quite the target's, and how far off, head's scales
JITTER = (0.03, 0.03, 0.05, 0.03)  # of a patch's place: shifts in half widths, log of size, radians
MIDDLE_LIPS = [MESH_ROWS.index(row) for row in (13, 14)]
MOUTH_ENDS = [MESH_ROWS.index(row) for row in (61, 291)]
EYE_ENDS = [MESH_ROWS.index(row) for row in (33, 263)]
GUESSED, GUESS = 0.35, 0.012


@dataclass
class _Job:
    """Sources of one person, and targets of them."""

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
    """Render the chunks that are not there yet; of several processes, number `part` of `parts` takes its share.

    With `exact` nothing is augmented: for held-out people.
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
    state = _states(clip)
    opening = state[:, 0] / OPENING_COUNTS
    job = _Job()
    flip, colour = _look(rng, exact)

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
            odds = (np.abs(state - state[source]).sum(1) + LIKE) ** 1.5
            odds[source] = 0
            count = min(TARGETS, len(clip) - 1)
            pair(int(source), rng.choice(len(clip), count, replace=False, p=odds / odds.sum()))
    opened = rng.permutation(np.flatnonzero(opening > PARTED) if len(clip) > 1 else np.arange(1))
    for source in opened[: 1 if exact else 3]:
        others = rng.permutation(opened)[: min(TARGETS - 1, len(opened) - 1)]
        pair(int(source), np.array([source, *others]), meeting=float(rng.uniform(0.05, 0.45)))
    if job.targets:
        yield job


def _look(rng: np.random.Generator, exact: bool) -> tuple[bool, ColourChange | None]:
    """Whether a job is mirrored, and its colours."""
    flip, chance = bool(rng.random() < 0.5), rng.random()
    if exact:
        return False, None
    if chance < GREY:
        return flip, ColourChange(saturation=0.0)
    return flip, random_colour(rng) if chance < RECOLOURED else None


def _states(clip: Clip) -> Array:
    """What a mouth does in each frame (T,3): opening, width, smile, in units of like weight."""
    points = clip.landmarks
    unit = np.linalg.norm(points[:, EYE_ENDS[0]] - points[:, EYE_ENDS[1]], axis=1)
    opening, width = (
        np.linalg.norm(points[:, a] - points[:, b], axis=1) / np.maximum(unit, 1)
        for a, b in (MIDDLE_LIPS, MOUTH_ENDS)
    )
    smile = clip.blendshapes[:, list(MOUTH_SMILE)].mean(1)
    return np.stack([OPENING_COUNTS * opening, 1.2 * width, 0.5 * smile], 1)


@torch.no_grad()
def _cut(
    networks: Networks, job: _Job, rng: np.random.Generator, exact: bool
) -> dict[str, NDArray[np.generic]]:
    """The patches (N,13,64,80) uint8 of source, warped source, first painting, target and mask, and what goes along."""
    to_tensor = lambda pictures: torch.cat(pictures).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    sources, targets = to_tensor(job.sources), to_tensor(job.targets)
    features = networks.appearance(sources)
    source_pose = pose_of(Motion.cat(job.source_motions))
    true = Motion.cat(job.motions)
    driven = true if exact else _guessed(true, rng)
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
        place = mouth_patch(goal) if exact else _jittered(mouth_patch(goal), rng)
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


def _guessed(motion: Motion, rng: np.random.Generator) -> Motion:
    """The motion with some of the lips a little off, as those that another face moves are."""
    noise = (
        rng.normal(size=(motion.batch, len(MOUTH), 2)) * GUESS * (rng.random((motion.batch, 1, 1)) < GUESSED)
    )
    expression = motion.expression.clone()
    expression[:, list(MOUTH), :2] += torch.from_numpy(noise).float()
    return motion._replace(expression=expression)


def _jittered(patch: Patch, rng: np.random.Generator) -> Patch:
    """The patch not quite where the keypoints say."""
    count = len(patch.centre)
    right, down, size, angle = torch.from_numpy(
        rng.normal(size=(4, count)).astype(np.float32).clip(-2, 2)
    ).mul(torch.tensor(JITTER)[:, None])
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shift = (torch.stack([right, down], 1)[:, None] @ patch.axes)[:, 0]
    return Patch(patch.centre + shift, (turn @ patch.axes) * size.exp()[:, None, None])
