"""From a track to clips: one person, no fades, good light, one window, long enough, and alive."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from liveportrait.data.preparation import judging
from liveportrait.data.preparation.judging import Reason
from liveportrait.data.preparation.labels import make_labels
from liveportrait.data.preparation.motion import jitter
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.quality import FaceMeasures, faded_ends, quality
from liveportrait.data.preparation.records import Array, Clip, Dropped, Window
from liveportrait.data.preparation.tracking import Track
from liveportrait.data.preparation.windows import boxes_of, divide_by_window
from liveportrait.face import FaceAnalyzer

Span = tuple[int, int]  # first frame of a track, frame after the last
NEIGHBOURS = 4  # frames on either side whose light is looked at with a frame's own
CONTEXT = 3  # embeddings on either side whose means are compared


class TrackDivider:
    """Divides the tracks of one video into clips, and notes what is dropped and why."""

    def __init__(self, size: tuple[int, int], analyzer: FaceAnalyzer, options: PrepareOptions) -> None:
        """`size`: width and height of the video, px."""
        self._size = size
        self._analyzer = analyzer
        self._options = options
        self.clips: list[Clip] = []
        self.dropped: list[Dropped] = []

    def add(self, track: Track) -> None:
        """Divide a track."""
        for one_person in self._people(track):
            for span in self._well_lit(track, one_person):
                self._placed(track, span)

    def _drop(self, track: Track, span: Span, reason: Reason) -> None:
        start, end = ((track.start + frame) / self._options.fps for frame in span)
        if end > start:
            self.dropped.append(Dropped(*reason, start_s=round(start, 3), end_s=round(end, 3)))

    def _people(self, track: Track) -> Iterator[Span]:
        """Parts in which the face keeps its identity; frames around a change are dropped."""
        start = first = 0
        for index in range(1, len(track.embeddings)):
            (last_frame, last), (frame, present) = track.embeddings[index - 1 : index + 1]
            before = np.mean([e for _, e in track.embeddings[max(first, index - CONTEXT) : index]], axis=0)
            after = np.mean([e for _, e in track.embeddings[index : index + CONTEXT]], axis=0)
            gap = min(float(np.linalg.norm(after - before)), float(np.linalg.norm(present - last)))
            if gap > self._options.identity_jump:
                yield start, last_frame + 1
                self._drop(track, (last_frame + 1, frame), ("identity changes", f"distance {gap:.2f}"))
                start, first = frame, index
        yield start, len(track.faces)

    def _well_lit(self, track: Track, span: Span) -> Iterator[Span]:
        """Parts without fades and badly lit frames, at least as long as the shortest clip."""
        measures = track.measures[slice(*span)]
        contrast = np.array([seen.contrast for seen in measures], np.float32)
        first, end = faded_ends(contrast)
        self._drop(track, (span[0], span[0] + first), ("fade", f"contrast down to {contrast.min():.0f}"))
        self._drop(track, (span[0] + end, span[1]), ("fade", f"contrast down to {contrast.min():.0f}"))
        reasons = [judging.exposure_reason(seen, self._options) for seen in _smoothed(measures[first:end])]
        words = [reason[0] if reason else "" for reason in reasons]
        edges = [0, *(k for k in range(1, len(words)) if words[k] != words[k - 1]), len(words)]
        for low, high in pairwise(edges):
            part = span[0] + first + low, span[0] + first + high
            reason = reasons[low] if low < high else None
            if reason is not None:
                self._drop(track, part, reason)
            elif high - low >= self._options.min_frames:
                yield part
            else:
                self._drop(track, part, ("short", f"{(high - low) / self._options.fps:.2f} s"))

    def _placed(self, track: Track, span: Span) -> None:
        """Gives the parts of a span their windows, and keeps those good enough."""
        landmarks = np.stack([face.landmarks for face in track.faces[slice(*span)]])
        covered = span[0]
        for first, end, window in divide_by_window(boxes_of(landmarks), self._size, self._options, span[0]):
            self._drop(track, (covered, first), ("leaves the window", "and is soon back"))
            covered = end
            if window is None:
                self._drop(track, (first, end), ("no window", "the input's edge is too near the face"))
                continue
            found = self._judged(track, first, landmarks[first - span[0] : end - span[0]], window)
            if isinstance(found, Clip):
                self.clips.append(found)
            else:
                self._drop(track, (first, end), found)
        self._drop(track, (covered, span[1]), ("leaves the window", "and is soon back"))

    def _judged(self, track: Track, first: int, landmarks: Array, window: Window) -> Clip | Reason:
        """The clip of T frames from `first` on with landmarks (T,478,3), or why there is none."""
        end = first + len(landmarks)
        measures = track.measures[first:end]
        heights = np.ptp(landmarks[..., 1], axis=1)
        scores = np.array([face.score for face in track.faces[first:end]], np.float32)
        sharpness = float(np.median([seen.sharpness for seen in measures]))
        reason = judging.appearance_reason(sharpness, heights, scores, self._options)
        reason = reason or judging.movement_reason(landmarks, track.differences[first:end], self._options)
        found = quality(measures, heights, scores, jitter(landmarks))
        reason = reason or judging.quality_reason(found, self._options)
        if reason is not None:
            return reason
        return Clip(
            start=track.start + first,
            window=window,
            labels=make_labels(landmarks, window, self._analyzer),
            quality=found,
            embedding=_mean_embedding(track, first, end),
            frames=len(landmarks),
        )


def _smoothed(measures: list[FaceMeasures]) -> list[FaceMeasures]:
    """Each frame's measures as the median of its neighbourhood, so that a flicker does not divide a clip."""
    if not measures:
        return []
    table = np.array(measures)
    padded = np.pad(table, ((NEIGHBOURS, NEIGHBOURS), (0, 0)), mode="edge")
    shifted = [padded[k : k + len(table)] for k in range(2 * NEIGHBOURS + 1)]
    return [FaceMeasures(*row) for row in np.median(shifted, axis=0).tolist()]


def _mean_embedding(track: Track, first: int, end: int) -> Array:
    """Mean of the embeddings (128,) taken in the span, or the one taken nearest before it."""
    within = [embedding for frame, embedding in track.embeddings if first <= frame < end]
    if not within:
        within = [embedding for frame, embedding in track.embeddings if frame <= first][-1:]
    return np.asarray(np.mean(within, axis=0, dtype=np.float64), np.float32)
