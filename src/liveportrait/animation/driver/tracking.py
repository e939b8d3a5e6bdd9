"""Tracks the face of a driving video once through all frames, scene by scene."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.animation.driver.base import missing_reference
from liveportrait.animation.driver.framing import GlidingWindows
from liveportrait.animation.driver.reference import ReferenceSearch
from liveportrait.animation.report import FIND
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import SMALLEST_CROPPED, cut
from liveportrait.choices import Framing, Reduction, Reference
from liveportrait.errors import UserError
from liveportrait.face.choice import DRIVING_CROP, DrivingCrop
from liveportrait.face.crop import (
    CropWindow,
    Square,
    driving_square,
    mean_window,
    to_input,
    whole_window,
)
from liveportrait.face.measures import mouth_cues, opening_ratios
from liveportrait.face.scenes import SceneTracker
from liveportrait.face.tracker import SMALLEST_DRIVER
from liveportrait.media import FrameArrays, VideoReader
from liveportrait.motion import SeenHeads, groups_for
from liveportrait.motion.landmarks import extract_motion
from liveportrait.networks.interface import Motion
from liveportrait.networks.variants import Variant
from liveportrait.types import Array, Image

MIN_FOUND = 1 / 2  # share of a video of crops: with fewer faces found, motion comes from M alone


@dataclass(frozen=True, eq=False)
class Scene:
    """The frames of a driver that start from one reference."""

    reference: int  # frame number
    motion: Motion  # batch 1: M's motion of that frame, with measured keypoints if available
    rows: slice  # the scene's rows among the heads
    # For each moved face, the frame most similar to it, and M's expression (21,3) there unless it is measured.
    similar: tuple[tuple[int, Tensor | None] | None, ...]


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """The face of a driving video, as a few numbers per frame."""

    windows: Sequence[CropWindow]  # N
    found: NDArray[np.bool_]  # (N,) whether the frame shows the face
    ratios: Array  # (N,3) openings of left eye, right eye and lips; held while there is no face
    scores: Array  # (N,52) blendshapes; held likewise
    cues: Array  # (N,5) what the mouth shows; held likewise
    heads: SeenHeads  # of the frames that show the face, in order
    cuts: tuple[int, ...]  # frames at which a new scene begins
    scenes: tuple[Scene, ...]  # between the cuts, at least one
    home: int  # the scene whose reference is the driver's
    identity: Array | None  # (128,) embedding of the person, if expressions may be adapted to the source
    is_steadied: bool

    def head(self, frame: int) -> SeenHeads:
        """The head in one frame that shows the face."""
        row = int(self.found[:frame].sum())
        return self.heads[row : row + 1]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) the number of each frame's scene."""
        if len(self.scenes) == 1:
            return np.zeros(len(self.found), np.int64)
        return np.searchsorted(np.array(self.cuts), np.arange(len(self.found)), side="right")


def track_face(
    session: Session,
    reader: VideoReader | FrameArrays,
    reference: Reference,
    scores: Sequence[Array | None] = (),
    framing: Framing = "steady",
    reduction: Reduction = "area",
    crop: DrivingCrop = DRIVING_CROP,
) -> TrackedFace:
    """Track the largest face of the first frame that has one; after a cut, or when it is lost, the largest again.

    With the framing "steady" windows glide, and each scene has its own reference. Raises `UserError` if no frame has a
    face, or the reference frame has none.
    """
    trace = _Trace(session, reader, reference, scores, framing, reduction, None, crop)
    trace.follow()
    if not trace.heads:
        raise UserError(
            f"no face found in any of the {len(trace.found)} frames of {reader.name}: use a video that shows one, or"
            " --no-crop-driving if its frames are cropped faces"
        )
    return trace.tracked()


def track_crops(
    session: Session,
    reader: VideoReader | FrameArrays,
    reference: Reference,
    scores: Sequence[Array | None] = (),
    framing: Framing = "steady",
    reduction: Reduction = "area",
    crop: DrivingCrop = DRIVING_CROP,
) -> TrackedFace | None:
    """Look for the face in frames that are already crops; None if fewer than half of them show one.

    Raises `UserError` if the reference frame has none.
    """
    size = session.engine.variant.input_size
    trace = _Trace(session, reader, reference, scores, framing, reduction, size, crop)
    trace.follow()
    if not trace.heads or len(trace.heads) < MIN_FOUND * len(trace.found):
        return None
    return trace.tracked()


