"""Following faces from frame to frame: one face, or several people who are recognised after cuts and absences."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from liveportrait.face.analyzer import SMALLEST_PX, Face, FaceAnalyzer, centre, centre_within
from liveportrait.face.choice import FaceChoice
from liveportrait.face.identity import SAME_PERSON
from liveportrait.media.cuts import CutFinder
from liveportrait.types import Array, Image

SMALLEST_DRIVER = 1 / 12  # of the longer side: a smaller face has too few pixels to drive anything
# Largest movement (in sides of the box) and largest ratio of sizes between two frames that show the same face.
LARGEST_JUMP, LARGEST_GROWTH = 1.0, 1.5
FAR = 0.04  # of the face's side: how far an edge of its box may move in a frame before the face is measured again


class FaceTracker:
    """Follows one face: close to where it was in the frame before or where it was lost, otherwise the largest one.

    Call it once per frame, in order. The face is kept between calls, so a tracker serves one thread.
    """

    def __init__(
        self, analyzer: FaceAnalyzer, smallest: float = SMALLEST_DRIVER, face: Face | None = None
    ) -> None:
        """`smallest` is the height of the smallest face to look for, as a fraction of the frame's longer side.

        `face` is the one to follow if it is known from the frame before.
        """
        self._analyzer = analyzer
        self._smallest = smallest
        self._face = self._last = face

    def __call__(self, frame: Image, new_scene: bool = False) -> Face | None:
        """The face in the next frame (H,W,3) uint8 RGB, or None. `new_scene` forgets where the face was before."""
        if new_scene:
            self.reset()
        return self.follow(frame) or self.search(frame)

    def follow(self, frame: Image) -> Face | None:
        """The face in the next frame if it is close to where it was, without a search of the frame.

        Landmarks lag behind a face that has left the square it was tracked in, so a face that has moved far is
        measured a second time, from where it was found.
        """
        before = self._face
        self._face = before and self._analyzer.track(frame, before)
        if self._face and before and _moved(before, self._face) > FAR:
            self._face = self._analyzer.track(frame, self._face)
        self._last = self._face or self._last
        return self._face

    def reset(self) -> None:
        """Forget the face: the entire next frame is searched."""
        self._face = self._last = None

    def search(self, frame: Image) -> Face | None:
        """Search the entire frame for the face where it was last seen, otherwise for the largest one."""
        faces = faces_of(self._analyzer, frame, self._smallest)
        near = [face for face in faces if self._last and not has_jumped(self._last, face)]
        self._face = next(iter(near or faces), None)
        self._last = self._face or self._last
        return self._face


def largest_face(analyzer: FaceAnalyzer, image: Image, smallest: float = SMALLEST_DRIVER) -> Face | None:
    """The largest face of a picture (H,W,3), or None; `smallest` as for `FaceTracker`."""
    return next(iter(faces_of(analyzer, image, smallest)), None)


def faces_of(analyzer: FaceAnalyzer, image: Image, smallest: float) -> list[Face]:
    """All faces of a picture (H,W,3), largest first; `smallest` as for `FaceTracker`."""
    return analyzer.detect(image, smallest=max(image.shape[:2]) * smallest)


def _moved(before: Face, now: Face) -> float:
    """The largest movement of an edge of the face's box, in sides of the box."""
    x0, y0, x1, y1 = before.box
    side = max(x1 - x0, y1 - y0)
    return max(abs(a - b) for a, b in zip(before.box, now.box, strict=True)) / max(side, 1e-6)


def has_jumped(before: Face, now: Face, jump: float = LARGEST_JUMP, growth: float = LARGEST_GROWTH) -> bool:
    """Whether a face has moved farther or changed its size more than the bounds allow."""
    sides = [side_of(face) for face in (before, now)]
    away = np.subtract(centre(now), centre(before))
    return float(np.hypot(*away)) > jump * max(sides) or max(sides) > growth * min(sides)


def side_of(face: Face) -> float:
    """The longer side of the face's box, px."""
    x0, y0, x1, y1 = face.box
    return float(max(x1 - x0, y1 - y0))


