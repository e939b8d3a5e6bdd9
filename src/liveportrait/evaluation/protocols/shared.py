"""Measures that protocols share, of an output's track against the driver's; and the landmark warp, a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.evaluation.results import Mask, Worst
from liveportrait.evaluation.tracks import Track
from liveportrait.face.canonical import EYE_BLINK, JAW_OPEN, NEUTRAL
from liveportrait.metrics.expressions import MOVING_GAP, moving_blendshapes
from liveportrait.metrics.faces import MESH_POINTS, expression_distance, eye_distance, rotation_distance
from liveportrait.metrics.images import luma
from liveportrait.metrics.patches import face_saturation, mouth_patch, mouth_saturation
from liveportrait.metrics.temporal import jitter, without_rigid_motion
from liveportrait.motion.lifting import INNER_LIPS_MESH, LEFT_EYE_MESH, RIGHT_EYE_MESH
from liveportrait.networks.geometry import euler_degrees
from liveportrait.types import Array, Image


def curves(track: Track, driver: Track) -> dict[str, list[tuple[Array, Array]]]:
    """Pairs of curves (T,), the output's and the driver's: eye blink, jaw opening, all blendshapes, head pose."""

    def pairs(a: Array, b: Array) -> list[tuple[Array, Array]]:
        return list(zip(a.T, b.T, strict=True))

    blink = list(EYE_BLINK)
    expression = [number for number in range(track.shapes.shape[1]) if number != NEUTRAL]
    return {
        "eyes": [(track.shapes[:, blink].mean(1), driver.shapes[:, blink].mean(1))],
        "jaw": [(track.shapes[:, JAW_OPEN], driver.shapes[:, JAW_OPEN])],
        "expression_curves": pairs(track.shapes[:, expression], driver.shapes[:, expression]),
        "head_pose_curves": pairs(_angles(turns(track)), _angles(turns(driver))),
    }


def responses(track: Track, driver: Track) -> dict[str, list[tuple[Array, Array]]]:
    """Curves (T,) of the output and the driver, of blendshapes (not gaze) and the lip gap if they move the driver."""
    moving = moving_blendshapes(driver.shapes)
    found = {"expression": [(track.shapes[:, n], driver.shapes[:, n]) for n in moving]}
    known = np.isfinite(driver.lip_gap)
    if known.any() and driver.lip_gap[known].std() > MOVING_GAP:
        found["lip_gap"] = [(track.lip_gap, driver.lip_gap)]
    return found


TURNS = (0, 10, 20, 30)  # degrees: lower bounds of the groups by turn of the head
CLOSED_LIPS, OPEN_LIPS = 0.06, 0.12  # openings, height over width


def turn_groups(track: Track, first: Array | None = None) -> dict[str, Mask]:
    """Masks of the frames whose head is turned by 0 to 10 degrees, 10 to 20, 20 to 30, or more.

    Measured from the rotation `first` (3,3), by default the track's first.
    """
    start = track.rotation[0] if first is None else first
    degrees = rotation_distances(track.rotation, np.broadcast_to(start, track.rotation.shape))
    ends = (*TURNS[1:], float("inf"))
    return {
        f"turn {low}-{high:g}" if np.isfinite(high) else f"turn > {low}": (degrees >= low) & (degrees < high)
        for low, high in zip(TURNS, ends, strict=True)
    }


def mouth_groups(source: float, openings: Array) -> dict[str, Mask]:
    """Masks of the frames that open the source's closed lips, close its open lips, and the rest.

    `source` is the opening of the source's lips, `openings` (T,) those of the target's.
    """
    opens = np.asarray((openings > OPEN_LIPS) & (source < CLOSED_LIPS))
    closes = np.asarray((openings < CLOSED_LIPS) & (source > OPEN_LIPS))
    return {"mouth opens": opens, "mouth closes": closes, "mouth else": ~(opens | closes)}


GREY = 2.0  # levels: a face with less saturation counts as grey


def tint(pictures: Image, landmarks: Array) -> dict[str, Array]:
    """Saturation (T,) of a grey source's results (T,H,W,3), between the lips and over the face; NaN without a face."""
    rows = list(zip(pictures, landmarks, strict=True))
    return {
        name: np.array([measure(a, b) if np.isfinite(b).all() else np.nan for a, b in rows], np.float32)
        for name, measure in (("grey_mouth", mouth_saturation), ("grey_face", face_saturation))
    }


