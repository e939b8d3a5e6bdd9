"""Faces followed from frame to frame: one, or several people with who is who after cuts and absences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from liveportrait.face.analyzer import SMALLEST_PX, Face, FaceAnalyzer, centre, centre_within
from liveportrait.face.choice import FaceChoice
from liveportrait.face.identity import SAME_PERSON
from liveportrait.media.cuts import CutFinder
from liveportrait.types import Array, Image

SMALLEST_DRIVER = 1 / 12  # of the longer side: a smaller face has too few pixels to drive anything
# Between two frames that show the same face: its way in sides of its box, and its change of size.
LARGEST_JUMP, LARGEST_GROWTH = 1.0, 1.5
FAR = 0.04  # of the face's side: an edge of its box that moves farther from one frame to the next


class FaceTracker:
    """Follow one face: near where it was in the frame before, or where it was lost, or else the largest one anew.

    One call a frame, in order. The face alone is kept between calls, so that one tracker serves one thread.
    """

    def __init__(
        self, analyzer: FaceAnalyzer, smallest: float = SMALLEST_DRIVER, face: Face | None = None
    ) -> None:
        """`smallest`: height of the smallest face to look for, as a part of the frame's longer side.

        `face`: the one to follow, where it is known from the frame before.
        """
        self._analyzer = analyzer
        self._smallest = smallest
        self._face = self._last = face

    def __call__(self, frame: Image, new_scene: bool = False) -> Face | None:
        """The face in the next frame (H,W,3) uint8 RGB, or None. With `new_scene` it is not looked for nearby."""
        if new_scene:
            self.reset()
        return self.follow(frame) or self.search(frame)

    def follow(self, frame: Image) -> Face | None:
        """The face in the next frame if it is near where it was; it is not searched for.

        Landmarks lag behind a face that has left the square in which it was looked for: one that has moved far is
        measured a second time, from where it was found.
        """
        before = self._face
        self._face = before and self._analyzer.track(frame, before)
        if self._face and before and _moved(before, self._face) > FAR:
            self._face = self._analyzer.track(frame, self._face)
        self._last = self._face or self._last
        return self._face

    def reset(self) -> None:
        """Forget the face: the next frame is searched as a whole."""
        self._face = self._last = None

    def search(self, frame: Image) -> Face | None:
        """The face where it was seen last, or else the largest one, looked for in all of the frame."""
        faces = faces_of(self._analyzer, frame, self._smallest)
        near = [face for face in faces if self._last and not has_jumped(self._last, face)]
        self._face = next(iter(near or faces), None)
        self._last = self._face or self._last
        return self._face


def largest_face(analyzer: FaceAnalyzer, image: Image, smallest: float = SMALLEST_DRIVER) -> Face | None:
    """The largest face of a picture (H,W,3), or None; `smallest` as for `FaceTracker`."""
    return next(iter(faces_of(analyzer, image, smallest)), None)


def faces_of(analyzer: FaceAnalyzer, image: Image, smallest: float) -> list[Face]:
    """All of them, the largest first."""
    return analyzer.detect(image, smallest=max(image.shape[:2]) * smallest)


def _moved(before: Face, now: Face) -> float:
    """The farthest way of an edge of the face's box, in sides of the box."""
    x0, y0, x1, y1 = before.box
    side = max(x1 - x0, y1 - y0)
    return max(abs(a - b) for a, b in zip(before.box, now.box, strict=True)) / max(side, 1e-6)


def has_jumped(before: Face, now: Face, jump: float = LARGEST_JUMP, growth: float = LARGEST_GROWTH) -> bool:
    """Whether a face is farther from where it was, or more different in size, than the bounds allow."""
    sides = [side_of(face) for face in (before, now)]
    away = np.subtract(centre(now), centre(before))
    return float(np.hypot(*away)) > jump * max(sides) or max(sides) > growth * min(sides)


def side_of(face: Face) -> float:
    """The longer side of the face's box, px."""
    x0, y0, x1, y1 = face.box
    return float(max(x1 - x0, y1 - y0))


SMALLEST_SOURCE = 1 / 24  # of the longer side: a smaller one is no face to animate
SEARCH_EVERY = 5  # frames between searches for somebody missing while others are in view
REMEMBER_EVERY = 50  # frames after which one more embedding of a followed face is kept
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
    """The face of each lost person: {number of the person: number of the face}, the most alike first.

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


@dataclass(eq=False)
class PeopleTracker:
    """Follow the chosen people from frame to frame: one call a frame, in order.

    The choice is made in the first frame that shows a face; those people are then recognised after cuts and
    absences. Where all are wanted, people who come later are followed from then on. Raises `UserError` where the
    chosen one does not exist.
    """

    analyzer: FaceAnalyzer
    choice: FaceChoice
    name: str  # of the video, for messages
    people: list[Person] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    _is_cut: CutFinder = field(default_factory=CutFinder)
    _number: int = -1  # of the frame at hand

    def __call__(self, frame: Image) -> list[Face | None]:
        """The people's faces in the next frame, None for those who are not in view; their number may grow."""
        self._number += 1
        cut = self._is_cut(frame)
        if cut:
            self.cuts.append(self._number)
        lost = self._track(frame, cut)
        seen = [person for person in self.people if person.face]
        missing = len(seen) < len(self.people) or self.choice.takes_all
        due = self._number % SEARCH_EVERY == 0
        if cut or lost or not seen or (missing and due):
            self._search(frame)
        elif self._number % REMEMBER_EVERY == 0:
            for person in seen:
                self._look(frame, person)
        return [person.face for person in self.people]

    def _track(self, frame: Image, cut: bool) -> bool:
        """Look for each face where it was; whether anybody was lost."""
        held = [person for person in self.people if person.face]
        for person in held:
            found = None if cut or not person.face else self.analyzer.track(frame, person.face)
            person.face = found
            if found:
                person.found(found, len(self.cuts))
        # Two tracks on one face: who it is will be told by looking, not by where the tracks came from.
        together = [
            person
            for person in held
            for other in held
            if other is not person and person.face and other.face and centre_within(person.face, other.face)
        ]
        for person in together:
            person.face = None
        return any(person.face is None for person in held)

    def _search(self, frame: Image) -> None:
        """Find whoever is missing, and whoever is new where everybody is wanted."""
        faces = self.analyzer.detect(frame, smallest=smallest_face(frame.shape))
        if not faces:
            return
        scene = len(self.cuts)
        if not self.people:
            for face in self.choice.of(faces, f"frame {self._number} of {self.name}"):
                self.people.append(Person(face, face, scene, [self.analyzer.identity(frame, face.landmarks)]))
            return
        taken = [person.face for person in self.people if person.face]
        free = [face for face in faces if not any(centre_within(face, other) for other in taken)]
        looks = [self.analyzer.identity(frame, face.landmarks) for face in free]
        matched = match(self.people, free, looks, frame.shape[1], scene)
        for number, index in matched.items():
            self.people[number].found(free[index], scene)
            self.people[number].remember(looks[index])
        if self.choice.takes_all:
            strangers = [index for index in range(len(free)) if index not in matched.values()]
            for index in sorted(strangers, key=lambda index: free[index].box[0]):
                self.people.append(Person(free[index], free[index], scene, [looks[index]]))

    def _look(self, frame: Image, person: Person) -> None:
        if person.face:
            person.remember(self.analyzer.identity(frame, person.face.landmarks))


def smallest_face(shape: tuple[int, ...]) -> float:
    """The height in px of the smallest face that is looked for in frames of a height and width."""
    return max(max(shape[:2]) * SMALLEST_SOURCE, SMALLEST_PX)
