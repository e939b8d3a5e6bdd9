"""What is kept of a face from the first pass on: a few numbers a frame."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.tracking import openings_of
from liveportrait.face import Face
from liveportrait.face.canonical import OVAL
from liveportrait.face.crop import Square, face_square
from liveportrait.motion import SeenKeypoints

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sighting:
    """A face in one frame, as far as later passes need it."""

    square: Square  # of its box
    keypoints: SeenKeypoints
    openings: Array  # (3,) of left eye, right eye and lips
    rim: Array  # (36,3) px: the outline of the face

    @classmethod
    def of(cls, face: Face) -> Sighting:
        """What to keep of a face."""
        keypoints = SeenKeypoints.of([face.landmarks])
        return cls(face_square(face.landmarks), keypoints, openings_of(face), face.landmarks[list(OVAL)])

    def numbers(self) -> Array:
        """All of it as one row."""
        centre, side, roll = self.square
        parts = (
            [*centre, side, roll],
            self.keypoints.points,
            self.keypoints.rotation,
            self.openings,
            self.rim,
        )
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)

    @classmethod
    def from_numbers(cls, row: Array) -> Sighting:
        """The inverse of `numbers`."""
        square, points, rotation, openings, rim = np.split(row, np.cumsum([4, 42, 9, 3]))
        x, y, side, roll = square.tolist()
        return cls(
            Square(np.array([x, y]), side, roll),
            SeenKeypoints(points.reshape(1, 21, 2), rotation.reshape(1, 3, 3)),
            openings,
            rim.reshape(-1, 3),
        )


WIDTH = 4 + 42 + 9 + 3 + 3 * len(OVAL)  # of a row


@dataclass(eq=False)
class Sightings:
    """One face through a video: a sighting a frame, or None.

    Kept as rows of one growing block: small objects left between the frames of a long video would scatter memory.
    """

    _rows: array[float] = field(default_factory=lambda: array("f"))
    _row_of: array[int] = field(default_factory=lambda: array("l"))  # each frame's row, or -1

    @classmethod
    def absent(cls, frames: int) -> Sightings:
        """Nothing seen in so many frames."""
        return cls(_row_of=array("l", [-1]) * frames)

    def append(self, face: Face | None) -> None:
        """Add the next frame."""
        self._row_of.append(len(self._rows) // WIDTH if face else -1)
        if face:
            self._rows.frombytes(Sighting.of(face).numbers().tobytes())

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) whether the frame shows the face."""
        return np.array(self._row_of) >= 0

    def __len__(self) -> int:
        return len(self._row_of)

    def __getitem__(self, frame: int) -> Sighting | None:
        row = self._row_of[frame]
        if row < 0:
            return None
        return Sighting.from_numbers(np.array(self._rows[row * WIDTH : (row + 1) * WIDTH], np.float32))

    def __iter__(self) -> Iterator[Sighting | None]:
        return (self[frame] for frame in range(len(self)))
