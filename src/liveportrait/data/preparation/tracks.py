"""Tracking all faces of a video, each from its first frame to its last, in bounded memory."""

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

DETECTIONS_PER_SECOND = 2
IDLE_DETECTIONS_PER_SECOND = 5  # while no face is tracked: a shot's first frames are worth having
EMBEDDINGS_PER_SECOND = 1
JUMP = 0.3  # of the face's size: no head moves this far within one frame
GROWTH = 1.3  # nor changes its size by this factor
# Minimum size for the detector, relative to `min_face`: its boxes are lower (brows to chin) than landmark boxes.
DETECTOR_SHARE = 0.6


@dataclass
class FaceTrack:
    """A face in consecutive frames, at most as many as the longest clip; a longer appearance gives several tracks."""

    start: int  # number of its first frame
    seed: Face  # where it is searched in the first frame
    faces: list[Face] = field(default_factory=list)
    measures: list[FaceMeasures] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)  # of brightness, from the frame before
    embeddings: list[tuple[int, Array]] = field(default_factory=list)  # by frame within the track

    @property
    def last(self) -> Face:
        """The face where it was last seen."""
        return self.faces[-1] if self.faces else self.seed


def at_rate(frames: Iterable[Image], source: Fraction, wanted: int) -> Iterator[Image]:
    """Resample a video from `source` to `wanted` frames per second, taking the nearest earlier frame for each time."""
    step = source / wanted
    number = 0  # of the next output frame
    for index, frame in enumerate(frames):
        while int(number * step) == index:
            yield frame
            number += 1


@dataclass
class _Active:
    """A track in progress, with the tracker that follows its face."""

    track: FaceTrack
    tracker: FaceTracker
    cuts: CutFinder = field(default_factory=lambda: CutFinder(FACE_REGION))

    def advance(self, previous: Image, frame: Image) -> tuple[Face | None, float]:
        """The face in the next frame, or None if the track ends, and how much its surroundings changed."""
        last = self.track.last
        region = region_of(last, frame.shape)
        seen = region_change(previous[region], frame[region])
        if self.cuts.is_cut(seen):
            return None, seen.difference
        face = self.tracker.follow(frame)
        return (face if face and _is_plausible_move(last, face) else None), seen.difference


class TrackCollector:
    """Tracks all faces of one video at the same time."""

    def __init__(self, analyzer: FaceAnalyzer, options: PrepareOptions) -> None:
        self._analyzer = analyzer
        self._options = options
        self._detect_every = max(options.fps // DETECTIONS_PER_SECOND, 1)
        self._detect_every_idle = max(options.fps // IDLE_DETECTIONS_PER_SECOND, 1)
        self._embed_every = max(options.fps // EMBEDDINGS_PER_SECOND, 1)
        self._active: list[_Active] = []
        self.small: list[int] = []  # frames in which a face was too small to track
        self.frames = 0  # so far

    def collect(self, frames: Iterable[Image]) -> Iterator[FaceTrack]:
        """The tracks, each once it has ended. `frames` are (H,W,3) uint8 RGB at the clips' rate."""
        previous: Image | None = None
        for number, frame in enumerate(frames):
            self.frames = number + 1
            ended = [] if previous is None else self._advance(previous, frame)
            yield from ended
            every = self._detect_every if self._active else self._detect_every_idle
            if ended or number % every == 0:
                self._detect_new(number, frame)
            yield from self._split_full(number)
            previous = frame
        yield from (active.track for active in self._active if active.track.faces)

    def _advance(self, previous: Image, frame: Image) -> list[FaceTrack]:
        """Continue every track in `frame`; returns the tracks that end before it."""
        continuing: list[_Active] = []
        ended = []
        for active in self._active:
            # A resampled video repeats frames: the same array object means the same face.
            is_repeated = frame is previous
            face, difference = (active.track.last, 0.0) if is_repeated else active.advance(previous, frame)
            if face is None or any(_coincide(face, other.track.last) for other in continuing):
                ended.append(active.track)
                continue
            self._append(active.track, frame, face, difference)
            continuing.append(active)
        self._active = continuing
        return [track for track in ended if track.faces]

    def _append(self, track: FaceTrack, frame: Image, face: Face, difference: float) -> None:
        if len(track.faces) % self._embed_every == 0:
            track.embeddings.append((len(track.faces), self._analyzer.identity(frame, face.landmarks)))
        track.faces.append(face)
        track.measures.append(measure_face(frame, face))
        track.differences.append(difference)

    def _detect_new(self, number: int, frame: Image) -> None:
        smallest = self._options.min_face
        for face in self._analyzer.detect(frame, smallest * DETECTOR_SHARE):
            if any(_coincide(face, active.track.last) for active in self._active):
                continue
            if face.box[3] - face.box[1] < smallest:
                self.small.append(number)
                continue
            track = FaceTrack(number, face)
            self._append(track, frame, face, difference=float("inf"))
            self._active.append(_Active(track, FaceTracker(self._analyzer, face=face)))

    def _split_full(self, number: int) -> Iterator[FaceTrack]:
        """End tracks that are as long as the longest clip; each continues as a new track from the next frame."""
        for active in self._active:
            if len(active.track.faces) >= self._options.max_frames:
                full, active.track = active.track, FaceTrack(number + 1, active.track.last)
                yield full


def _is_plausible_move(before: Face, after: Face) -> bool:
    """Whether a face can have moved like this within one frame."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = before.box, after.box
    size, grown = max(x1 - x0, y1 - y0), max(u1 - u0, v1 - v0)
    moved = max(abs(u0 + u1 - x0 - x1), abs(v0 + v1 - y0 - y1)) / 2
    return moved < JUMP * size and size / GROWTH < grown < size * GROWTH


def _coincide(face: Face, other: Face) -> bool:
    """Whether the centre of one face lies in the other's box."""
    return centre_within(face, other) or centre_within(other, face)
