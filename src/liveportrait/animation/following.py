"""The first pass over a source video: where the chosen people's faces are, frame by frame, cuts included."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.cuts import CutFinder
from liveportrait.animation.footage import Footage
from liveportrait.animation.people import Person, centre_within, match
from liveportrait.animation.report import FOLLOW
from liveportrait.animation.run import Run
from liveportrait.animation.selection import FaceChoice
from liveportrait.animation.sighting import Sightings
from liveportrait.errors import UserError
from liveportrait.face import Face
from liveportrait.face.identity import identity_of

SMALLEST_FACE = 1 / 24  # of the longer side: a smaller one is no face to animate
SMALLEST_PX = 20.0
SEARCH_EVERY = 5  # frames between searches for somebody missing while others are in view
LOOK_EVERY = 50  # frames between new looks at a followed face


@dataclass(frozen=True, eq=False)
class Followed:
    """A source video's people."""

    frames: int
    cuts: tuple[int, ...]  # frames at which a new scene begins, without the first
    sightings: list[Sightings]  # of each person, one a frame


@dataclass(eq=False)
class Follower:
    """Follows the chosen people from frame to frame: one call a frame, in order."""

    run: Run
    choice: FaceChoice
    name: str  # of the video, for messages
    people: list[Person] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    _is_cut: CutFinder = field(default_factory=CutFinder)
    _number: int = -1  # of the frame at hand

    def __call__(self, frame: NDArray[np.uint8]) -> list[Face | None]:
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
        elif self._number % LOOK_EVERY == 0:
            for person in seen:
                self._look(frame, person)
        return [person.face for person in self.people]

    def _track(self, frame: NDArray[np.uint8], cut: bool) -> bool:
        """Look for each face where it was; whether anybody was lost."""
        held = [person for person in self.people if person.face]
        for person in held:
            found = None if cut or not person.face else self.run.analyzer.track(frame, person.face)
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

    def _search(self, frame: NDArray[np.uint8]) -> None:
        """Find whoever is missing, and whoever is new where everybody is wanted."""
        faces = self.run.analyzer.detect(frame, smallest=smallest_face(frame.shape))
        if not faces:
            return
        scene = len(self.cuts)
        if not self.people:
            for face in self.choice.of(faces, f"frame {self._number} of {self.name}"):
                self.people.append(Person(face, face, scene, [identity_of(frame, face.landmarks)]))
            return
        taken = [person.face for person in self.people if person.face]
        free = [face for face in faces if not any(centre_within(face, other) for other in taken)]
        looks = [identity_of(frame, face.landmarks) for face in free]
        matched = match(self.people, free, looks, frame.shape[1], scene)
        for number, index in matched.items():
            self.people[number].found(free[index], scene)
            self.people[number].remember(looks[index])
        if self.choice.takes_all:
            strangers = [index for index in range(len(free)) if index not in matched.values()]
            for index in sorted(strangers, key=lambda index: free[index].box[0]):
                self.people.append(Person(free[index], free[index], scene, [looks[index]]))

    def _look(self, frame: NDArray[np.uint8], person: Person) -> None:
        if person.face:
            person.remember(identity_of(frame, person.face.landmarks))


def follow(run: Run, footage: Footage, choice: FaceChoice) -> Followed:
    """Follow the chosen people through a whole video.

    The choice is made in the first frame that shows a face; those people are then recognised after cuts and
    absences. Where all are wanted, people who come later are followed from then on. Raises `UserError` where no
    frame shows a face, or the chosen one does not exist.
    """
    follower = Follower(run, choice, footage.name)
    sightings: list[Sightings] = []
    count = 0
    with footage.open() as frames:
        for frame in frames:
            with run.clock.step("detect"):
                faces = follower(frame)
                sightings += [Sightings.absent(count) for _ in range(len(faces) - len(sightings))]
                for kept, face in zip(sightings, faces, strict=True):
                    kept.append(face)
            count += 1
            run.progress(FOLLOW, count, footage.reader.info.frame_count)
    if not sightings:
        raise UserError(
            f"no face found in any of the {count} frames of {footage.name}: use a video that shows one,"
            f" {smallest_face(footage.shape):.0f} px high or more, or --no-crop if its frames are cropped faces"
        )
    return Followed(count, tuple(follower.cuts), sightings)


def smallest_face(shape: tuple[int, ...]) -> float:
    """The height in px of the smallest face that is looked for in frames of a height and width."""
    return max(max(shape[:2]) * SMALLEST_FACE, SMALLEST_PX)
