"""A baseline without learning: the source, bent triangle by triangle to the driving frame's true landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.evaluation.metrics import MESH_POINTS, Array, Picture

BORDER_POINTS = 5  # on each side of the picture; they stay where they are


def landmark_warp(source: Picture, source_landmarks: Array, target_landmarks: Array) -> Picture:
    """Piecewise-affine warp of a source (H,W,3) that moves its landmarks (478,3) px onto the target's."""
    height, width = source.shape[:2]
    border = _border(height, width)
    start = np.concatenate([source_landmarks[:MESH_POINTS, :2], border]).astype(np.float32)
    goal = np.concatenate([target_landmarks[:MESH_POINTS, :2], border]).astype(np.float32)
    where = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    for triangle in _triangles(goal, height, width):
        matrix = cv2.getAffineTransform(goal[triangle], start[triangle])
        low = np.maximum(np.floor(goal[triangle].min(0)).astype(int), 0)
        high = np.minimum(np.ceil(goal[triangle].max(0)).astype(int) + 1, (width, height))
        if (high <= low).any():
            continue
        inside = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillConvexPoly(inside, np.round(goal[triangle] - low).astype(np.int32), 1)
        ys, xs = np.nonzero(inside)
        points = np.stack([xs + low[0], ys + low[1], np.ones_like(xs)], -1)
        where[ys + low[1], xs + low[0]] = points @ matrix.T
    return cv2.remap(source, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def _border(height: int, width: int) -> Array:
    steps = np.linspace(0, 1, BORDER_POINTS, dtype=np.float32)
    edge = np.concatenate([np.stack([steps, steps * 0 + side], -1) for side in (0, 1)])
    return np.unique(np.concatenate([edge, edge[:, ::-1]]), axis=0) * np.array(
        [width - 1, height - 1], np.float32
    )


def _triangles(points: Array, height: int, width: int) -> NDArray[np.int64]:
    """Delaunay triangles (T,3) of the points that lie in the picture."""
    plane = cv2.Subdiv2D((0, 0, width, height))
    rows: dict[tuple[float, float], int] = {}
    for row, point in enumerate(points):
        if 0 <= point[0] < width and 0 <= point[1] < height:
            plane.insert((float(point[0]), float(point[1])))
            rows[float(np.float32(point[0])), float(np.float32(point[1]))] = row
    found = []
    for x0, y0, x1, y1, x2, y2 in plane.getTriangleList():
        corners = [rows.get((float(x), float(y))) for x, y in ((x0, y0), (x1, y1), (x2, y2))]
        if None not in corners:
            found.append(corners)
    return np.array(found, np.int64).reshape(-1, 3)
