"""Faces of cats and dogs: a detector with nine landmarks, and what is derived from them (axes, crop, outline).

The network is our own (models/README.md). A first pass finds faces from an eleventh of the picture's size upwards; a
second sees each face upright, centred and at a fixed size, places nine landmarks and gives a confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from liveportrait.face.crop import CropWindow, Square, crop, to_input
from liveportrait.face.runtime import FOLDER
from liveportrait.networks.animal import SIDE, AnimalNetwork, AnimalReading, face_size
from liveportrait.types import Array, Image

# Rows of the landmarks, as in `networks.animal`; the left eye is the one on the picture's left.
LEFT_LIDS, RIGHT_LIDS, NOSE, MOUTH, CORNERS, CHIN = (0, 1), (2, 3), 4, 5, (6, 7), 8

SNOUT = 0.75  # minimum distance between frontal eyes, relative to the distance from the eyes to the chin
# The square that a crop is framed around, in eye distances: with the framing used for people, ears and chin lie inside
# and the eyes are as far apart as a person's.
SQUARE_SIDE, SQUARE_BELOW = 1.9, 0.7
# A crop is wider if the lids are more than two and a half times as far apart as a person's: they could not close.
MAX_EYE_OPENING = 0.25  # distance between the lids, in eye distances
EYE_HALF_WIDTH = 0.18  # in eye distances
OUTLINE_POINTS = 36  # of an outline, as many as of a person's
# Margins of the outline above the eyes, below the chin and to either side, in eye distances.
OUTLINE_ABOVE, OUTLINE_BELOW, OUTLINE_HALF_WIDTH = 0.95, 0.15, 1.15

WEIGHTS = FOLDER / "animal_face.safetensors"
MIN_CANDIDATE_SCORE, MIN_SCORE = 0.2, 0.5  # for the first pass to propose a face, for the second to accept it
MAX_CANDIDATES = 12  # that reach the second pass
SECOND_PASS_SIZE = 0.34  # of a face in the second pass's square, whose half side is 1
SECOND_PASSES = 2
PRIOR = 0.5  # standard deviation, in face sizes, of a heatmap's prior around the place that the cells predict
CENTRAL = 0.35  # the second pass's face has its centre within this of the middle, half side = 1
HEAD_ROOM = 1.45  # side of the square for a given box around a head, in sides of the box
# The picture shrunk, so that a face may fill it; at its own scale; and in tiles at twice that scale.
SCALES = (0.6, 1.0, 2.0)
STEP = 0.67  # from one tile to the next, in sides of a tile


class FaceAxes(NamedTuple):
    """The axes of an animal's face in the picture."""

    eyes: NDArray[np.float64]  # (2,2) centres of the left and right eye
    middle: NDArray[np.float64]  # (2,) between them
    right: NDArray[np.float64]  # (2,) unit vector from the left to the right eye
    down: NDArray[np.float64]  # (2,) unit vector towards the chin of an upright face
    unit: float  # the eye distance, as it would be seen from the front

    @property
    def roll(self) -> float:
        """Radians, positive clockwise on the screen."""
        return float(np.arctan2(self.right[1], self.right[0]))


def face_axes(landmarks: Array | NDArray[np.float64]) -> FaceAxes:
    """The axes of a face with landmarks (9,2), in the landmarks' unit."""
    points = landmarks.astype(np.float64)
    eyes = np.stack([points[list(LEFT_LIDS)].mean(0), points[list(RIGHT_LIDS)].mean(0)])
    middle, across = eyes.mean(0), eyes[1] - eyes[0]
    seen = float(np.linalg.norm(across))
    right = across / seen if seen > 1e-6 else np.array([1.0, 0.0])
    down = np.array([-right[1], right[0]])
    return FaceAxes(eyes, middle, right, down, max(seen, SNOUT * float((points[CHIN] - middle) @ down), 1e-6))


def animal_square(landmarks: Array) -> Square:
    """The square that takes the place of the face's box when a crop is framed; landmarks (9,2) px."""
    axes = face_axes(landmarks)
    opening = max(
        float(np.linalg.norm(landmarks[low] - landmarks[high])) for high, low in (LEFT_LIDS, RIGHT_LIDS)
    )
    size = max(axes.unit, opening / MAX_EYE_OPENING)
    return Square(axes.middle + SQUARE_BELOW * axes.unit * axes.down, SQUARE_SIDE * size, axes.roll)


def published_square(landmarks: Array) -> Square:
    """The published program's equivalent of `animal_square`: the box around eyes, nose and lips, turned upright."""
    axes = face_axes(landmarks)
    turn = np.stack([axes.right, axes.down])
    own = (landmarks[:CHIN].astype(np.float64) - axes.middle) @ turn.T
    low, high = own.min(axis=0), own.max(axis=0)
    low[0] = min(low[0], -(0.5 + EYE_HALF_WIDTH) * axes.unit)
    high[0] = max(high[0], (0.5 + EYE_HALF_WIDTH) * axes.unit)
    return Square(axes.middle + (low + high) / 2 @ turn, float((high - low).max()), axes.roll)


