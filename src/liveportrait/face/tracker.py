"""Follow one face from frame to frame."""

from __future__ import annotations

from liveportrait.face.analyzer import Face, FaceAnalyzer
from liveportrait.types import Image

SMALLEST_DRIVER = 1 / 12  # of the longer side: a smaller face has too few pixels to drive anything
FAR = 0.04  # of the face's side: an edge of its box that moves farther from one frame to the next


class FaceTracker:
    """Follow one face: near where it was in the frame before, or else the largest one anew.

    One call a frame, in order. The face alone is kept between calls, so that one tracker serves one thread.
    """

    def __init__(
        self, analyzer: FaceAnalyzer, smallest: float = SMALLEST_DRIVER, face: Face | None = None
    ) -> None:
        """`smallest`: height of the smallest face to look for, as a part of the frame's longer side.

        `face`: the one to follow, where it is known from the frame before.
        """
        self._analyzer = analyzer
        self._smallest = smallest
        self._face = face

    def __call__(self, frame: Image, new_scene: bool = False) -> Face | None:
        """The face in the next frame (H,W,3) uint8 RGB, or None. With `new_scene` it is not looked for nearby."""
        if new_scene:
            self.reset()
        self._face = self.follow(frame) or largest_face(self._analyzer, frame, self._smallest)
        return self._face

    def follow(self, frame: Image) -> Face | None:
        """The face in the next frame if it is near where it was; it is not searched for.

        Landmarks lag behind a face that has left the square in which it was looked for: one that has moved far is
        measured a second time, from where it was found.
        """
        before = self._face
        self._face = before and self._analyzer.track(frame, before)
        if self._face and before and _moved(before, self._face) > FAR:
            self._face = self._analyzer.track(frame, self._face)
        return self._face

    def reset(self) -> None:
        """Forget the face: the next frame is searched as a whole."""
        self._face = None


def largest_face(analyzer: FaceAnalyzer, image: Image, smallest: float = SMALLEST_DRIVER) -> Face | None:
    """The largest face of a picture (H,W,3), or None; `smallest` as for `FaceTracker`."""
    faces = analyzer.detect(image, smallest=max(image.shape[:2]) * smallest)
    return faces[0] if faces else None


def _moved(before: Face, now: Face) -> float:
    """The farthest way of an edge of the face's box, in sides of the box."""
    x0, y0, x1, y1 = before.box
    side = max(x1 - x0, y1 - y0)
    return max(abs(a - b) for a, b in zip(before.box, now.box, strict=True)) / max(side, 1e-6)
