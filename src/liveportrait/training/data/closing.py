"""Eyes and mouths closed by warps: the map that closes them in a picture, and the motion of lids and lips.

Points around eyes are two planes, x and y in [-1, 1], of any shapes that broadcast. Closing mouths turns every picture
with parted lips into a source whose ground truth is known: the inner lips are brought together, the skin above and
below is stretched after them, and nothing of what lay between remains in the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.motion.lifting import (
    INNER_LIPS_MESH,
    LEFT_EYE_MESH,
    MESH_ROWS,
    OUTER_LIPS_MESH,
    RIGHT_EYE_MESH,
)
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import HALF_SIDE, Motion
from liveportrait.networks.keypoints import (
    LEFT_LIDS,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    RIGHT_LIDS,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from liveportrait.types import Array, Image

LID_TRAVEL = 0.97  # share of the opening: a closing lid stops short of the other
# In eye lengths:
BROW = 0.45  # from the upper lid to the skin that stays
EYE_REACH = 0.95  # radius around the eye's centre beyond which a blink changes nothing
FADE = 0.15  # distance beyond the corners over which a blink fades
MIN_EYE_OPENING = 0.1  # a narrower eye does not blink
MIN_EYE_GAP = 0.01  # what remains open of a closed eye
MIN_EYE_LENGTH = 8  # px: a shorter eye does not blink
FIELD_SIDE = 96  # of the grid on which a blink is computed

# Landmarks of the inner lips from the picture's left to right, and the outer corners.
UPPER = [MESH_ROWS.index(row) for row in INNER_LIPS_MESH[:11]]
LOWER = [MESH_ROWS.index(row) for row in (INNER_LIPS_MESH[0], *INNER_LIPS_MESH[:9:-1])]
CORNERS = [MESH_ROWS.index(OUTER_LIPS_MESH[0]), MESH_ROWS.index(OUTER_LIPS_MESH[10])]
# In mouth lengths:
MIN_LIP_PARTING = 0.07  # a mouth less open is not worth closing
ABOVE, BELOW = 0.42, 0.75  # from the lips to the skin that stays
MOUTH_FADE = 0.25  # distance beyond the corners over which the warp fades
MAX_HIDDEN_RIM = 1.2  # px of the lips' rims that disappear with the inside

Planes = tuple[Tensor, Tensor]
Doubles = NDArray[np.float64]


def _eye_rows(mesh: tuple[int, ...]) -> tuple[list[int], list[int]]:
    rows = [MESH_ROWS.index(row) for row in mesh]
    return rows[:9], [rows[0], *rows[:7:-1]]


# For the subject's right and left eye: landmarks of the upper and the lower lid, from left to right in the picture.
EYE_ROWS = (_eye_rows(RIGHT_EYE_MESH), _eye_rows(LEFT_EYE_MESH))
EYE_LIDS = (RIGHT_LIDS, LEFT_LIDS)  # the keypoints: upper and lower


class Eye(NamedTuple):
    """One eye of every picture and how far to close it: the upper lid comes down and the skin above is stretched.

    Across the eye points are mapped piecewise linearly: brow to new lid shows brow to old lid, new lid to lower lid
    shows the squeezed eye. u runs along the eye from corner to corner in [0, 1], v across it, both in eye lengths.
    """

    first: Tensor  # (B,2) the left corner
    along: Tensor  # (B,2) from it to the right corner
    upper: tuple[Tensor, Tensor]  # u and v (B,9) of the upper lid
    lower: tuple[Tensor, Tensor]
    amounts: Tensor  # (B,) in [0, 1] of the opening; 0 for an eye too small or too near the border

    @classmethod
    def of(cls, landmarks: Tensor, rows: tuple[list[int], list[int]], amounts: Tensor, side: int) -> Eye:
        """The eye with its lids at `rows` of landmarks (B,111,2) px of `side`."""
        points = landmarks[:, [*rows[0], *rows[1]]].add(0.5).mul(2 / side).sub(1)
        first, last = points[:, 0], points[:, 8]
        length = (last - first).norm(dim=1)
        eye = cls(first, last - first, (first, first), (first, first), amounts)
        u, v = eye.local((points[..., 0], points[..., 1]))
        inside = ((first + last) / 2).abs().amax(1) + EYE_REACH * length < 1
        closes = inside & (length * side / 2 >= MIN_EYE_LENGTH) & (v[:, 13] - v[:, 4] >= MIN_EYE_OPENING)
        return eye._replace(upper=(u[:, :9], v[:, :9]), lower=(u[:, 9:], v[:, 9:]), amounts=amounts * closes)

    def local(self, points: Planes) -> Planes:
        """u and v of points, planes with rows (B,...)."""
        shape = (-1, *[1] * (points[0].dim() - 1))
        first, along = ((end[:, 0].view(shape), end[:, 1].view(shape)) for end in (self.first, self.along))
        square = (along[0].square() + along[1].square()).clamp_min(1e-12)
        x, y = points[0] - first[0], points[1] - first[1]
        along = along[0] / square, along[1] / square
        return x * along[0] + y * along[1], y * along[0] - x * along[1]

    def close(self, motion: Motion, lids: tuple[int, int]) -> Motion:
        """The motion with the upper lid's keypoint brought down towards the lower one's."""
        upper, lower = transform_keypoints(motion)[:, lids].unbind(1)
        expression = motion.expression.clone()
        expression[:, lids[0]] += (lower - upper) * (self.amounts * LID_TRAVEL)[:, None] / motion.scale
        return motion._replace(expression=expression)

    def back(self, points: Planes) -> Planes:
        """The source positions of points (B,S,S)."""
        u, v = self.local(points)
        where = torch.stack([(u - 0.5) / (0.5 + FADE), v / EYE_REACH], 1).movedim(1, -1)
        moved = F.grid_sample(self.field(), where, padding_mode="zeros", align_corners=True)[:, 0]
        return points[0] - moved * per_row(self.along[:, 1]), points[1] + moved * per_row(self.along[:, 0])

    def field(self) -> Tensor:
        """Displacement along v (B,1,FIELD_SIDE,FIELD_SIDE) from each point to the point that it shows.

        Rows are v in ±EYE_REACH, columns u from FADE before to FADE beyond the corners; it is zero at the margin.
        """
        spread = torch.linspace(-1, 1, FIELD_SIDE, device=self.first.device)
        u, v = 0.5 + (0.5 + FADE) * spread, EYE_REACH * spread[:, None]
        up = _interpolated(u, *self.upper)[:, None]
        down = torch.maximum(_interpolated(u, *self.lower)[:, None], up)
        lid = up + per_row(self.amounts) * LID_TRAVEL * (down - up)
        brow = up - BROW
        skin = brow + (v - brow) * (up - brow) / (lid - brow)
        eyeball = up + (v - lid) * (down - up) / (down - lid).clamp_min(MIN_EYE_GAP)
        shown = torch.where(v < brow, v, torch.where(v < lid, skin, torch.where(v < down, eyeball, v)))
        fade = (torch.minimum(u + FADE, 1 + FADE - u) / FADE).clamp(0, 1)
        return ((shown - v) * fade * per_row(self.amounts > 0))[:, None]


def _interpolated(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear interpolation (B,N) between ascending knots (B,K), at points (N,); constant beyond."""
    steps, rises = knots.diff(dim=1).clamp_min(1e-6), values.diff(dim=1)
    done = ((at[:, None] - knots[:, None, :-1]) / steps[:, None]).clamp(0, 1)
    return values[:, :1] + (done * rises[:, None]).sum(-1)


