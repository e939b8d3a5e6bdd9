"""Tracks one face through a video with cuts."""

from __future__ import annotations

import numpy as np

from liveportrait.face.analyzer import Face, FaceAnalyzer
from liveportrait.face.identity import SAME_PERSON
from liveportrait.face.tracker import SMALLEST_DRIVER, FaceTracker, has_jumped
from liveportrait.media.cuts import FACE_REGION, CutFinder, region_change
from liveportrait.types import Image

# Tighter bounds where the picture changed much: a fast camera move stays within them, a cut to a closer shot does not.
SMALLER_JUMP, SMALLER_GROWTH = 0.35, 1.15
PATIENCE = 25  # frames to wait for somebody who is out of sight before following someone else
REGION = 2.0  # side of the area around a face that is compared to find a cut, in sizes of the face's box


class SceneTracker:
    """Follows one face through a film and reports where it starts over: after a cut, or at another place.

    A frame that differs much from the one before is not a cut if the face and its surroundings continue: a fast camera
    move changes the whole frame too, and so does an inserted picture. A face that jumps by more than its size starts
    over; if it is somebody else's, the tracker first waits a while for the person it followed.
    """

    starts_over: bool = False
    """whether the face in the last frame is a new start, not the continuation of the face seen before it"""

    def __init__(self, analyzer: FaceAnalyzer, smallest: float = SMALLEST_DRIVER) -> None:
        """`smallest` as for `FaceTracker`."""
        self._analyzer, self._smallest = analyzer, smallest
        self._tracker = FaceTracker(analyzer, smallest)
        self._is_cut = CutFinder()
        self._seen: tuple[Image, Face] | None = None  # the last frame that shows the face
        self._was_cut = False  # since that frame
        self._waited = 0  # frames since then that show somebody else

    def __call__(self, frame: Image) -> Face | None:
        """The face in the next frame (H,W,3) uint8 RGB, or None."""
        self._was_cut |= self._is_cut(frame)
        # Tracking a face across a cut would end somewhere between the old place and the new one.
        face = self._tracker.search(frame) if self._was_cut else self._tracker(frame)
        if self._was_cut and face and not self._continues(frame, face):
            face = self._tracker(frame, new_scene=True)
        self.starts_over = bool(face and self._seen) and not self._continues(frame, face)
        if face and self._seen and self.starts_over and not self._was_cut and self._should_wait(frame, face):
            self._tracker = FaceTracker(self._analyzer, self._smallest, self._seen[1])
            face, self.starts_over = None, False
        if face:
            self._seen, self._was_cut, self._waited = (frame, face), False, 0
        return face

    def reset(self) -> None:
        """Forget everything: the next face is the first one."""
        self._tracker.reset()
        self._is_cut = CutFinder()
        self._seen = None
        self._was_cut = self.starts_over = False
        self._waited = 0

    def _should_wait(self, frame: Image, face: Face) -> bool:
        """Whether the face found elsewhere is a stranger's, and it is too early to follow that person instead."""
        if self._seen is None or self._waited >= PATIENCE:
            return False
        before, now = (
            self._analyzer.identity(own, seen.landmarks) for own, seen in (self._seen, (frame, face))
        )
        is_stranger = float(np.linalg.norm(before - now)) > SAME_PERSON
        self._waited += is_stranger
        return is_stranger

    def _continues(self, frame: Image, face: Face | None) -> bool:
        if not (face and self._seen):
            return False
        if self._was_cut:
            return looks_continuous(*self._seen, frame, face)
        return not has_jumped(self._seen[1], face)


def looks_continuous(before: Image, face_before: Face, now: Image, face: Face) -> bool:
    """Whether a face and its surroundings look alike in two frames (H,W,3), wherever they lie in each."""
    if has_jumped(face_before, face, SMALLER_JUMP, SMALLER_GROWTH):
        return False
    own, other = (frame[region_of(seen, frame.shape)] for frame, seen in ((before, face_before), (now, face)))
    change = region_change(own, other)
    return not CutFinder(FACE_REGION).is_cut(change)


def region_of(face: Face, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a face's surroundings, clipped to the picture; at least one pixel."""
    x0, y0, x1, y1 = face.box
    half = REGION * max(x1 - x0, y1 - y0) / 2
    slices = []
    for centre, length in (((y0 + y1) / 2, shape[0]), ((x0 + x1) / 2, shape[1])):
        low = int(np.clip(centre - half, 0, length - 1))
        slices.append(slice(low, int(np.clip(centre + half, low + 1, length))))
    return slices[0], slices[1]
