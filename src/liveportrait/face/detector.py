"""Face boxes in a picture of any size: BlazeFace (short range) on the whole frame and on tiles of a pyramid.

The network sees 128×128 px and finds faces between about a sixth of that and all of it. So the frame is looked
at whole, once as it is and once with a wide margin (a face that fills the frame has no room around it), and then
in overlapping tiles at twice, four times, ... the resolution, as far as the smallest face asked for needs.
Bazarevsky et al., "BlazeFace", arXiv 1907.05047; anchors and decoding follow the MediaPipe graph of that network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.runtime import Array, Network

SIDE = 128  # input of the network, px
MIN_SCORE = 0.5
OVERLAP = 0.3  # intersection over union from which two boxes of one view are one face
SMALLEST_SEEN = 24  # smallest face that the network finds reliably, px of its input
STRIDE = 80  # between tiles, px of the network's input: a face up to 48 px lies whole in some tile
MARGIN = 0.6  # of the side: size of the whole frame in the view with a margin


class Detection(NamedTuple):
    """A face box in pixels of the picture, with the two eyes, which give the roll."""

    score: float
    box: Array  # (4,) x0, y0, x1, y1: brows to chin
    eyes: Array  # (2,2) the subject's right eye, then the left


def anchors() -> Array:
    """Anchor centres (896,2) in [0, 1]: two a cell of the 16×16 grid, six a cell of the 8×8 grid."""
    grids = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        grids.append(np.repeat(centres, each, axis=0))
    return np.concatenate(grids).astype(np.float32)


def overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union (N,) of one box (4,) with others (N,4)."""
    corner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = corner.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-9)


def weighted_suppression(scores: Array, values: Array) -> Iterator[tuple[float, Array]]:
    """Non-maximum suppression that averages what it merges, weighted by score, best first.

    scores (N,); values (N,C) whose first four columns are x0, y0, x1, y1. Yields (best score, mean values (C,)).
    """
    order = np.argsort(-scores, kind="stable")
    scores, values = scores[order], values[order]
    while len(scores):
        same = overlaps(values[0, :4], values[:, :4]) > OVERLAP
        same[0] = True
        yield float(scores[0]), (values[same] * scores[same, None]).sum(axis=0) / scores[same].sum()
        scores, values = scores[~same], values[~same]


class Detector:
    """BlazeFace over a picture of any size."""

    def __init__(self, threads: int) -> None:
        self._network = Network("face_detector", threads)
        self._anchors = anchors()

    def __call__(self, image: NDArray[np.uint8], smallest: float) -> Iterator[list[Detection]]:
        """Boxes in an RGB picture (H,W,3), one list a view; views go from the whole frame to the finest tiles.

        `smallest` is the height in px of the smallest face to look for. The same face may be in several lists.
        """
        for view, scale, corner in _views(image, smallest):
            yield [self._placed(found, scale, corner) for found in self._look(view)]

    def _look(self, view: NDArray[np.uint8]) -> list[tuple[float, Array]]:
        """Faces in one 128×128 view: (score, [x0, y0, x1, y1, six points as x, y]) in px of the view."""
        regressors, logits = self._network(view[None].astype(np.float32) / 127.5 - 1)
        scores = 1 / (1 + np.exp(-logits.reshape(-1).clip(-50, 50)))
        keep = scores >= MIN_SCORE
        if not keep.any():
            return []
        raw = regressors.reshape(-1, 8, 2)[keep]  # centre, size, six points: all in px, from the anchor
        centre = self._anchors[keep, None] * SIDE
        points = raw[:, 2:] + centre
        low, high = raw[:, :1] + centre - raw[:, 1:2] / 2, raw[:, :1] + centre + raw[:, 1:2] / 2
        values = np.concatenate([low, high, points], axis=1).reshape(len(raw), -1)
        return list(weighted_suppression(scores[keep], values))

    @staticmethod
    def _placed(found: tuple[float, Array], scale: float, corner: Array) -> Detection:
        points = found[1].reshape(-1, 2) / scale + corner
        return Detection(found[0], points[:2].reshape(4), points[2:4])


def _views(image: NDArray[np.uint8], smallest: float) -> Iterator[tuple[NDArray[np.uint8], float, Array]]:
    """128×128 views as (pixels, view px per picture px, picture coordinates of the view's corner)."""
    height, width = image.shape[:2]
    whole = SIDE / max(height, width)
    for scale in (whole, whole * MARGIN):
        small = _resized(image, scale)
        left, top = (SIDE - small.shape[1]) // 2, (SIDE - small.shape[0]) // 2
        yield _window(small, left=-left, top=-top), scale, np.float32([-left, -top]) / scale
    scale = min(SMALLEST_SEEN / smallest, 2.0)
    while scale > whole * 1.05:
        level = _resized(image, scale)
        for top in _starts(level.shape[0]):
            for left in _starts(level.shape[1]):
                yield _window(level, left, top), scale, np.float32([left, top]) / scale
        scale /= 2


def _starts(length: int) -> list[int]:
    """First pixels of the tiles that cover a length, evenly spread, at most STRIDE apart."""
    count = max(0, -(-(length - SIDE) // STRIDE)) + 1
    return np.linspace(0, max(0, length - SIDE), count).round().astype(int).tolist()


def _resized(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _window(image: NDArray[np.uint8], left: int, top: int) -> NDArray[np.uint8]:
    """The 128×128 px from (left, top) on; black outside the picture."""
    view = np.zeros((SIDE, SIDE, 3), np.uint8)
    part = image[max(top, 0) : top + SIDE, max(left, 0) : left + SIDE]
    y, x = max(-top, 0), max(-left, 0)
    view[y : y + part.shape[0], x : x + part.shape[1]] = part
    return view
