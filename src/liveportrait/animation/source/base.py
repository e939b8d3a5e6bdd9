"""The source: frames with faces in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.report import Jitter
from liveportrait.animation.session import Session
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow
from liveportrait.motion.animals import AnimalMotion
from liveportrait.motion.expression import FaceShape
from liveportrait.networks.interface import Features, Motion
from liveportrait.types import Array, Image

MIN_SIDE = 32  # px; nothing can be seen in smaller pictures


class FacePlacement(NamedTuple):
    """The position of a face in a frame."""

    window: CropWindow
    side: float  # of the face's box, px
    outline: Array  # (36,3) px


@dataclass(frozen=True, eq=False)
class FaceView:
    """A face in b frames as the networks know it; batch 1 if it is the same in all of them."""

    features: Features
    motion: Motion
    ratios: Tensor | None  # (b,3) openings of left eye, right eye and lips; None if no face was found
    crops: NDArray[np.uint8]  # (b,S,S,3), as F and M saw them
    placements: tuple[FacePlacement, ...]  # b; empty if the frame itself is taken as the face
    # (b,21,3) expression without speech, see `usual_expression`; None: the motion's
    usual: Tensor | None = None


class SourceFace(Protocol):
    """One face of a source, through all of its frames."""

    @property
    def still(self) -> FaceView | None:
        """The face if it never changes, None if it moves by itself."""
        ...

    @property
    def animal(self) -> AnimalMotion | None:
        """An animal's motion, if the face is an animal's and keypoints are landmarks."""
        ...

    @property
    def is_animal(self) -> bool:
        """Whether it is an animal's face, whatever its keypoints are."""
        ...

    @property
    def scores(self) -> Array | None:
        """The face's own expression (53,), see `face.scores`; None unless it is a person in a photo."""
        ...

    @property
    def shape(self) -> FaceShape | None:
        """The shape to which a driver's expressions are adapted; None if the weights or the face do not allow it."""
        ...

    def shown(self, rows: range) -> list[int]:
        """Those of the frames with these numbers that show it."""
        ...

    def view(self, session: Session, rows: Sequence[int], frames: Sequence[Image]) -> FaceView:
        """The face in these frames, given by their numbers and pictures."""
        ...

    @property
    def openings(self) -> Tensor | None:
        """(n,3) openings of left eye, right eye and lips in its n frames; None for an animal, or if not found."""
        ...

    @property
    def side(self) -> float | None:
        """Side of the largest crop in the frames, px; None if the frames are the face."""
        ...

    def crop(self, row: int, frame: Image, size: int, replicate_border: bool = False) -> Image:
        """The crop (size,size,3) of an unchanged frame; without the face, where the crop was last."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(ABC):
    """A portrait, still or moving. Immutable once open."""

    name: str  # for messages
    shape: tuple[int, int]  # height and width of the frames, px
    faces: Sequence[SourceFace]  # those that are animated, at least one
    crops: bool = True  # whether faces were cropped from the frames; otherwise the frames are the face
    found: int = 0  # number of faces, chosen or not
    bystanders: tuple[Array, ...] = ()  # outlines (36,3) px of a photo's other faces
    fps: Fraction | None = None  # None: a photo, which lasts as long as needed
    count: int | None = None  # number of frames; None for a photo
    audio: Path | None = None  # a file with sound
    file: Path | None = None  # the file it was opened from; None for pictures from Python
    sha256: str = ""  # of that file, hexadecimal; the file may be gone by now
    cuts: tuple[int, ...] = ()  # frames at which a new scene begins
    jitter: tuple[Jitter, ...] = ()
    note: str = ""  # for the user, about its faces

    @abstractmethod
    def frames(self, session: Session) -> AbstractContextManager[Iterator[Image]]:
        """The frames (H,W,3) RGB from the first on."""


def require_size(name: str, shape: Sequence[int]) -> None:
    """Raise `UserError` for a picture too small to show anything."""
    if min(shape[:2]) < MIN_SIDE:
        raise UserError(f"{name} is {shape[1]}x{shape[0]} px: use a picture of at least {MIN_SIDE} px")
