"""One fixed square window for a clip: the head moves inside it as it moves in the input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.records import Array, Window

RAISED = 0.04  # by how much of its side the window lies above the middle of the landmarks: room for hair
MAX_SHIFT = 0.12  # of its side, that the window may be moved because the input ends
MARGIN = 0.015  # of its side, between the landmarks' box and the window's edge
ROOMIER = 1.06  # a window this much larger is tried before a clip is divided
STEPS = 8


def boxes_of(landmarks: Array) -> Array:
    """Boxes (T,4) x0, y0, x1, y1 of landmarks (T,478,3)."""
    xy = landmarks[..., :2]
    return np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1)


def fit_window(
    boxes: Array, size: tuple[int, int], options: PrepareOptions, room: float = 1.0
) -> Window | None:
    """The window around the median box of (T,4), inside an input of width and height `size`.

    Its side is `room` · `options.window` longer sides of the box; where the input ends too near, less, but at
    least `options.tightest_window`. None where even that does not fit.
    """
    low, high = np.median(boxes[:, :2], axis=0), np.median(boxes[:, 2:], axis=0)
    face = float((high - low).max())
    for share in np.linspace(room * options.window, options.tightest_window, STEPS):
        side = round(share * face)
        if not 1 <= side <= min(size):
            continue
        wanted = (low + high) / 2 - side * np.array([0.5, 0.5 + RAISED])
        corner = np.clip(np.round(wanted), 0, np.array(size) - side)
        if np.abs(corner - wanted).max() <= MAX_SHIFT * side:
            return Window(int(corner[0]), int(corner[1]), side)
    return None


def inside(boxes: Array, window: Window) -> NDArray[np.bool_]:
    """(T,) whether each box (T,4) lies in the window."""
    gap = MARGIN * window.side
    corner = np.array([window.x, window.y])
    above = (boxes[:, :2] >= corner + gap).all(axis=1)
    return np.asarray(above & (boxes[:, 2:] <= corner + window.side - gap).all(axis=1))


def divide_by_window(
    boxes: Array, size: tuple[int, int], options: PrepareOptions, start: int = 0
) -> Iterator[tuple[int, int, Window | None]]:
    """First frame, frame after the last, and window, of the parts of a clip in which the face stays in one window.

    Parts are at least `options.min_frames` long; a part with None has no window.
    """
    if len(boxes) < options.min_frames:
        return
    window, roomier = (fit_window(boxes, size, options, room) for room in (1.0, ROOMIER))
    for found in (window, roomier):
        if found is not None and inside(boxes, found).all():
            yield start, start + len(boxes), found
            return
    keeps = inside(boxes, window) if window is not None else np.zeros(len(boxes), bool)
    edges = np.flatnonzero(np.diff(keeps)) + 1
    if not len(edges):
        yield start, start + len(boxes), None
        return
    for part in np.split(np.arange(len(boxes)), edges):
        yield from divide_by_window(boxes[part], size, options, start + int(part[0]))
