"""The frame of a driver that relative motion starts from, where the first one makes a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from liveportrait.choices import Reference
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.measures import TURN, face_scores, neutral_distance, similarity_cost, turn_degrees
from liveportrait.motion import KeypointGroups, Template
from liveportrait.types import Array, Image

SCORED_EVERY = 3  # frames with the face: an expression changes little in between
OPEN = 0.3  # from this opening on an eye is open
_BUSY = 0.05  # RMS of a template's expression that counts as much as one blendshape at full


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best frame so far."""

    number: int
    frame: Image  # (H,W,3)
    cost: float = 0.0


class ReferenceSearch:
    """Asked frame by frame, in order, keeps the frame that motion starts from.

    That is the first frame that shows the face (also with "match"), the most neutral one ("auto"), or the one of a
    number. With "match" expressions start elsewhere: for each face that is moved, in the frame most like it.
    """

    def __init__(self, analyzer: FaceAnalyzer, reference: Reference, scores: Sequence[Array | None]) -> None:
        """`scores` of each face that is moved, see `SourceFace`."""
        self._analyzer, self._wanted, self._scores = analyzer, reference, scores
        self._seen = 0
        self._best: Candidate | None = None
        self.similar: list[Candidate | None] = [None for _ in scores]

    @property
    def is_found(self) -> bool:
        """Whether there is such a frame."""
        return self._best is not None

    @property
    def number(self) -> int:
        """Its number."""
        return self._found.number

    @property
    def frame(self) -> Image:
        """Its picture."""
        return self._found.frame

    @property
    def _found(self) -> Candidate:
        if self._best is None:
            raise ValueError("no frame was found that motion could start from")
        return self._best

    def offer(self, number: int, frame: Image, face: Face) -> None:
        """Keep this frame if it is the one, or better than the one so far."""
        if self._wanted == "auto":
            cost = neutral_distance(self._analyzer, face)
            if self._best is None or cost < self._best.cost:
                self._best = Candidate(number, frame, cost)
        elif number == self._wanted or (self._wanted in ("first", "match") and self._best is None):
            self._best = Candidate(number, frame)
        if self._wanted == "match" and self._seen % SCORED_EVERY == 0:
            own = face_scores(self._analyzer, face)
            for index, (scores, best) in enumerate(zip(self._scores, self.similar, strict=True)):
                cost = similarity_cost(own, scores)
                if best is None or cost < best.cost:
                    self.similar[index] = Candidate(number, frame, cost)
        self._seen += 1


def most_neutral_frame(template: Template, groups: KeypointGroups) -> int:
    """The most neutral frame of a template, by what it knows.

    The angle of the head over 30°, the RMS of the expression's distance from the layout's face at rest over 0.05,
    and how far the narrower eye is below an opening of 0.3, over that.
    """
    motion = template.motion
    rest = motion.expression - groups.neutral_expression()
    score = rest.square().mean((1, 2)).sqrt() / _BUSY + turn_degrees(motion.rotation) / TURN
    if template.eye_ratios is not None:
        score = score + (OPEN - template.eye_ratios.amin(1)).clamp(min=0) / OPEN
    return int(score.argmin())