def turns(track: Track) -> Array:
    """Head rotations (T,3,3) since the first picture: R_t R_0ᵀ. NaN where there is no face."""
    return track.rotation @ track.rotation[0].T


def face_values(track: Track, driver: Track) -> dict[str, Array]:
    """Per frame (T,): the expression's difference from the driver's, and whether a face was found."""
    return {
        "blendshapes": np.array(
            [expression_distance(a, b) for a, b in zip(track.shapes, driver.shapes, strict=True)], np.float32
        ),
        "found": np.where(driver.found, track.found.astype(np.float32), np.float32(np.nan)),
    }


def change_values(track: Track, driver: Track) -> dict[str, Array]:
    """Per frame (T,): difference between the changes of output and driver since the first picture.

    Changes do not depend on what a person's face measures at rest.
    """

    def changes(name: str) -> Array:
        own, other = getattr(track, name), getattr(driver, name)
        return (own - own[0]) - (other - other[0])

    return {
        "blendshape_change": np.abs(changes("shapes")).mean(1),
        "gaze_change": np.linalg.norm(changes("gaze"), axis=1),
        "head_pose_change": rotation_distances(turns(track), turns(driver)),
    }


def rotation_distances(a: Array, b: Array) -> Array:
    """Angles (T,) between rotations (T,3,3), degrees."""
    return np.array([rotation_distance(x, y) for x, y in zip(a, b, strict=True)], np.float32)


def jitter_ratios(track: Track, driver: Track) -> dict[str, tuple[float, float]]:
    """Jitter of an output and of its driver over consecutive frames, each in units of its own eye-corner distance."""
    found: dict[str, list[float]] = {"jitter": [], "shape_jitter": []}
    for each in (track, driver):
        points = each.landmarks[:, :MESH_POINTS, :2]
        units = [eye_distance(landmarks) for landmarks in each.landmarks[each.found]]
        unit = float(np.mean(units)) if units else float("nan")
        found["jitter"].append(jitter(points, unit))
        found["shape_jitter"].append(jitter(without_rigid_motion(points), unit))
    return {name: (own, drivers) for name, (own, drivers) in found.items()}


def telling_frames(driver: Track) -> list[int]:
    """Three frames worth seeing: where eyes and jaw have changed most, and where the head has turned farthest."""
    blink = driver.shapes[:, list(EYE_BLINK)].mean(1)
    jaw = driver.shapes[:, JAW_OPEN]
    turn = np.abs(driver.rotation - driver.rotation[0]).sum((1, 2))
    return [int(np.nanargmax(np.abs(curve - curve[0]))) for curve in (blink, jaw, turn)]


def tiles(source: Image, driver: Image, outputs: dict[str, Image], rows: list[int]) -> tuple[Image, ...]:
    """A row of a contact sheet: the source, then for each frame in `rows` the driver and every output."""
    shown = (source, *(pictures[row] for row in rows for pictures in (driver, *outputs.values())))
    return tuple(picture.copy() for picture in shown)  # a view would keep the entire clip in memory


def worst_frames(
    measures: Mapping[str, Array], source: Image, shown: Sequence[tuple[Image, Track]]
) -> tuple[Worst, ...]:
    """The worst frame by each measure (T,), except the first; its tiles are the source, all pictures, their mouths.

    `shown` are pictures (T,S,S,3) with their tracks, the driver's first.
    """
    found = []
    for name, values in measures.items():
        if not np.isfinite(values[1:]).any():
            continue
        worst = 1 + int(np.nanargmax(values[1:]))
        row = [pictures[worst].copy() for pictures, _ in shown]
        faces = [track.faces[worst] for _, track in shown]
        mouths = [mouth_patch(a.landmarks).cut(b) for a, b in zip(faces, row, strict=True) if a]
        found.append(Worst(name, float(values[worst]), worst, (source, *row, *mouths)))
    return tuple(found)


def _angles(rotation: Array) -> Array:
    """Pitch, yaw and roll (T,3) in degrees."""
    return torch.stack(euler_degrees(torch.from_numpy(rotation)), -1).numpy()


BORDER_POINTS = 5  # fixed points along each side of the picture
MAX_AREA_CHANGE = 1.5  # factor by which a triangle may grow or shrink relative to the others


