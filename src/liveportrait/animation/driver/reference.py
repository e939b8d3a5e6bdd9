"""Finds the frame of a driver that motion starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from liveportrait.choices import Reference
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.measures import face_scores, neutral_distance, similarity_cost
from liveportrait.types import Array, Image

SCORED_EVERY = 3  # frames with a face: expressions change little in between


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best frame so far."""

    number: int
    frame: Image  # (H,W,3)
    face: Face
    cost: float = 0.0


class ReferenceSearch:
    """Picks the frame of a scene that motion starts from; `offer` frames in order.

    It is the first frame that shows the face ("first" and "match"), the most neutral one ("auto"), or the one with a
    given number; if that is in another scene, the first. With "match" the expression starts from a different frame: for
    each moved face, the one most similar to it.
    """

    def __init__(self, analyzer: FaceAnalyzer, reference: Reference, scores: Sequence[Array | None]) -> None:
        """`scores` of each face that is moved, see `SourceFace`."""
        self._analyzer, self._wanted, self._scores = analyzer, reference, scores
        self._seen = 0
        self._best: Candidate | None = None
        self.similar: list[Candidate | None] = [None for _ in scores]

    @property
    def best(self) -> Candidate:
        """The picked frame; at least one frame must have been offered."""
        if self._best is None:
            raise ValueError("no frame was found that motion could start from")
        return self._best

    def offer(self, number: int, frame: Image, face: Face) -> None:
        """Keep this frame if it is better than the one so far."""
        if self._wanted == "auto":
            cost = neutral_distance(self._analyzer, face)
            if self._best is None or cost < self._best.cost:
                self._best = Candidate(number, frame, face, cost)
        elif self._best is None or number == self._wanted:
            self._best = Candidate(number, frame, face)
        if self._wanted == "match" and self._seen % SCORED_EVERY == 0:
            own = face_scores(self._analyzer, face)
            for index, (scores, best) in enumerate(zip(self._scores, self.similar, strict=True)):
                cost = similarity_cost(own, scores)
                if best is None or cost < best.cost:
                    self.similar[index] = Candidate(number, frame, face, cost)
        self._seen += 1
