"""The first pass over a driving video: where its face is, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.cuts import CutFinder
from liveportrait.animation.references import LOOK_EVERY, Look, scores_of, unrest
from liveportrait.animation.report import FIND, Stretches, gaps
from liveportrait.animation.run import Run
from liveportrait.animation.streams import DEPTH, read_ahead
from liveportrait.choices import Reference
from liveportrait.errors import UserError
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.crop import CropWindow, driving_window
from liveportrait.face.ratios import eye_ratios, lip_ratio
from liveportrait.media import VideoReader
from liveportrait.motion import SeenHeads

SMALLEST_FACE = 1 / 12  # of the longer side: a smaller face has too few pixels to drive anything


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


def openings_of(face: Face) -> NDArray[np.float32]:
    """How far (3,) the left eye, the right eye and the lips are open."""
    return np.concatenate([eye_ratios(face.landmarks), lip_ratio(face.landmarks)])


def find_face(analyzer: FaceAnalyzer, image: NDArray[np.uint8]) -> Face | None:
    """The largest face of a driving frame, or None."""
    faces = analyzer.detect(image, smallest=max(image.shape[:2]) * SMALLEST_FACE)
    return faces[0] if faces else None


def track_face(run: Run, reader: VideoReader, reference: Reference = "first") -> Tracked:
    """Follow the largest face of the first frame that has one; after a loss, the largest again.

    `reference`: the first frame that shows it (also with "match"), the most neutral one ("auto"), or the one of that
    number. Raises `UserError` where no frame has a face, or the reference frame has none.
    """
    found: list[bool] = []
    ratios: list[NDArray[np.float32]] = []
    heads: list[SeenHeads] = []
    cuts: list[int] = []
    is_cut = CutFinder()
    best = _Reference(run.analyzer, reference)
    looks: list[Look] = []

    def landmarks() -> Iterator[NDArray[np.float32]]:
        face: Face | None = None
        due = run.clock.gauge("decoded for tracking", DEPTH)
        with reader, read_ahead(run.clock.each("decode", reader), DEPTH, due) as frames:
            for frame in frames:
                with run.clock.step("detect"):
                    if is_cut(frame):
                        cuts.append(len(found))
                    face = face and run.analyzer.track(frame, face)
                    face = face or find_face(run.analyzer, frame)
                    if face:
                        best.offer(len(found), frame, face)
                        if reference == "match" and len(heads) % LOOK_EVERY == 0:
                            looks.append(Look(len(found), scores_of(run.analyzer, face)))
                found.append(face is not None)
                if face is not None:
                    ratios.append(openings_of(face))
                    heads.append(SeenHeads.of([face.landmarks]))
                    yield face.landmarks
                run.progress(FIND, len(found), reader.info.frame_count)
        if not heads:
            raise UserError(
                f"no face found in any of the {len(found)} frames of {reader.path}: use a video that"
                " shows one, or --no-crop-driving if its frames are cropped faces"
            )

    window = driving_window(landmarks())
    if best.frame is None:
        raise UserError(missing_reference(reference, reader.path, len(found)))
    seen = np.array(found)
    rows = np.maximum(np.cumsum(seen) - 1, 0)
    return Tracked(
        window,
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
    _unrest: float = np.inf

    def offer(self, number: int, frame: NDArray[np.uint8], face: Face) -> None:
        """Keep this frame if it is the one, or better than the one so far."""
        if self.wanted == "auto":
            value = unrest(self.analyzer, face)
            if value < self._unrest:
                self.number, self.frame, self._unrest = number, frame, value
        elif number == self.wanted or (self.wanted in ("first", "match") and self.frame is None):
            self.number, self.frame = number, frame
