"""Draws the examples of stage two: sources with landmarks, drives from another person, requested openings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.face.canonical import (
    INNER_LIPS,
    LEFT_EYE_CORNERS,
    LEFT_EYE_LIDS,
    MOUTH_CORNERS,
    RIGHT_EYE_CORNERS,
    RIGHT_EYE_LIDS,
)
from liveportrait.motion import (
    SeenKeypoints,
    absolute,
    change_since,
    fix_canonical,
    relative,
    snap_to_landmarks,
)
from liveportrait.motion.groups import KeypointGroups
from liveportrait.motion.lifting import KEYPOINTS, MESH_ROWS
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import CROP_SIDE, Motion
from liveportrait.training.config import check, check_shares
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import Example
from liveportrait.training.stage_two.frozen_networks import FrozenNetworks, choose_by_row, to_pictures
from liveportrait.types import Array

MIN_EYE_RATIO = 0.3  # narrower eye's width over the wider one's: below this the head is turned too far
PREPARED_BATCH = 16
STILL, RELATIVE, ABSOLUTE = range(3)
_PARTS = (
    (RIGHT_EYE_LIDS, RIGHT_EYE_CORNERS),
    (LEFT_EYE_LIDS, LEFT_EYE_CORNERS),
    (INNER_LIPS, MOUTH_CORNERS),
)
_ROWS = tuple(tuple(MESH_ROWS.index(row) for row in (*height, *width)) for height, width in _PARTS)


def ratios_of(landmarks: Array) -> Array:
    """Openings (N,3) of the picture's left eye, its right eye and the lips, from landmarks (N,111,2) px.

    Height over width, as `face.measures` computes from the full mesh.
    """
    columns = []
    for up, down, first, last in _ROWS:
        height = np.linalg.norm(landmarks[:, up] - landmarks[:, down], axis=1)
        width = np.linalg.norm(landmarks[:, first] - landmarks[:, last], axis=1)
        columns.append(height / (width + 1e-6))
    return np.stack(columns, 1).astype(np.float32)


def readable_rows(corpus: Corpus) -> NDArray[np.int64]:
    """Indices of frames in which the head is not turned too far to measure both eyes. Raises `UserError` if none is."""
    widths = np.stack(
        [np.linalg.norm(np.diff(corpus.landmarks[:, row[2:]], axis=1)[:, 0], axis=1) for row in _ROWS[:2]], 1
    )
    rows = np.flatnonzero(
        (widths.min(1) > MIN_EYE_RATIO * widths.max(1)) & (ratios_of(corpus.landmarks).max(1) < 1)
    )
    if not len(rows):
        raise UserError(f"No frame of {corpus.folder} shows both eyes: use other shards.")
    return rows


def seen_keypoints(landmarks: Array, rotation: Array) -> SeenKeypoints:
    """The compact keypoints according to labels: landmarks (N,111,2) px and rotations (N,3,3)."""
    return SeenKeypoints(landmarks[:, list(KEYPOINTS)], rotation)


@dataclass(frozen=True)
class DriveMix:
    """Shares and sizes of the driving motions of stitching."""

    relative: float = 0.6  # share that adds another person's change between two frames
    absolute: float = 0.3  # share that takes another person's pose; the rest drives with the source itself
    moved: float = 0.6  # share that is then shifted, zoomed and turned
    shift: float = 0.15  # maximum, in half sides of the crop
    zoom: float = 0.12  # maximum, as a logarithm
    degrees: float = 12.0  # standard deviation of the turn about each axis

    def __post_init__(self) -> None:
        """Raise `UserError` for impossible values."""
        check_shares(self, "relative", "absolute", "moved")
        both = self.relative + self.absolute
        check("relative + absolute", both, both <= 1, "together they must be at most 1")


class MotionBank(NamedTuple):
    """M's motions of some frames of some clips."""

    motion: Motion  # of N frames
    ratios: Tensor  # (N,3), see `ratios_of`
    frames: int  # per clip; a clip's rows are consecutive

    @property
    def clips(self) -> int:
        """The number of clips."""
        return len(self.ratios) // self.frames


def motion_bank(networks: FrozenNetworks, corpus: Corpus, clips: int, frames: int, seed: int) -> MotionBank:
    """Motions of `frames` frames of each of up to `clips` clips. Raises `UserError` if no clip is long enough."""
    rng = np.random.default_rng((seed, 0xBA2C))
    long = [rows for rows in corpus.rows_of_clips() if len(rows) >= frames]
    if not long:
        raise UserError(f"No clip of {corpus.folder} has {frames} frames: add videos or lower bank_frames.")
    chosen = rng.permutation(len(long))[:clips]
    rows = np.concatenate([rng.choice(long[clip], frames, replace=False) for clip in chosen])
    motion = networks.motions(corpus.frames, rows)
    if networks.groups.keypoints_are_landmarks:  # drivers are tracked
        motion = snap_to_landmarks(
            motion, seen_keypoints(corpus.landmarks[rows], corpus.motion.rotation[rows].numpy()), CROP_SIDE
        )
    return MotionBank(motion, torch.from_numpy(ratios_of(corpus.landmarks[rows])), frames)


