"""Records of a face from the first pass over a video: a few numbers per frame."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from liveportrait.face import Face
from liveportrait.face.canonical import OVAL
from liveportrait.face.crop import Square, face_square
from liveportrait.face.measures import opening_ratios
from liveportrait.motion import SeenKeypoints
from liveportrait.types import Array

# A packed observation.
_RECORD = np.dtype(
    [
        ("square", np.float32, 4),  # x, y, side, roll
        ("points", np.float32, (21, 2)),
        ("rotation", np.float32, (3, 3)),
        ("ratios", np.float32, 3),
        ("outline", np.float32, (len(OVAL), 3)),
    ]
)


@dataclass(frozen=True, eq=False)
class FaceObservation:
    """The measurements of a face in one frame that later passes need."""

    square: Square  # of its box
    keypoints: SeenKeypoints
    ratios: Array  # (3,) of left eye, right eye and lips
    outline: Array  # (36,3) px

    @classmethod
    def of(cls, face: Face) -> FaceObservation:
        """The observation of a tracked face."""
        points = face.landmarks
        return cls(
            face_square(points), SeenKeypoints.of([points]), opening_ratios(points), points[list(OVAL)]
        )

    def packed(self) -> bytes:
        """The observation as one record."""
        record = np.zeros(1, _RECORD)
        record["square"] = [*self.square.centre, self.square.side, self.square.roll]
        record["points"], record["rotation"] = self.keypoints.points, self.keypoints.rotation
        record["ratios"], record["outline"] = self.ratios, self.outline
        return record.tobytes()

    @classmethod
    def unpacked(cls, packed: bytes | bytearray) -> FaceObservation:
        """The inverse of `packed`."""
        record = np.frombuffer(packed, _RECORD)
        x, y, side, roll = record["square"][0].tolist()
        keypoints = SeenKeypoints(record["points"], record["rotation"])
        return cls(Square(np.array([x, y]), side, roll), keypoints, record["ratios"][0], record["outline"][0])


@dataclass(eq=False)
class FaceObservations:
    """One face through a video: an observation or None per frame.

    Stored as rows of one growing block: small objects allocated between the frames of a long video would fragment
    memory.
    """

    _rows: bytearray = field(default_factory=bytearray)
    _row_of: array[int] = field(default_factory=lambda: array("l"))  # each frame's row, or -1

    @classmethod
    def absent(cls, frames: int) -> FaceObservations:
        """Nothing seen in so many frames."""
        return cls(_row_of=array("l", [-1]) * frames)

    def append(self, face: Face | None) -> None:
        """Add the next frame."""
        self._row_of.append(len(self._rows) // _RECORD.itemsize if face else -1)
        if face:
            self._rows += FaceObservation.of(face).packed()

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) whether the frame shows the face."""
        return np.array(self._row_of) >= 0

    @property
    def ratios(self) -> Array:
        """(n,3) openings of left eye, right eye and lips in the frames that show the face."""
        return np.array(np.frombuffer(self._rows, _RECORD)["ratios"])

    def __len__(self) -> int:
        return len(self._row_of)

    def __getitem__(self, frame: int) -> FaceObservation | None:
        row = self._row_of[frame]
        return None if row < 0 else self._at(row)

    def held(self, frame: int) -> FaceObservation:
        """The observation in the last frame up to this one that shows the face; before the first one, the first.

        At least one frame must show it.
        """
        return self._at(max(*self._row_of[: frame + 1], 0))

    def _at(self, row: int) -> FaceObservation:
        return FaceObservation.unpacked(self._rows[row * _RECORD.itemsize : (row + 1) * _RECORD.itemsize])

    def __iter__(self) -> Iterator[FaceObservation | None]:
        return (self[frame] for frame in range(len(self)))