@dataclass(eq=False)
class _Trace:
    """The data collected while tracking a face, frame by frame."""

    session: Session
    reader: VideoReader | FrameArrays
    reference: Reference
    targets: Sequence[Array | None]  # scores of each moved face
    framing: Framing
    reduction: Reduction  # of frames to crops
    crop_size: int | None  # px, if the frames are already crops
    crop: DrivingCrop = DRIVING_CROP

    found: list[bool] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    ratios: list[Array] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)
    cues: list[Array] = field(default_factory=list)
    heads: list[SeenHeads] = field(default_factory=list)
    windows: list[CropWindow] = field(default_factory=list)  # of the scenes that have ended
    scenes: list[Scene] = field(default_factory=list)
    squares: list[Square] = field(default_factory=list)  # of the current scene
    home: int = 0
    least: float = np.inf  # cost of the driver's reference
    identity: Array | None = None
    is_steadied: bool = False

    def follow(self) -> None:
        """Track the face through all frames."""
        session, size = self.session, self.crop_size
        tracker = SceneTracker(session.analyzer, SMALLEST_CROPPED if size else SMALLEST_DRIVER)
        search = self._search()
        with (
            closing(iter(self.reader)) as decoded,
            session.read_ahead(session.clock.each("decode", decoded), "decoded for tracking") as frames,
        ):
            for number, frame in enumerate(frames):
                with session.clock.step("detect"):
                    picture = to_input(frame, size) if size else frame
                    face = tracker(picture)
                if face and tracker.starts_over:
                    self.cuts.append(number)
                    if self.framing == "steady":
                        self._end_scene(search)
                        search = self._search()
                if face:
                    with session.clock.step("detect"):
                        search.offer(number, frame, face)
                        self.squares.append(driving_square(face.landmarks, self.crop))
                        self.ratios.append(opening_ratios(face.landmarks))
                        self.scores.append(session.analyzer.blendshapes(face))
                        self.cues.append(mouth_cues(picture, face.landmarks))
                        self.heads.append(SeenHeads.of([face.landmarks]))
                self.found.append(face is not None)
                session.progress(FIND, len(self.found), self.reader.info.frame_count)
        if self.squares:
            self._end_scene(search)

    def tracked(self) -> TrackedFace:
        """The result, if at least one frame shows the face. Raises `UserError` if the reference frame does not."""
        seen = np.array(self.found)
        if isinstance(self.reference, int) and not (self.reference < len(seen) and seen[self.reference]):
            raise UserError(missing_reference(self.reference, self.reader.name, len(seen)))
        held = np.maximum(np.cumsum(seen) - 1, 0)
        ratios, scores, cues = (
            np.stack(each)[held].astype(np.float32) for each in (self.ratios, self.scores, self.cues)
        )
        return TrackedFace(
            self.windows,
            seen,
            ratios,
            scores,
            cues,
            SeenHeads.joined(self.heads),
            tuple(self.cuts),
            tuple(self.scenes),
            self.home,
            self.identity,
            self.is_steadied,
        )

    def _search(self) -> ReferenceSearch:
        return ReferenceSearch(self.session.analyzer, self.reference, self.targets)

    def _end_scene(self, search: ReferenceSearch) -> None:
        """Complete the scene of the latest frames: their windows, and M's motion of its references."""
        engine, best = self.session.engine, search.best
        first = len(self.windows)  # frame
        rows = slice(len(self.heads) - len(self.squares), len(self.heads))
        heads = SeenHeads.joined(self.heads[rows])
        shown = np.flatnonzero(self.found[first:])
        reference = int(np.searchsorted(shown, best.number - first))  # among the scene's heads
        frames = len(self.found) - first
        windows = [mean_window(self.squares)] * frames
        if self.framing == "steady":
            gliding = GlidingWindows(heads, self.squares, shown, frames, self.reader.info.fps)
            windows = gliding.windows
            self.is_steadied |= gliding.is_steadied(reference)
        self.windows += [whole_window(self.crop_size)] * frames if self.crop_size else windows
        with self.session.clock.step("motion"):
            crop = self._cut(best.frame, best.number)
            seen = heads[reference : reference + 1].keypoints
            motion = extract_motion(engine, crop[None], seen, [self.windows[best.number]])
            similar = tuple(
                (each.number, self._expression(each.frame, each.number)) if each else None
                for each in search.similar
            )
        if not self.scenes or best.number == self.reference or best.cost < self.least:
            self.home, self.least = len(self.scenes), best.cost
            if engine.can_express:
                with self.session.clock.step("detect"):
                    self.identity = self.session.analyzer.identity(best.frame, best.face.landmarks)
        self.scenes.append(Scene(best.number, motion, rows, similar))
        self.squares = []

    def _expression(self, frame: Image, number: int) -> Tensor | None:
        engine = self.session.engine
        if groups_for(engine.variant).keypoints_are_landmarks:
            return None
        return engine.extract_motion(self._cut(frame, number)[None]).expression[0]

    def _cut(self, frame: Image, number: int) -> Image:
        window = None if self.crop_size else self.windows[number]
        return cut_driving(frame, window, self.session.engine.variant, self.reduction)


def cut_driving(
    image: Image, window: CropWindow | None, variant: Variant, reduction: Reduction = "area"
) -> Image:
    """The crop (S,S,3) of a driving frame; without a window, the resized frame itself."""
    if window:
        return cut(image, window, variant, reduction)
    return to_input(image, variant.input_size, reduction)
