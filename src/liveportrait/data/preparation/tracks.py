"""Tracks of all faces of a video, from the first frame of each to its last, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.quality import FaceMeasures, measure_face
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.face.analyzer import centre_within
from liveportrait.face.scenes import region_of
from liveportrait.face.tracker import FaceTracker
from liveportrait.media.cuts import FACE_REGION, CutFinder, region_change
from liveportrait.types import Array, Image

DETECTIONS_A_SECOND = 2
DETECTIONS_ALONE = 5  # a second, while no face is followed: a shot's first frames are worth having
EMBEDDINGS_A_SECOND = 1
JUMP = 0.3  # of the face's size: no head moves so far within a frame
GROWTH = 1.3
# The detector's box reaches from brows to chin, a landmark box higher; faces it finds by half are looked at.
DETECTOR_SHARE = 0.6


@dataclass
class FaceTrack:
    """A face in consecutive frames, up to the longest clip; a longer appearance is several tracks in a row."""

    start: int  # number of its first frame
    seed: Face  # where it is looked for in the first frame
    faces: list[Face] = field(default_factory=list)
    measures: list[FaceMeasures] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)  # of brightness, from the frame before
    embeddings: list[tuple[int, Array]] = field(default_factory=list)  # by frame within the track

    @property
    def last(self) -> Face:
        """The face where it was last seen."""
        return self.faces[-1] if self.faces else self.seed


def at_rate(frames: Iterable[Image], source: Fraction, wanted: int) -> Iterator[Image]:
    """The frames of a video of `source` frames a second at `wanted` ones: for each time the nearest earlier frame."""
    step = source / wanted
    number = 0  # of the next frame to give
    for index, frame in enumerate(frames):
        while int(number * step) == index:
            yield frame
            number += 1


@dataclass
class _Active:
    """A track that goes on, and what follows its face."""

    track: FaceTrack
    tracker: FaceTracker
    cuts: CutFinder = field(default_factory=lambda: CutFinder(FACE_REGION))

    def advance(self, previous: Image, frame: Image) -> tuple[Face | None, float]:
        """The face in the next frame, None where the track ends, and how much its surroundings changed."""
        last = self.track.last
        region = region_of(last, frame.shape)
        seen = region_change(previous[region], frame[region])
        if self.cuts.is_cut(seen):
            return None, seen.difference
        face = self.tracker.follow(frame)
        return (face if face and _near(last, face) else None), seen.difference


class TrackCollector:
    """Tracks all faces of one video side by side."""

    def __init__(self, analyzer: FaceAnalyzer, options: PrepareOptions) -> None:
        self._analyzer = analyzer
        self._options = options
        self._detect_every = max(options.fps // DETECTIONS_A_SECOND, 1)
        self._detect_alone = max(options.fps // DETECTIONS_ALONE, 1)
        self._embed_every = max(options.fps // EMBEDDINGS_A_SECOND, 1)
        self._active: list[_Active] = []
        self.small: list[int] = []  # frames in which a face was too small to follow
        self.frames = 0  # seen so far

    def collect(self, frames: Iterable[Image]) -> Iterator[FaceTrack]:
        """The tracks, each as it ends. `frames` are (H,W,3) uint8 RGB at the clips' rate."""
        previous: Image | None = None
        for number, frame in enumerate(frames):
            self.frames = number + 1
            ended = [] if previous is None else self._advance(previous, frame)
            yield from ended
            every = self._detect_every if self._active else self._detect_alone
            if ended or number % every == 0:
                self._look_for_new(number, frame)
            yield from self._full(number)
            previous = frame
        yield from (active.track for active in self._active if active.track.faces)

    def _advance(self, previous: Image, frame: Image) -> list[FaceTrack]:
        """Carries every track on into `frame`; the tracks that end before it."""
        going: list[_Active] = []
        ended = []
        for active in self._active:
            # A resampled video repeats frames: the same object has the same face.
            same = frame is previous
            face, difference = (active.track.last, 0.0) if same else active.advance(previous, frame)
            if face is None or any(_shares_place(face, other.track.last) for other in going):
                ended.append(active.track)
                continue
            self._append(active.track, frame, face, difference)
            going.append(active)
        self._active = going
        return [track for track in ended if track.faces]

    def _append(self, track: FaceTrack, frame: Image, face: Face, difference: float) -> None:
        if len(track.faces) % self._embed_every == 0:
            track.embeddings.append((len(track.faces), self._analyzer.identity(frame, face.landmarks)))
        track.faces.append(face)
        track.measures.append(measure_face(frame, face))
        track.differences.append(difference)

    def _look_for_new(self, number: int, frame: Image) -> None:
        smallest = self._options.min_face
        for face in self._analyzer.detect(frame, smallest * DETECTOR_SHARE):
            if any(_shares_place(face, active.track.last) for active in self._active):
                continue
            if face.box[3] - face.box[1] < smallest:
                self.small.append(number)
                continue
            track = FaceTrack(number, face)
            self._append(track, frame, face, difference=float("inf"))
            self._active.append(_Active(track, FaceTracker(self._analyzer, face=face)))

    def _full(self, number: int) -> Iterator[FaceTrack]:
        """Ends tracks that are as long as a clip may be; each goes on as a new one from the next frame."""
        for active in self._active:
            if len(active.track.faces) >= self._options.max_frames:
                full, active.track = active.track, FaceTrack(number + 1, active.track.last)
                yield full


def _near(before: Face, after: Face) -> bool:
    """Whether a face can have moved from one place to the other within a frame."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = before.box, after.box
    size, grown = max(x1 - x0, y1 - y0), max(u1 - u0, v1 - v0)
    moved = max(abs(u0 + u1 - x0 - x1), abs(v0 + v1 - y0 - y1)) / 2
    return moved < JUMP * size and size / GROWTH < grown < size * GROWTH


def _shares_place(face: Face, other: Face) -> bool:
    """Whether the middle of one face lies in the other's box."""
    return centre_within(face, other) or centre_within(other, face)
