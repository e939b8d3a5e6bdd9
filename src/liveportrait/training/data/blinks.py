"""Synthetic blinks: the map that closes an eye of a picture, and the motion of its lids.

Points are two planes, x and y in [-1, 1], of any shapes that broadcast.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.motion.lifting import LEFT_EYE_MESH, MESH_ROWS, RIGHT_EYE_MESH
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import LEFT_LIDS, RIGHT_LIDS

CLOSED = 0.97  # a closed lid stops short of the other
# In lengths of the eye:
BROW = 0.45  # from the upper lid to the skin that stays
EYE_REACH = 0.95  # from the eye's middle to what a blink does not change
FADE = 0.15  # beyond the corners, over which a blink fades
SMALLEST_OPENING = 0.1  # of an eye that blinks
THINNEST = 0.01  # what is left of a closed eye
SMALLEST_EYE = 8  # length of an eye that blinks, px
FIELD = 96  # side of the grid on which a blink is worked out

Planes = tuple[Tensor, Tensor]


def _eye_rows(mesh: tuple[int, ...]) -> tuple[list[int], list[int]]:
    rows = [MESH_ROWS.index(row) for row in mesh]
    return rows[:9], [rows[0], *rows[:7:-1]]


# Of the subject's right and left eye: landmarks of the upper and the lower lid, from left to right in the picture.
EYE_ROWS = (_eye_rows(RIGHT_EYE_MESH), _eye_rows(LEFT_EYE_MESH))
EYE_LIDS = (RIGHT_LIDS, LEFT_LIDS)  # the keypoints: upper and lower


class Eye(NamedTuple):
    """One eye of every picture and how far it is to be closed: upper lids come down, the skin above is stretched.

    Across the eye points are mapped piecewise linearly: brow to new lid shows brow to old lid, new lid to lower lid
    shows the squeezed eye. u runs along the eye from corner to corner in [0, 1], v across it, in lengths of the eye.
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
        closes = inside & (length * side / 2 >= SMALLEST_EYE) & (v[:, 13] - v[:, 4] >= SMALLEST_OPENING)
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
        """The motion with the upper lid brought down to the lower one: two keypoints."""
        upper, lower = transform_keypoints(motion)[:, lids].unbind(1)
        expression = motion.expression.clone()
        expression[:, lids[0]] += (lower - upper) * (self.amounts * CLOSED)[:, None] / motion.scale
        return motion._replace(expression=expression)

    def back(self, points: Planes) -> Planes:
        """The places that points (B,S,S) come from."""
        u, v = self.local(points)
        where = torch.stack([(u - 0.5) / (0.5 + FADE), v / EYE_REACH], 1).movedim(1, -1)
        moved = F.grid_sample(self.field(), where, padding_mode="zeros", align_corners=True)[:, 0]
        return points[0] - moved * per_row(self.along[:, 1]), points[1] + moved * per_row(self.along[:, 0])

    def field(self) -> Tensor:
        """Distance along v (B,1,FIELD,FIELD) from each place to the place that it shows.

        Rows are v in ±EYE_REACH, columns u from FADE before to FADE beyond the corners; at the margin it is zero.
        """
        spread = torch.linspace(-1, 1, FIELD, device=self.first.device)
        u, v = 0.5 + (0.5 + FADE) * spread, EYE_REACH * spread[:, None]
        up = _interpolated(u, *self.upper)[:, None]
        down = torch.maximum(_interpolated(u, *self.lower)[:, None], up)
        lid = up + per_row(self.amounts) * CLOSED * (down - up)
        brow = up - BROW
        skin = brow + (v - brow) * (up - brow) / (lid - brow)
        eyeball = up + (v - lid) * (down - up) / (down - lid).clamp_min(THINNEST)
        shown = torch.where(v < brow, v, torch.where(v < lid, skin, torch.where(v < down, eyeball, v)))
        fade = (torch.minimum(u + FADE, 1 + FADE - u) / FADE).clamp(0, 1)
        return ((shown - v) * fade * per_row(self.amounts > 0))[:, None]


def _interpolated(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear (B,N) through knots (B,K), ascending, at places (N,); constant beyond."""
    steps, rises = knots.diff(dim=1).clamp_min(1e-6), values.diff(dim=1)
    done = ((at[:, None] - knots[:, None, :-1]) / steps[:, None]).clamp(0, 1)
    return values[:, :1] + (done * rises[:, None]).sum(-1)


def per_row(values: Tensor) -> Tensor:
    """Values (B,) for planes of points."""
    return values[:, None, None]
