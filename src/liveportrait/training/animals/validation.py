"""Figures of the animal network: how often and how exactly it finds animals, and its false alarms on people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.animals import LEFT_LIDS, RIGHT_LIDS, AnimalDetector, AnimalFace, face_axes
from liveportrait.training.animals.train import read_backgrounds, read_crops
from liveportrait.training.animals.views import Labelled

SCENE = 640  # px: side of a picture into which a crop is pasted
SCENES_PER_CROP = 1
SMALL, LARGE = 0.2, 0.9  # side of the crop in a scene
PEOPLE = 100  # pictures of people to check
MAX_CENTRE_DISTANCE = 0.5  # in eye distances: a detection nearer to the face's centre is a hit


@dataclass(frozen=True)
class Figures:
    """Figures on held-out pictures. Errors are medians over the faces that were found, in eye distances."""

    crops: int
    found: float  # share of the crops whose animal was found
    scenes: int
    found_in_scenes: float  # share of the scenes whose animal was found
    eyes: float  # error of the eyes' centres
    landmarks: float  # of all nine landmarks
    opening: float  # error of the eyes' openings
    pictures: int  # of people
    false_alarms: float  # share of the pictures of people in which an animal was found

    def table(self) -> str:
        """The figures as text."""
        return (
            f"found: {self.found:.0%} of {self.crops} crops, {self.found_in_scenes:.0%} of {self.scenes} scenes;"
            f" eyes off by {self.eyes:.3f}, landmarks by {self.landmarks:.3f}, openings by {self.opening:.3f}"
            f" (median, eye distance = 1)\n"
            f"an animal seen in {self.false_alarms:.1%} of {self.pictures} pictures of people"
        )


def measure(weights: Path, shards: Sequence[Path], backgrounds: Sequence[Path], seed: int = 0) -> Figures:
    """Figures on held-out crops, on the same crops pasted into pictures of people, and on pictures of people alone."""
    detector = AnimalDetector(weights)
    crops = read_crops(shards, held_out=True)
    people = read_backgrounds(backgrounds, seed, held_out=True)
    rng = np.random.default_rng(seed)
    errors: list[NDArray[np.float64]] = []
    alone = [_found(detector.detect(crop.picture), crop, errors) for crop in crops]
    scenes = [_scene(crop, people, rng) for crop in crops for _ in range(SCENES_PER_CROP)]
    laid = [_found(detector.detect(scene.picture), scene, errors) for scene in scenes]
    alarms = [bool(detector.detect(picture)) for picture in people[:PEOPLE]]
    eyes, landmarks, opening = np.median(np.array(errors), axis=0) if errors else (np.nan,) * 3
    return Figures(
        len(alone),
        float(np.mean(alone)),
        len(laid),
        float(np.mean(laid)),
        float(eyes),
        float(landmarks),
        float(opening),
        len(alarms),
        float(np.mean(alarms)),
    )


def _found(faces: Sequence[AnimalFace], labelled: Labelled, errors: list[NDArray[np.float64]]) -> bool:
    """Whether the animal is among the faces; if so, its distances from the labels are appended to `errors`."""
    wanted = labelled.points.astype(np.float64)
    axes = face_axes(wanted)
    for face in faces:
        off = face.landmarks - wanted
        if np.linalg.norm(off.mean(0)) < MAX_CENTRE_DISTANCE * axes.unit:
            eyes = np.linalg.norm(face_axes(face.landmarks).eyes - axes.eyes, axis=1).mean()
            openings = [
                abs(np.linalg.norm(own[a] - own[b]) - np.linalg.norm(wanted[a] - wanted[b]))
                for own in (face.landmarks,)
                for a, b in (LEFT_LIDS, RIGHT_LIDS)
            ]
            each = (eyes, np.linalg.norm(off, axis=1).mean(), np.mean(openings))
            errors.append(np.array(each) / axes.unit)
            return True
    return False


def _scene(crop: Labelled, people: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> Labelled:
    """The crop pasted somewhere into a picture of people."""
    background = people[int(rng.integers(len(people)))]
    picture = cv2.resize(background, (SCENE, SCENE), interpolation=cv2.INTER_CUBIC)
    side = int(SCENE * np.exp(rng.uniform(np.log(SMALL), np.log(LARGE))))
    x, y = (int(value) for value in rng.integers(0, SCENE - side + 1, 2))
    picture[y : y + side, x : x + side] = cv2.resize(crop.picture, (side, side), interpolation=cv2.INTER_AREA)
    zoom = side / len(crop.picture)
    points = (crop.points + 0.5) * zoom - 0.5 + np.array([x, y])
    return Labelled(np.asarray(picture, np.uint8), points.astype(np.float32))
