"""A baseline without learning: the source, bent triangle by triangle to the driving frame's true landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.metrics.faces import MESH_POINTS
from liveportrait.types import Array, Image

BORDER_POINTS = 5  # on each side of the picture; they stay where they are


def landmark_warp(source: Image, source_landmarks: Array, target_landmarks: Array) -> Image:
    """Piecewise-affine warp of a source (H,W,3) that moves its landmarks (478,3) px onto the target's."""
    height, width = source.shape[:2]
    border = _border(height, width)
    start = np.concatenate([source_landmarks[:MESH_POINTS, :2], border]).astype(np.float32)
    goal = np.concatenate([target_landmarks[:MESH_POINTS, :2], border]).astype(np.float32)
    triangles = _triangles(goal, height, width)
    owner = np.full((height, width), -1, np.int32)
    for number, triangle in enumerate(triangles):
        cv2.fillConvexPoly(owner, np.round(goal[triangle]).astype(np.int32), (number,))
    where = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    ys, xs = np.nonzero(owner >= 0)
    affine = _affine(goal[triangles], start[triangles])[owner[ys, xs]]
    points = np.stack([xs, ys, np.ones_like(xs)], -1).astype(np.float32)
    where[ys, xs] = np.einsum("nc,ncd->nd", points, affine)
    return cv2.remap(source, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def _affine(corners: Array, images: Array) -> Array:
    """Matrices (T,3,2) that take rows (x, y, 1) of triangles (T,3,2) onto others; flat triangles stay put."""
    homogeneous = np.concatenate([corners, np.ones_like(corners[..., :1])], -1).astype(np.float64)
    flat = np.abs(np.linalg.det(homogeneous)) < 1e-6
    homogeneous[flat] = np.eye(3)
    affine = np.linalg.solve(homogeneous, images.astype(np.float64))
    affine[flat] = [[1, 0], [0, 1], [0, 0]]
    return affine.astype(np.float32)


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
