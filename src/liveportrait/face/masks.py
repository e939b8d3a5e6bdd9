"""Soft masks of a face in its crop, from the rim of its landmarks: what belongs to it, and what to somebody else."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from liveportrait.face.crop import CropWindow
from liveportrait.face.paste import paste_mask
from liveportrait.face.runtime import Array, Image

SIDE = 256  # px of a mask: it is soft, and enlarged to the crop
FACE, HEAD = 1.12, 1.45  # of the rim's size: a little of the hairline; the hair and the ears
RAISED = 0.12  # of the height of the face: a head reaches farther above the rim than below it
FEATHER = 0.06  # of the face's width: standard deviation of the soft edge
_SHIFT = 4  # binary digits of a polygon's corners after the point

_TOP, _CHIN = 0, 18  # of the rim


def rim_mask(rim: Array, size: int, grow: float, raised: float = 0.0) -> Image:
    """Mask (size,size) uint8 of what the rim (36,2 or more) px encloses, grown about its middle, with a soft edge."""
    points = rim[:, :2].astype(np.float64)
    middle = points.mean(axis=0)
    lift = raised * (points[_TOP] - points[_CHIN])
    hull = cv2.convexHull((middle + lift + grow * (points - middle)).astype(np.float32))
    mask = np.zeros((size, size), np.uint8)
    corners = np.rint(hull[:, 0].clip(-8 * size, 8 * size) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_AA, _SHIFT)
    width = float(np.ptp(points, axis=0).min())
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(FEATHER * width, 0.5)))


def rim_in_crop(rim: Array, window: CropWindow, size: int = SIDE) -> Array:
    """A rim (36,2 or more) px of the frame as px (36,2) of the window's crop at `size` px."""
    points = rim[:, :2] @ window.matrix[:, :2].T + window.matrix[:, 2]
    return (points + 0.5) * (size / window.size) - 0.5


def face_mask(rims: Sequence[Array]) -> Image:
    """Mask (256,256) uint8 of a face in its crop: wherever one of the rims (36,2) px of 256 puts it.

    It fades out towards the border of the crop, as the published mask does.
    """
    inside = np.maximum.reduce([rim_mask(rim, SIDE, FACE) for rim in rims])
    return np.minimum(inside, paste_mask(SIDE))


def yielding(mask: Image, own: Array, others: Sequence[Array]) -> Image:
    """A mask (256,256) uint8 without other people's heads, except where the own head is in front of them.

    Rims (36,2) are px of 256; only those that `reaches` says so matter. A crop shows the neighbours too, and would
    paint over them as they were.
    """
    kept = mask.astype(np.float32)
    mine = rim_mask(own, SIDE, HEAD, RAISED).astype(np.float32) / 255
    for other in others:
        theirs = rim_mask(other, SIDE, HEAD, RAISED).astype(np.float32) / 255
        kept *= 1 - theirs * (1 - mine)
    return np.rint(kept).astype(np.uint8)


def reaches(rim: Array) -> bool:
    """Whether a head, given by its rim (36,2) px of 256, may reach into the crop."""
    low, high = rim[:, :2].min(axis=0), rim[:, :2].max(axis=0)
    room = high - low
    return bool((high + room > 0).all() and (low - room < SIDE).all())