def landmark_warp(source: Image, source_landmarks: Array, target_landmarks: Array) -> Image:
    """Piecewise-affine warp of a source (H,W,3) that moves its landmarks (478,3) px onto the target's."""
    height, width = source.shape[:2]
    border = _border(height, width)
    start = np.concatenate([source_landmarks[:MESH_POINTS, :2], border]).astype(np.float32)
    goal = np.concatenate([target_landmarks[:MESH_POINTS, :2], border]).astype(np.float32)
    where = _warp_map(start, goal, height, width)[0]
    return cv2.remap(source, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]


def detail_share(picture: Image, landmarks: Array, source: Image, source_landmarks: Array) -> float:
    """Mean |Laplacian| of a result's face (H,W,3) over that of the same places on its source's.

    The source's |Laplacian|, not its pixels, is warped triangle by triangle to the result's landmarks (478,3) px, so
    that resampling does not soften it. Eyes and the inside of the mouth do not count, nor do triangles whose area has
    changed by more than half relative to the others' (a cheek that turns away or to the front). NaN if nothing is left.
    """
    height, width = picture.shape[:2]
    start, goal = (each[:MESH_POINTS, :2].astype(np.float32) for each in (source_landmarks, landmarks))
    where, growth = _warp_map(start, goal, height, width)
    energy = [np.abs(cv2.Laplacian(luma(each), cv2.CV_32F)) for each in (picture, source)]
    wanted = cv2.remap(energy[1], where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    shown = growth > 0
    if not shown.any():
        return float("nan")
    growth = growth / np.median(growth[shown])
    shown &= (growth > 1 / MAX_AREA_CHANGE) & (growth < MAX_AREA_CHANGE)
    hidden = np.zeros((height, width), np.uint8)
    for part in (RIGHT_EYE_MESH, LEFT_EYE_MESH, INNER_LIPS_MESH):
        cv2.fillPoly(hidden, [np.round(goal[list(part)]).astype(np.int32)], (1,))
    reach = max(round(np.linalg.norm(goal[33] - goal[263]) / 16), 1)
    shown &= cv2.dilate(hidden, np.ones((2 * reach + 1,) * 2, np.uint8)) == 0
    total = float(wanted[shown].sum(dtype=np.float64))
    return float(energy[0][shown].sum(dtype=np.float64)) / total if total > 0 else float("nan")


def _warp_map(start: Array, goal: Array, height: int, width: int) -> tuple[Array, Array]:
    """For each pixel, where it comes from (H,W,2), px, when points `start` (N,2) move to `goal`; and its growth (H,W).

    The growth is that of its triangle's area; 0 outside all triangles and where a triangle was flipped.
    """
    triangles = _triangles(goal, height, width)
    owner = np.full((height, width), -1, np.int32)
    for number, triangle in enumerate(triangles):
        cv2.fillConvexPoly(owner, np.round(goal[triangle]).astype(np.int32), (number,))
    where = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    growth = np.zeros((height, width), np.float32)
    ys, xs = np.nonzero(owner >= 0)
    affine = _affine(goal[triangles], start[triangles])
    shrinking = np.linalg.det(affine[:, :2])
    own = owner[ys, xs]
    points = np.stack([xs, ys, np.ones_like(xs)], -1).astype(np.float32)
    where[ys, xs] = np.einsum("nc,ncd->nd", points, affine[own])
    growth[ys, xs] = np.where(shrinking > 0.05, 1 / np.maximum(shrinking, 0.05), 0)[own]
    return where, growth


def _affine(corners: Array, images: Array) -> Array:
    """Matrices (T,3,2) that map rows (x, y, 1) of triangles (T,3,2) onto others; degenerate triangles stay put."""
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
    inside = ((points >= 0) & (points < [width, height])).all(1)
    plane.insert(points[inside])  # type: ignore[call-overload]
    # OpenCV returns coordinates, not indices: look the rows up by coordinates, each pair as one complex number.
    known = _as_complex(points)
    order = np.argsort(known, kind="stable")
    corners = _as_complex(np.asarray(plane.getTriangleList(), np.float32).reshape(-1, 3, 2))
    rows = order[np.maximum(np.searchsorted(known[order], corners, side="right") - 1, 0)]
    return rows[(known[rows] == corners).all(1)]


def _as_complex(points: Array) -> NDArray[np.complex64]:
    return np.ascontiguousarray(points, np.float32).view(np.complex64)[..., 0]
