"""Who is who: faces of a frame matched with the people known so far, by identity and by place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from liveportrait.face import Face
from liveportrait.face.identity import SAME_PERSON

Array = NDArray[np.float32]

GALLERY = 8  # embeddings kept of each person
NEARBY = 0.3  # where a face was lost a moment ago, another look is the same person up to this much less alike
_TIE = 0.02  # of the picture's width, in embedding distance: twins are told apart by place


@dataclass(eq=False)
class Person:
    """Somebody in a video: where their face is now, and what it looked like."""

    face: Face | None  # in the frame at hand; None while it is lost
    last: Face  # where it was seen last
    scene: int  # and in which scene
    gallery: list[Array] = field(default_factory=list)  # embeddings (128,)

    def remember(self, embedding: Array) -> None:
        """Keep another look at the face; the first one is never dropped."""
        self.gallery.append(embedding)
        if len(self.gallery) > GALLERY:
            del self.gallery[1]

    def found(self, face: Face, scene: int) -> None:
        """Take a face of the frame at hand for this person's."""
        self.face = self.last = face
        self.scene = scene

    def unlikeness(self, embedding: Array) -> float:
        """The distance (Euclidean) to the nearest known look."""
        return float(np.linalg.norm(np.stack(self.gallery) - embedding, axis=1).min())


def match(
    people: list[Person], faces: list[Face], embeddings: list[Array], width: int, scene: int
) -> dict[int, int]:
    """Which face each lost person is: {number of the person: number of the face}, the most alike first.

    A face is a person's within `SAME_PERSON` of a known look, or a little beyond it where that person was lost in
    this scene, by its number. `width` of the picture in px. No face is taken twice.
    """
    pairs = []
    for number, person in enumerate(people):
        if person.face is not None:
            continue
        for index, (face, embedding) in enumerate(zip(faces, embeddings, strict=True)):
            cost = person.unlikeness(embedding)
            if person.scene == scene and centre_within(face, person.last):
                cost -= NEARBY
            if cost < SAME_PERSON:
                away = abs(centre(face)[0] - centre(person.last)[0]) / width
                pairs.append((cost + _TIE * away, number, index))
    matched: dict[int, int] = {}
    for _, number, index in sorted(pairs):
        if number not in matched and index not in matched.values():
            matched[number] = index
    return matched


def centre(face: Face) -> tuple[float, float]:
    """The middle of the face's box, px."""
    x0, y0, x1, y1 = face.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def centre_within(face: Face, other: Face) -> bool:
    """Whether the face's centre lies in the other's box."""
    x, y = centre(face)
    x0, y0, x1, y1 = other.box
    return x0 < x < x1 and y0 < y < y1
