"""Face boxes in a picture of any size: BlazeFace (short range) on the full frame and on tiles of a pyramid.

The network sees 128×128 px and finds faces between about a fifth of that size and all of it. So it gets the full
frame twice, as it is and with a wide margin (a face that fills the frame has no room around it), and then
overlapping tiles of decreasing resolution, the first fine enough for the smallest face to look for.
Bazarevsky et al., "BlazeFace", arXiv 1907.05047; anchors and decoding follow MediaPipe's graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from liveportrait.face.runtime import Network
from liveportrait.types import Array, Image

SIDE = 128  # input of the network, px
GRIDS = ((16, 2), (8, 6))  # of its anchors: cells per side, anchors per cell
MIN_SCORE = 0.5  # of a detection in the full frame
MIN_SCORE_TILE = 0.7  # in a tile: there are many, and chance patterns reach 0.7 where faces reach 0.8
OVERLAP = 0.3  # intersection over union above which two boxes in one view are the same face
SMALLEST_SEEN = 24  # smallest face that the network finds reliably, px of its input
STRIDE = 80  # between tiles, px of the network's input: a face of up to 48 px lies entirely within some tile
MARGIN = 0.6  # size of the full frame in the view with a margin, in sides of the view
FINEST = 2.0  # px of a tile per px of the picture: enlarging it further shows nothing new


class Detection(NamedTuple):
    """A face box in pixels of the picture, and the two eyes, which give the roll."""

    score: float
    box: Array  # (4,) x0, y0, x1, y1: brows to chin
    eyes: Array  # (2,2) the subject's right eye, then the left


class View(NamedTuple):
    """One square input of the network."""

    pixels: Image  # (128,128,3)
    scale: float  # px of the view per px of the picture
    corner: Array  # (2,) x, y of the view's first pixel in the picture
    min_score: float  # below which a detection is dropped


def anchors() -> Array:
    """Anchor centres (896,2) in [0, 1]: two per cell of the 16×16 grid, six per cell of the 8×8 grid."""
    grids = []
    for cells, per_cell in GRIDS:
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        grids.append(np.repeat(centres, per_cell, axis=0))
    return np.concatenate(grids).astype(np.float32)


def overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union (N,) of a box (4,) with others (N,4)."""
    corner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = corner.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-9)


def weighted_suppression(scores: Array, values: Array) -> Iterator[tuple[float, Array]]:
    """Non-maximum suppression that averages what it merges, weighted by score, best first.

    scores (N,); values (N,C), the first four columns x0, y0, x1, y1. Yields (best score, mean values (C,)).
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

    def __call__(self, image: Image, smallest: float) -> Iterator[Detection]:
        """Boxes in an RGB picture (H,W,3); the same face may appear several times.

        `smallest` is the height in px of the smallest face to look for.
        """
        for view in _views(image, smallest):
            for score, values in self._detect_in(view):
                points = values.reshape(-1, 2) / view.scale + view.corner
                yield Detection(score, points[:2].reshape(4), points[2:4])

    def _detect_in(self, view: View) -> list[tuple[float, Array]]:
        """Faces in one view: (score, [x0, y0, x1, y1, six points as x, y] in px of the view)."""
        regressors, logits = self._network(view.pixels[None].astype(np.float32) / 127.5 - 1)
        scores = 1 / (1 + np.exp(-logits.reshape(-1).clip(-50, 50)))
        keep = scores >= view.min_score
        if not keep.any():
            return []
        raw = regressors.reshape(-1, 8, 2)[keep]  # centre, size, six points: all in px, from the anchor
        centre = self._anchors[keep, None] * SIDE
        points = raw[:, 2:] + centre
        low, high = raw[:, :1] + centre - raw[:, 1:2] / 2, raw[:, :1] + centre + raw[:, 1:2] / 2
        values = np.concatenate([low, high, points], axis=1).reshape(len(raw), -1)
        return list(weighted_suppression(scores[keep], values))


def _views(image: Image, smallest: float) -> Iterator[View]:
    full = SIDE / max(image.shape[:2])
    for scale in (full, full * MARGIN):
        small = _resized(image, scale)
        left, top = (small.shape[1] - SIDE) // 2, (small.shape[0] - SIDE) // 2
        yield _view(small, left, top, scale, MIN_SCORE)
    scale = min(SMALLEST_SEEN / smallest, FINEST)
    while scale > full * 1.05:
        level = _resized(image, scale)
        for top in _starts(level.shape[0]):
            for left in _starts(level.shape[1]):
                yield _view(level, left, top, scale, MIN_SCORE_TILE)
        scale /= 2


def _starts(length: int) -> list[int]:
    """First pixels of the tiles that cover a length, evenly spaced, at most STRIDE apart."""
    count = max(0, -(-(length - SIDE) // STRIDE)) + 1
    return np.linspace(0, max(0, length - SIDE), count).round().astype(int).tolist()


def _resized(image: Image, scale: float) -> Image:
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    )


def _view(level: Image, left: int, top: int, scale: float, min_score: float) -> View:
    """The 128×128 px of a resized picture whose top left corner is (left, top); black outside the picture."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    part = level[max(top, 0) : top + SIDE, max(left, 0) : left + SIDE]
    y, x = max(-top, 0), max(-left, 0)
    pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
    return View(pixels, scale, np.array([left, top], np.float32) / scale, min_score)