def animal_outline(landmarks: Array) -> Array:
    """An ellipse (36,3) px around the face without its ears, clockwise from the forehead, at depth 0."""
    axes = face_axes(landmarks)
    chin = (landmarks[CHIN].astype(np.float64) - axes.middle) @ axes.down
    top, bottom = -OUTLINE_ABOVE * axes.unit, chin + OUTLINE_BELOW * axes.unit
    angle = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)[:, None]
    across = np.sin(angle) * OUTLINE_HALF_WIDTH * axes.unit
    along = (top + bottom) / 2 - np.cos(angle) * (bottom - top) / 2
    outline = axes.middle + across * axes.right + along * axes.down
    return np.concatenate([outline, np.zeros_like(angle)], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class AnimalFace:
    """An animal's face in one picture."""

    landmarks: Array  # (9,2) px of the picture, see `networks.animal`
    score: float  # 0..1

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the landmarks, px: eyes to chin."""
        low, high = self.landmarks.min(axis=0), self.landmarks.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class AnimalDetector:
    """Finds the faces of animals. Keeps no state between calls."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        self._network = AnimalNetwork().eval()
        self._network.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self._network.requires_grad_(False)

    def detect(self, image: Image) -> list[AnimalFace]:
        """All faces in an RGB picture (H,W,3) uint8, largest first; an empty list if there is none."""
        faces: list[AnimalFace] = []
        for found in self._candidates(image):
            face = self._refined(image, found)
            if face.score >= MIN_SCORE and not any(_coincide(face, other) for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: -face_axes(face.landmarks).unit)

    def within(self, image: Image, box: tuple[float, float, float, float]) -> AnimalFace:
        """The face in a box x0, y0, x1, y1 px around a head; assumed to be there, so its score may be 0."""
        x0, y0, x1, y1 = box
        square = Square(np.array([(x0 + x1) / 2, (y0 + y1) / 2]), HEAD_ROOM * max(x1 - x0, y1 - y0), 0.0)
        return self._refined(image, self._face_in(image, square))

    def _candidates(self, image: Image) -> list[AnimalFace]:
        """The first pass's proposals, best first."""
        windows = list(_windows(image.shape))
        tiles = np.stack([to_input(crop(image, window), SIDE) for window in windows])
        found: list[AnimalFace] = []
        for window, tile in zip(windows, tiles, strict=True):
            reading = self._read(tile)
            score = reading.centre[0].sigmoid()
            peaks = torch.nn.functional.max_pool2d(score[None], 3, 1, 1)[0]
            for row, column in ((score == peaks) & (score > MIN_CANDIDATE_SCORE)).nonzero().tolist():
                points = _to_picture(reading.points[0, row, column].numpy(), window)
                found.append(AnimalFace(points, float(score[row, column])))
        kept: list[AnimalFace] = []
        for face in sorted(found, key=lambda face: -face.score):
            if not any(_coincide(face, other) for other in kept):
                kept.append(face)
        return kept[:MAX_CANDIDATES]

    def _refined(self, image: Image, face: AnimalFace) -> AnimalFace:
        """The face measured again on a square placed by its landmarks, several times."""
        for _ in range(SECOND_PASSES):
            axes = face_axes(face.landmarks)
            side = 2 * float(face_size(torch.from_numpy(face.landmarks))) / SECOND_PASS_SIZE
            centre = face.landmarks.astype(np.float64).mean(axis=0)
            face = self._face_in(image, Square(centre, max(side, 1.0), axes.roll))
        return face

    def _face_in(self, image: Image, square: Square) -> AnimalFace:
        """The one face in the middle of a square."""
        window = square.window(2 * SIDE)
        reading = self._read(to_input(crop(image, window), SIDE))
        height, width = reading.centre.shape[1:]
        rows, columns = (
            torch.arange(n)[((torch.arange(n) + 0.5) * 2 / n - 1).abs() < CENTRAL] for n in (height, width)
        )
        score = reading.centre[0].sigmoid()[rows][:, columns]
        best = int(score.argmax())
        row, column = int(rows[best // len(columns)]), int(columns[best % len(columns)])
        seen = reading.points[0, row, column]
        axis = (torch.arange(width) + 0.5) * 2 / width - 1
        cells = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
        spread = PRIOR * face_size(seen).clamp(min=0.05)
        prior = -(cells[None] - seen[:, None]).square().sum(-1) / (2 * spread**2)
        fine = (reading.heat[0] + prior).softmax(-1) @ cells
        return AnimalFace(_to_picture(fine.numpy(), window), float(score.max()))

    @torch.no_grad()
    def _read(self, tile: Image) -> AnimalReading:
        return self._network(torch.from_numpy(tile).permute(2, 0, 1)[None].float() / 255)


def _windows(shape: tuple[int, ...]) -> Iterator[CropWindow]:
    """The tiles of a picture for the first pass, largest first."""
    height, width = shape[:2]
    for scale in SCALES:
        side = max(height, width) / scale
        for y in _tile_centres(height, side):
            for x in _tile_centres(width, side):
                yield Square(np.array([x, y]), side, 0.0).window(2 * SIDE)


def _tile_centres(length: float, side: float) -> list[float]:
    """Centres of the tiles of a given side that cover a length."""
    if length <= side:
        return [length / 2]
    count = int(np.ceil((length - side) / (STEP * side))) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()


def _to_picture(points: Array, window: CropWindow) -> Array:
    """Convert points (9,2) in [-1, 1] of a window to px of the picture."""
    pixels = (points + 1) * (window.size / 2) - 0.5
    inverse = window.inverse()
    return (pixels @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)


def _coincide(face: AnimalFace, other: AnimalFace) -> bool:
    """Whether the centres are so close that both must be the same face."""
    apart = float(np.linalg.norm(face.landmarks.mean(axis=0) - other.landmarks.mean(axis=0)))
    return apart < face_axes(face.landmarks).unit or apart < face_axes(other.landmarks).unit
