"""The first pass over a video: where its faces are, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.footage import Footage
from liveportrait.animation.observations import FaceObservations
from liveportrait.animation.report import FIND, FOLLOW, Stretches, gaps
from liveportrait.animation.run import Run
from liveportrait.animation.streams import DEPTH, read_ahead
from liveportrait.choices import Reference
from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.choice import FaceChoice
from liveportrait.face.crop import CropWindow, Square, driving_square, mean_window
from liveportrait.face.measures import Look, face_scores, neutral_distance, opening_ratios
from liveportrait.face.people_tracker import PeopleTracker, smallest_face
from liveportrait.face.tracker import FaceTracker
from liveportrait.media import VideoReader
from liveportrait.media.cuts import CutFinder
from liveportrait.motion import SeenHeads

SCORED_EVERY = 3  # frames with the face: an expression changes little in between


@dataclass(frozen=True, eq=False)
class Tracked:
    """A driving video's face. A few numbers a frame are all that is kept."""

    window: CropWindow  # one for the whole video
    found: NDArray[np.bool_]  # (N,) whether the frame shows the face
    reference: int  # the frame that relative motion starts from
    reference_frame: NDArray[np.uint8]  # (H,W,3)
    cuts: tuple[int, ...]  # frames at which a new scene begins
    ratios: NDArray[np.float32]  # (N,3) openings of left eye, right eye and lips; held where there is no face
    heads: SeenHeads  # of the frames that show the face, in order
    looks: tuple[Look, ...]  # with the reference "match": of some of the frames that show it

    @property
    def reference_head(self) -> SeenHeads:
        """That of the reference frame."""
        row = int(self.found[: self.reference].sum())
        return self.heads[row : row + 1]

    def gaps(self) -> Stretches:
        """First and last frame of each stretch without the face."""
        return gaps(self.found)


def track_face(run: Run, reader: VideoReader, reference: Reference = "first") -> Tracked:
    """Follow the largest face of the first frame that has one; after a loss, the largest again.

    `reference`: the first frame that shows it (also with "match"), the most neutral one ("auto"), or the one of that
    number. Raises `UserError` where no frame has a face, or the reference frame has none.
    """
    tracker, is_cut = FaceTracker(run.analyzer), CutFinder()
    best = _Reference(run.analyzer, reference)
    found: list[bool] = []
    cuts: list[int] = []
    squares: list[Square] = []
    ratios: list[NDArray[np.float32]] = []
    heads: list[SeenHeads] = []
    looks: list[Look] = []
    due = run.clock.gauge("decoded for tracking", DEPTH)
    with reader, read_ahead(run.clock.each("decode", reader), DEPTH, due) as frames:
        for number, frame in enumerate(frames):
            with run.clock.step("detect"):
                if is_cut(frame):
                    cuts.append(number)
                face = tracker(frame)
                if face:
                    best.offer(number, frame, face)
                    if reference == "match" and len(heads) % SCORED_EVERY == 0:
                        looks.append(Look(number, face_scores(run.analyzer, face)))
            found.append(face is not None)
            if face:
                squares.append(driving_square(face.landmarks))
                ratios.append(opening_ratios(face.landmarks))
                heads.append(SeenHeads.of([face.landmarks]))
            run.progress(FIND, len(found), reader.info.frame_count)
    if not heads:
        raise UserError(
            f"no face found in any of the {len(found)} frames of {reader.path}: use a video that"
            " shows one, or --no-crop-driving if its frames are cropped faces"
        )
    if best.frame is None:
        raise UserError(missing_reference(reference, reader.path, len(found)))
    seen = np.array(found)
    rows = np.maximum(np.cumsum(seen) - 1, 0)
    return Tracked(
        mean_window(squares),
        seen,
        best.number,
        best.frame,
        tuple(cuts),
        np.stack(ratios)[rows].astype(np.float32),
        SeenHeads.joined(heads),
        tuple(looks),
    )


def missing_reference(reference: Reference, path: Path | str, count: int) -> str:
    """A sentence on a reference frame that does not exist or shows no face."""
    if isinstance(reference, int) and reference >= count:
        return (
            f"reference names frame {reference}, but {path} has frames 0 to {count - 1}: choose one of these"
        )
    return f"reference names frame {reference}, which shows no face in {path}: choose another one, or auto"


@dataclass(eq=False)
class _Reference:
    """Keeps the one frame that relative motion starts from."""

    analyzer: FaceAnalyzer
    wanted: Reference
    number: int = -1
    frame: NDArray[np.uint8] | None = None
    _distance: float = np.inf

    def offer(self, number: int, frame: NDArray[np.uint8], face: Face) -> None:
        """Keep this frame if it is the one, or better than the one so far."""
        if self.wanted == "auto":
            value = neutral_distance(self.analyzer, face)
            if value < self._distance:
                self.number, self.frame, self._distance = number, frame, value
        elif number == self.wanted or (self.wanted in ("first", "match") and self.frame is None):
            self.number, self.frame = number, frame


@dataclass(frozen=True, eq=False)
class Followed:
    """A source video's people."""

    frames: int
    cuts: tuple[int, ...]  # frames at which a new scene begins, without the first
    observations: list[FaceObservations]  # of each person, one a frame


def track_people(run: Run, footage: Footage, choice: FaceChoice) -> Followed:
    """Follow the chosen people through a whole video, as `PeopleTracker` does.

    Raises `UserError` where no frame shows a face, or the chosen one does not exist.
    """
    tracker = PeopleTracker(run.analyzer, choice, footage.name)
    observations: list[FaceObservations] = []
    count = 0
    with footage.open() as frames:
        for frame in frames:
            with run.clock.step("detect"):
                faces = tracker(frame)
                observations += [
                    FaceObservations.absent(count) for _ in range(len(faces) - len(observations))
                ]
                for kept, face in zip(observations, faces, strict=True):
                    kept.append(face)
            count += 1
            run.progress(FOLLOW, count, footage.reader.info.frame_count)
    if not observations:
        raise UserError(
            f"no face found in any of the {count} frames of {footage.name}: use a video that shows one,"
            f" {smallest_face(footage.shape):.0f} px high or more, or --no-crop if its frames are cropped faces"
        )
    return Followed(count, tuple(tracker.cuts), observations)