def per_row(values: Tensor) -> Tensor:
    """Values (B,), shaped to broadcast over planes of points."""
    return values[:, None, None]


class _Mouth(NamedTuple):
    """Coordinates of a mouth: u in [0, 1] between the corners, v across, both in mouth lengths."""

    first: Doubles  # (2,) px
    along: Doubles  # (2,) px
    upper: Doubles  # (11,2) u and v of the inner lips
    lower: Doubles
    meeting: float  # share of the opening at which the lips meet

    def local(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """u and v of points (...,2) px."""
        away, square = points - self.first, float(self.along @ self.along)
        across = np.array([-self.along[1], self.along[0]])
        return away @ self.along / square, away @ across / square

    def lips(self, u: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """v of the upper lip, of the lower one, and of the line where they are to meet."""
        up = np.interp(u, self.upper[:, 0], self.upper[:, 1])
        down = np.maximum(np.interp(u, self.lower[:, 0], self.lower[:, 1]), up)
        return up, down, up + self.meeting * (down - up)


def close_mouth(
    picture: Image, landmarks: Array, motion: Motion, meeting: float
) -> tuple[Image, Motion] | None:
    """A face with its lips brought together, and its motion; None if they are practically closed already.

    picture (256,256,3), landmarks (111,2) px, motion of batch 1. `meeting` is the share of the opening at which the
    lips meet, 0 at the upper lip.
    """
    first, last = landmarks[CORNERS].astype(np.float64)
    mouth = _Mouth(first, last - first, np.empty(0), np.empty(0), meeting)
    upper, lower = (_by_u(mouth, landmarks[rows].astype(np.float64)) for rows in (UPPER, LOWER))
    mouth = mouth._replace(upper=upper, lower=lower)
    if lower[5, 1] - upper[5, 1] < MIN_LIP_PARTING:
        return None
    return _warp_picture(picture, mouth), _warp_motion(motion, mouth)


def _by_u(mouth: _Mouth, points: Doubles) -> Doubles:
    """u and v (N,2) of points (N,2), u ascending."""
    u, v = mouth.local(points)
    return np.stack([u, v], 1)[np.argsort(u)]


def _warp_picture(picture: Image, mouth: _Mouth) -> Image:
    side = picture.shape[0]
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).astype(np.float64)
    u, v = mouth.local(places)
    up, down, meet = mouth.lips(u)
    top, bottom = up - ABOVE, down + BELOW
    rim = np.minimum((down - up) / 4, MAX_HIDDEN_RIM / np.hypot(*mouth.along))
    above = top + (v - top) * (up - rim - top) / (meet - top)
    below = bottom - (bottom - v) * (bottom - down - rim) / (bottom - meet)
    shown = np.where((v < top) | (v > bottom), v, np.where(v < meet, above, below))
    fade = np.clip(np.minimum(u + MOUTH_FADE, 1 + MOUTH_FADE - u) / MOUTH_FADE, 0, 1)
    across = np.array([-mouth.along[1], mouth.along[0]])
    # Clipped here: OpenCV's own reflection of points far outside can take forever.
    where = (places + ((shown - v) * fade)[..., None] * across).clip(0, side - 1).astype(np.float32)
    return np.asarray(cv2.remap(picture, where[..., 0], where[..., 1], cv2.INTER_LINEAR))


def _warp_motion(motion: Motion, mouth: _Mouth) -> Motion:
    """The motion with its lip keypoints moved as the warp moves them."""
    points = transform_keypoints(motion)[0, :, :2].double().numpy()
    across = np.array([-mouth.along[1], mouth.along[0]])
    expression = motion.expression.clone()
    for lip in (UPPER_INNER_LIP, LOWER_INNER_LIP, LOWER_OUTER_LIP, UPPER_OUTER_LIP):
        u, v = mouth.local((points[lip] + 1) * HALF_SIDE)
        up, down, meet = mouth.lips(u)
        if lip in (UPPER_INNER_LIP, UPPER_OUTER_LIP):
            goes = (v - up + ABOVE) * (meet - up + ABOVE) / ABOVE + up - ABOVE - v
        else:
            goes = down + BELOW - (down + BELOW - v) * (down + BELOW - meet) / BELOW - v
        step = float(goes) * across / HALF_SIDE
        expression[0, lip, :2] += torch.from_numpy(step).float() / motion.scale[0]
    return motion._replace(expression=expression)
