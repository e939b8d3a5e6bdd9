"""The driver: a video, a photo or a motion template, all as motions that arrive in small batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from liveportrait.animation.report import Stretches
from liveportrait.animation.session import Session
from liveportrait.choices import Reference
from liveportrait.media.arrays import DEFAULT_FPS
from liveportrait.networks.interface import Motion
from liveportrait.types import Array, Image

PHOTO_FPS = DEFAULT_FPS


@dataclass(frozen=True, eq=False)
class DrivingBatch:
    """Some frames of a driver, in order."""

    motion: Motion  # batch B
    ratios: Tensor | None  # (B,3) openings of left eye, right eye and lips, where somebody measured them
    crops: tuple[Image | None, ...]  # B crops (S,S,3) as M saw them; None from a template

    def __len__(self) -> int:
        return len(self.crops)

    def take(self, rows: Sequence[int]) -> DrivingBatch:
        """The frames of these rows, in this order."""
        wanted = list(rows)
        return DrivingBatch(
            self.motion.rows(wanted),
            None if self.ratios is None else self.ratios[wanted],
            tuple(self.crops[row] for row in wanted),
        )

    def slices(self, size: int) -> Play:
        """All frames, up to `size` at a time."""
        for begin in range(0, len(self), size):
            yield self.take(range(begin, min(begin + size, len(self))))

    @classmethod
    def cat(cls, parts: Sequence[DrivingBatch]) -> DrivingBatch:
        """Several batches as one."""
        ratios = [part.ratios for part in parts if part.ratios is not None]
        return cls(
            Motion.cat([part.motion for part in parts]),
            torch.cat(ratios) if ratios else None,
            tuple(crop for part in parts for crop in part.crops),
        )


Play = Generator[DrivingBatch, None, None]


class Start(NamedTuple):
    """The point that relative motion starts from."""

    motion: Motion  # batch 1
    ratios: Tensor | None = None  # (1,3) openings, where they are known


@dataclass(frozen=True, eq=False, kw_only=True)
class Driver(ABC):
    """The motion of somebody who moves a face. It may be played again and again."""

    name: str  # for messages
    fps: Fraction
    frames: int  # how many there are
    is_photo: bool = False
    has_pictures: bool = True  # whether batches bring the crops that M saw
    ratios: Array | None = None  # (N,3) openings of left eye, right eye and lips in all frames of a video
    audio: Path | None = None  # a file with sound
    cuts: tuple[int, ...] = ()  # frames at which a new scene begins
    held: Stretches = ()  # frames without a face, through which the last motion is held

    @abstractmethod
    def start(self, face: int) -> Start:
        """The start for the face of that place among those it moves, counted from 0."""

    @abstractmethod
    def play(self, session: Session) -> Play:
        """All frames in batches; close the iterator."""


def missing_reference(reference: Reference, name: str, count: int) -> str:
    """A sentence on a reference frame that does not exist or shows no face."""
    if isinstance(reference, int) and reference >= count:
        return (
            f"reference names frame {reference}, but {name} has frames 0 to {count - 1}: choose one of these"
        )
    return f"reference names frame {reference}, which shows no face in {name}: choose another one, or auto"