class SourceSampler:
    """Sources, each with drives from the bank and requested openings."""

    def __init__(
        self, corpus: Corpus, bank: MotionBank | None, mix: DriveMix, drives: int, highest: float = 0.8
    ) -> None:
        self.corpus, self.bank, self.mix, self.drives, self.highest = corpus, bank, mix, drives, highest
        usable = set(readable_rows(corpus).tolist())
        clips = ([row for row in rows.tolist() if row in usable] for rows in corpus.rows_of_clips())
        self.clips = [rows for rows in clips if rows]

    def __call__(self, rng: np.random.Generator) -> Example:
        """One example: picture (256,256,3) uint8, landmarks (111,2) px, ratios (3,), rotation (3,3), and whether
        the source counts as tracked. All clips have the same probability.

        For each of n drives: wanted (n,) openings; kind (n,); first and now (n,), frames of the bank; shift (n,2);
        zoom (n,) as a logarithm; turn (n,3) in degrees about x, y, z.
        """
        rows = self.clips[rng.integers(len(self.clips))]
        row = rows[rng.integers(len(rows))]
        example: Example = {
            "picture": np.asarray(self.corpus.frames[row]),
            "landmarks": self.corpus.landmarks[row],
            "ratios": ratios_of(self.corpus.landmarks[row : row + 1])[0],
            "rotation": self.corpus.motion.rotation[row].numpy(),
            "tracked": np.array(rng.random() < 0.5),
            "wanted": rng.uniform(0, self.highest, self.drives).astype(np.float32),
        }
        return example if self.bank is None else example | draw_drives(rng, self.bank, self.mix, self.drives)


def draw_drives(rng: np.random.Generator, bank: MotionBank, mix: DriveMix, count: int) -> Example:
    """The drives of one example, see `SourceSampler`."""
    clip = rng.integers(bank.clips, size=count) * bank.frames
    chance = rng.random(count)
    kind = np.where(
        chance < mix.relative, RELATIVE, np.where(chance < mix.relative + mix.absolute, ABSOLUTE, STILL)
    )
    moved = (rng.random(count) < mix.moved) & (kind != STILL)
    return {
        "kind": kind,
        "first": clip + rng.integers(bank.frames, size=count),
        "now": clip + rng.integers(bank.frames, size=count),
        "shift": (rng.uniform(-mix.shift, mix.shift, (count, 2)) * moved[:, None]).astype(np.float32),
        "zoom": (rng.uniform(-mix.zoom, mix.zoom, count) * moved).astype(np.float32),
        "turn": (rng.normal(0, mix.degrees, (count, 3)) * moved[:, None]).astype(np.float32),
    }


@dataclass(frozen=True)
class FlowSources:
    """N sources prepared for W's flow alone."""

    context: Tensor  # (N,c,h,w), half precision
    motion: Motion
    landmarks: Tensor  # (N,111,2) px


def flow_sources(networks: FrozenNetworks, corpus: Corpus, count: int, size: int, seed: int) -> FlowSources:
    """Up to `count` sources, one per clip, half of them tracked (see `FrozenNetworks.tracked_motion`)."""
    rng = np.random.default_rng((seed, 0xF10))
    clips = SourceSampler(corpus, None, DriveMix(), 1).clips
    chosen = [clips[number] for number in rng.permutation(len(clips))[:count]]
    rows = np.array([clip[rng.integers(len(clip))] for clip in chosen])
    contexts, motions = [], []
    for part in np.array_split(rows, -(-len(rows) // PREPARED_BATCH)):
        pictures = to_pictures(corpus.frames[part], networks.device)
        seen = seen_keypoints(corpus.landmarks[part], corpus.motion.rotation[part].numpy())
        tracked = torch.from_numpy(rng.random(len(part)) < 0.5).to(networks.device)
        motions.append(networks.tracked_motion(pictures, seen, tracked))
        contexts.append(networks.context(pictures, size).half())
    motion = Motion.cat(motions)
    landmarks = torch.from_numpy(corpus.landmarks[rows]).to(networks.device)
    return FlowSources(torch.cat(contexts), motion, landmarks)


class FlowSampler:
    """Rows of prepared sources, each with drives."""

    def __init__(self, sources: int, bank: MotionBank, mix: DriveMix, drives: int) -> None:
        self.sources, self.bank, self.mix, self.drives = sources, bank, mix, drives

    def __call__(self, rng: np.random.Generator) -> Example:
        """One example: source, a row, and the drives of `SourceSampler`."""
        row = np.array(rng.integers(self.sources))
        return {"source": row, **draw_drives(rng, self.bank, self.mix, self.drives)}


def drive(source: Motion, batch: dict[str, Tensor], bank: MotionBank, groups: KeypointGroups) -> Motion:
    """The driven motions (B) of sources (B) under B drawn drives; every entry of `batch` has B rows."""
    first, now = (bank.motion.rows(batch[name]) for name in ("first", "now"))
    change = change_since(fix_canonical(now, first, groups), first, groups)
    following = relative(source, change, "all", groups)
    taking = absolute(source, now, "all", groups)
    kind = batch["kind"]
    driven = choose_by_row(kind == ABSOLUTE, taking, choose_by_row(kind == RELATIVE, following, source))
    return displaced(driven, batch["shift"], batch["zoom"], batch["turn"])


def displaced(motion: Motion, shift: Tensor, zoom: Tensor, turn: Tensor) -> Motion:
    """A motion shifted by (B,2), zoomed by (B,) as a logarithm, and turned by (B,3) degrees about x, y and z."""
    rotation = rotation_matrix(*turn.unbind(1))
    return motion._replace(
        rotation=motion.rotation @ rotation,
        expression=motion.expression @ rotation,
        scale=motion.scale * zoom.exp()[:, None],
        translation=motion.translation + torch.nn.functional.pad(shift, (0, 1)),
    )