SMALLEST_SOURCE = 1 / 24  # of the longer side: a smaller face is not worth animating
SEARCH_EVERY = 5  # frames between searches for a missing person while others are in view
REMEMBER_EVERY = 50  # frames between the embeddings that are kept of a followed face
GALLERY = 8  # embeddings kept per person
# Extra embedding distance allowed for a face that appears where the person was lost in this scene
NEARBY = 0.3
_TIE = 0.02  # embedding distance that a move across the picture's width adds: place decides between twins


@dataclass(eq=False)
class Person:
    """Somebody in a video: where their face is now, and what it looked like."""

    face: Face | None  # in the current frame; None while it is lost
    last: Face  # where it was last seen
    scene: int  # the scene in which it was last seen
    gallery: list[Array] = field(default_factory=list)  # embeddings (128,)

    def remember(self, embedding: Array) -> None:
        """Keep another embedding of the face; the first one is never dropped."""
        self.gallery.append(embedding)
        if len(self.gallery) > GALLERY:
            del self.gallery[1]

    def assign(self, face: Face, scene: int) -> None:
        """Make a face in the current frame this person's."""
        self.face = self.last = face
        self.scene = scene

    def unlikeness(self, embedding: Array) -> float:
        """The Euclidean distance to the nearest embedding in the gallery."""
        return float(np.linalg.norm(np.stack(self.gallery) - embedding, axis=1).min())


def match(
    people: list[Person], faces: list[Face], embeddings: list[Array], width: int, scene: int
) -> dict[int, int]:
    """Match lost people with faces, the most alike first: {index of the person: index of the face}.

    A face matches a person if it is within `SAME_PERSON` of a known embedding, or a little beyond that if it appears
    where the person was lost in the same `scene`. `width` is the picture's, in px. No face is matched twice.
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
    """Follows the chosen people from frame to frame; call it once per frame, in order.

    They are chosen in the first frame that shows a face and recognised again after cuts and absences. If all faces are
    wanted, people who appear later are followed from then on. Raises `UserError` if a chosen face does not exist.
    """

    analyzer: FaceAnalyzer
    choice: FaceChoice
    name: str  # of the video, for messages
    people: list[Person] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    _is_cut: CutFinder = field(default_factory=CutFinder)
    _number: int = -1  # of the current frame

    def __call__(self, frame: Image) -> list[Face | None]:
        """The people's faces in the next frame, None for those out of view; the list may grow."""
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
                self._remember(frame, person)
        return [person.face for person in self.people]

    def _track(self, frame: Image, cut: bool) -> bool:
        """Track each face from where it was; returns whether anybody was lost."""
        held = [person for person in self.people if person.face]
        for person in held:
            found = None if cut or not person.face else self.analyzer.track(frame, person.face)
            person.face = found
            if found:
                person.assign(found, len(self.cuts))
        # Two tracks have ended up on one face: its embedding decides whose it is, not where the tracks came from.
        coinciding = [
            person
            for person in held
            for other in held
            if other is not person and person.face and other.face and centre_within(person.face, other.face)
        ]
        for person in coinciding:
            person.face = None
        return any(person.face is None for person in held)

    def _search(self, frame: Image) -> None:
        """Find missing people and, if all faces are wanted, new ones."""
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
        embeddings = [self.analyzer.identity(frame, face.landmarks) for face in free]
        matched = match(self.people, free, embeddings, frame.shape[1], scene)
        for number, index in matched.items():
            self.people[number].assign(free[index], scene)
            self.people[number].remember(embeddings[index])
        if self.choice.takes_all:
            strangers = [index for index in range(len(free)) if index not in matched.values()]
            for index in sorted(strangers, key=lambda index: free[index].box[0]):
                self.people.append(Person(free[index], free[index], scene, [embeddings[index]]))

    def _remember(self, frame: Image, person: Person) -> None:
        if person.face:
            person.remember(self.analyzer.identity(frame, person.face.landmarks))


def smallest_face(shape: tuple[int, ...]) -> float:
    """The height in px of the smallest face to look for in source frames of the shape (height, width, ...)."""
    return max(max(shape[:2]) * SMALLEST_SOURCE, SMALLEST_PX)
