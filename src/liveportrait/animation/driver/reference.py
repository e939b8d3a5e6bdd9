"""The face of a driving video, followed once through all of its frames, and the frame that motion starts from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.driver.base import missing_reference
from liveportrait.animation.report import FIND
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import SMALLEST_CROPPED
from liveportrait.choices import Reference
from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.crop import CropWindow, Square, driving_square, mean_window, to_input, whole_window
from liveportrait.face.measures import (
    face_scores,
    mouth_cues,
    neutral_distance,
    opening_ratios,
    similarity_cost,
)
from liveportrait.face.tracker import SMALLEST_DRIVER, FaceTracker
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.media.cuts import CutFinder
from liveportrait.motion import SeenHeads
from liveportrait.types import Array, Image

SCORED_EVERY = 3  # frames with the face: an expression changes little in between


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best frame so far."""

    number: int
    frame: Image  # (H,W,3)
    face: Face
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
    def identity(self) -> Array:
        """The embedding (128,) of who it shows."""
        return self._analyzer.identity(self._found.frame, self._found.face.landmarks)

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
                self._best = Candidate(number, frame, face, cost)
        elif number == self._wanted or (self._wanted in ("first", "match") and self._best is None):
            self._best = Candidate(number, frame, face)
        if self._wanted == "match" and self._seen % SCORED_EVERY == 0:
            own = face_scores(self._analyzer, face)
            for index, (scores, best) in enumerate(zip(self._scores, self.similar, strict=True)):
                cost = similarity_cost(own, scores)
                if best is None or cost < best.cost:
                    self.similar[index] = Candidate(number, frame, face, cost)
        self._seen += 1


FEWEST_SEEN = 1 / 2  # of a video of crops: with fewer faces found, M alone tells what it shows


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A driving video's face. A few numbers a frame are all that is kept."""

    window: CropWindow  # one for the whole video
    found: NDArray[np.bool_]  # (N,) whether the frame shows the face
    ratios: Array  # (N,3) openings of left eye, right eye and lips; held where there is no face
    scores: Array  # (N,52) blendshapes; held likewise
    cues: Array  # (N,5) what the mouth shows; held likewise
    heads: SeenHeads  # of the frames that show the face, in order
    cuts: tuple[int, ...]  # frames at which a new scene begins
    references: ReferenceSearch

    def head(self, frame: int) -> SeenHeads:
        """That of one frame that shows the face."""
        row = int(self.found[:frame].sum())
        return self.heads[row : row + 1]


def track_face(
    session: Session,
    reader: VideoReader | FrameArrays,
    reference: Reference,
    scores: Sequence[Array | None] = (),
) -> TrackedFace:
    """Follow the largest face of the first frame that has one; after a loss, the largest again.

    Raises `UserError` where no frame has a face, or the reference frame has none.
    """
    references = ReferenceSearch(session.analyzer, reference, scores)
    trace = _follow(session, reader, references, None)
    if not trace.heads:
        raise UserError(
            f"no face found in any of the {len(trace.found)} frames of {reader.name}: use a video that shows one, or"
            " --no-crop-driving if its frames are cropped faces"
        )
    if not references.is_found:
        raise UserError(missing_reference(reference, reader.name, len(trace.found)))
    return trace.tracked(mean_window(trace.squares), references)


def track_crops(
    session: Session,
    reader: VideoReader | FrameArrays,
    reference: Reference,
    scores: Sequence[Array | None] = (),
) -> TrackedFace | None:
    """Look for the face in frames that are crops already; None where less than half of them show one.

    Raises `UserError` where the reference frame has none.
    """
    references = ReferenceSearch(session.analyzer, reference, scores)
    size = session.engine.variant.input_size
    trace = _follow(session, reader, references, size)
    if not trace.heads or len(trace.heads) < FEWEST_SEEN * len(trace.found):
        return None
    if not references.is_found:
        raise UserError(missing_reference(reference, reader.name, len(trace.found)))
    return trace.tracked(whole_window(size), references)


@dataclass(eq=False)
class _Trace:
    """What following a face has gathered, frame by frame."""

    found: list[bool] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    squares: list[Square] = field(default_factory=list)
    ratios: list[Array] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    cues: list[Array] = field(default_factory=list)
    heads: list[SeenHeads] = field(default_factory=list)

    def tracked(self, window: CropWindow, references: ReferenceSearch) -> TrackedFace:
        """All of it, where at least one frame shows the face."""
        seen = np.array(self.found)
        held = np.maximum(np.cumsum(seen) - 1, 0)
        ratios, scores, cues = (
            np.stack(each)[held].astype(np.float32) for each in (self.ratios, self.scores, self.cues)
        )
        heads = SeenHeads.joined(self.heads)
        return TrackedFace(window, seen, ratios, scores, cues, heads, tuple(self.cuts), references)


def _follow(
    session: Session, reader: VideoReader | FrameArrays, references: ReferenceSearch, crop_size: int | None
) -> _Trace:
    """Follow a face through all frames; these are crops, to be seen at a size, or None."""
    tracker = FaceTracker(session.analyzer, SMALLEST_CROPPED if crop_size else SMALLEST_DRIVER)
    is_cut = CutFinder()
    trace = _Trace()
    with (
        closing(iter(reader)) as decoded,
        session.read_ahead(session.clock.each("decode", decoded), "decoded for tracking") as frames,
    ):
        for number, frame in enumerate(frames):
            with session.clock.step("detect"):
                if is_cut(frame):
                    trace.cuts.append(number)
                picture = to_input(frame, crop_size) if crop_size else frame
                face = tracker(picture)
                if face:
                    references.offer(number, frame, face)
                    trace.squares.append(driving_square(face.landmarks))
                    trace.ratios.append(opening_ratios(face.landmarks))
                    trace.scores.append(session.analyzer.blendshapes(face))
                    trace.cues.append(mouth_cues(picture, face.landmarks))
                    trace.heads.append(SeenHeads.of([face.landmarks]))
            trace.found.append(face is not None)
            session.progress(FIND, len(trace.found), reader.info.frame_count)
    return trace
