"""The face of a driving video, followed once through all of its frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from liveportrait.animation.driver.base import missing_reference
from liveportrait.animation.driver.reference import ReferenceSearch
from liveportrait.animation.report import FIND
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import SMALLEST_CROPPED
from liveportrait.choices import Reference
from liveportrait.errors import UserError
from liveportrait.face.crop import CropWindow, Square, driving_square, mean_window, to_input, whole_window
from liveportrait.face.measures import opening_ratios
from liveportrait.face.tracker import SMALLEST_DRIVER, FaceTracker
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.media.cuts import CutFinder
from liveportrait.motion import SeenHeads
from liveportrait.types import Array

FEWEST_SEEN = 1 / 2  # of a video of crops: with fewer faces found, M alone tells what it shows


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A driving video's face. A few numbers a frame are all that is kept."""

    window: CropWindow  # one for the whole video
    found: NDArray[np.bool_]  # (N,) whether the frame shows the face
    ratios: Array  # (N,3) openings of left eye, right eye and lips; held where there is no face
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
    heads: list[SeenHeads] = field(default_factory=list)

    def tracked(self, window: CropWindow, references: ReferenceSearch) -> TrackedFace:
        """All of it, where at least one frame shows the face."""
        seen = np.array(self.found)
        ratios = np.stack(self.ratios)[np.maximum(np.cumsum(seen) - 1, 0)].astype(np.float32)
        heads = SeenHeads.joined(self.heads)
        return TrackedFace(window, seen, ratios, heads, tuple(self.cuts), references)


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
                face = tracker(to_input(frame, crop_size) if crop_size else frame)
                if face:
                    references.offer(number, frame, face)
                    trace.squares.append(driving_square(face.landmarks))
                    trace.ratios.append(opening_ratios(face.landmarks))
                    trace.heads.append(SeenHeads.of([face.landmarks]))
            trace.found.append(face is not None)
            session.progress(FIND, len(trace.found), reader.info.frame_count)
    return trace
