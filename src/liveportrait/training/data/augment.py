"""Augmentation of frames together with their motion, one at a time with NumPy and OpenCV.

An image enters the training as a one-frame clip (paper section 3.2). What makes a pair of it: the head is moved
rigidly before a still background (`move_head`), and the eyes are closed by a warp (`close_eyes`). A `Change` says what
is done to a frame; `device_augment` does the same to whole batches on an accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.motion.lifting import LEFT_EYE_MESH, MESH_ROWS, RIGHT_EYE_MESH, Array
from liveportrait.networks.keypoints import LEFT_LIDS, MIRROR, RIGHT_LIDS

Picture = NDArray[np.uint8]
MIRROR_X: Array = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)


@dataclass(frozen=True)
class FrameMotion:
    """Motion of one frame: rotation (3,3), translation (3,), scale (1,), canonical and expression (21,3)."""

    rotation: Array
    translation: Array
    scale: Array
    canonical: Array
    expression: Array

    def keypoints(self) -> Array:
        """x (21,3) = s·(x_c R + δ) + t."""
        turned = self.canonical @ self.rotation + self.expression
        return (self.scale * turned + self.translation).astype(np.float32)

    def with_keypoints(self, keypoints: Array) -> FrameMotion:
        """The same pose and identity with another expression, such that x = keypoints."""
        expression = (keypoints - self.translation) / self.scale - self.canonical @ self.rotation
        return replace(self, expression=expression.astype(np.float32))

    def mirrored(self) -> FrameMotion:
        """Of the left-right mirrored picture."""
        rows = list(MIRROR)
        return FrameMotion(
            (MIRROR_X @ self.rotation @ MIRROR_X).astype(np.float32),
            self.translation @ MIRROR_X,
            self.scale,
            self.canonical[rows] @ MIRROR_X,
            self.expression[rows] @ MIRROR_X,
        )


@dataclass(frozen=True)
class Similarity:
    """p' = zoom · p · roll + shift on coordinates in [-1, 1]."""

    angle: float  # radians, positive turns x towards y
    zoom: float
    shift: Array  # (2,)

    @property
    def roll(self) -> Array:
        """The turn as a row-vector rotation (3,3)."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)

    def move(self, motion: FrameMotion) -> FrameMotion:
        """The motion of the moved picture."""
        shift = np.append(self.shift, 0).astype(np.float32)
        return FrameMotion(
            motion.rotation @ self.roll,
            self.zoom * (motion.translation @ self.roll) + shift,
            motion.scale * np.float32(self.zoom),
            motion.canonical,
            motion.expression @ self.roll,
        )

    def warp(self, picture: Picture) -> Picture:
        """The moved picture; what comes in from outside is reflected."""
        side = picture.shape[0]
        linear = self.zoom * self.roll[:2, :2].T
        centre = np.full(2, side / 2 - 0.5)
        offset = centre + self.shift * side / 2 - linear @ centre
        matrix = np.concatenate([linear, offset[:, None]], 1)
        flags, border = cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
        return cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderMode=border)  # type: ignore[return-value]


def random_similarity(rng: np.random.Generator, degrees: float, zoom: float, shift: float) -> Similarity:
    """A similarity up to the given turn, relative zoom and shift; small turns are more common."""
    angle = np.radians(rng.uniform(-degrees, degrees) * rng.random())
    return Similarity(
        angle, float(np.exp(rng.uniform(-zoom, zoom))), rng.uniform(-shift, shift, 2).astype(np.float32)
    )


@dataclass(frozen=True)
class ColourChange:
    """Contrast, brightness, channel gains, gamma and saturation."""

    contrast: float
    brightness: float
    gains: Array  # (3,)
    gamma: float
    saturation: float

    def apply(self, picture: Picture) -> Picture:
        """The picture in other light; the same change for every frame of a pair."""
        level = np.linspace(0, 1, 256, dtype=np.float32) ** self.gamma
        table = ((level - 0.5) * self.contrast + 0.5 + self.brightness)[:, None] * self.gains
        table = (np.clip(table, 0, 1) * 255).astype(np.uint8)
        picture = cv2.LUT(np.ascontiguousarray(picture), table[None])  # type: ignore[assignment]
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        blended = cv2.addWeighted(picture, self.saturation, cv2.merge([grey] * 3), 1 - self.saturation, 0)
        return blended  # type: ignore[return-value]


def random_colour(rng: np.random.Generator) -> ColourChange:
    """A change that keeps a face plausible."""
    return ColourChange(
        rng.uniform(0.75, 1.25), rng.uniform(-0.1, 0.1), rng.uniform(0.9, 1.1, 3).astype(np.float32),
        rng.uniform(0.8, 1.25), rng.uniform(0.6, 1.4),
    )  # fmt: skip


@dataclass(frozen=True)
class Change:
    """What is done to one frame and its motion, in this order; the defaults leave it as it is."""

    blink: float = 0.0  # share of the eyes' opening that the lids come down
    head: Similarity | None = None  # moves the head before a background that stays
    flip: bool = False
    move: Similarity | None = None
    colour: ColourChange | None = None
    blur: float = 0.0  # standard deviation, px
    detail: int = 0  # side of the smaller picture that the frame is enlarged from, px


def apply_change(
    picture: Picture, landmarks: Array, motion: FrameMotion, change: Change
) -> tuple[Picture, FrameMotion]:
    """The changed frame (S,S,3) and its motion; `landmarks` (111,2) px say where the eyes are."""
    if change.blink > 0:
        picture, motion = close_eyes(picture, landmarks, motion, change.blink)
    if change.head is not None:
        picture, motion = move_head(picture, motion, change.head)
    if change.flip:
        picture, motion = np.ascontiguousarray(picture[:, ::-1]), motion.mirrored()
    if change.move is not None:
        picture, motion = change.move.warp(picture), change.move.move(motion)
    if change.colour is not None:
        picture = change.colour.apply(picture)
    return degrade(picture, change.blur, change.detail), motion


def degrade(picture: Picture, blur: float, detail: int) -> Picture:
    """A soft copy, or one enlarged from `detail` px: webcams and far faces look like that. 0 leaves it as it is."""
    if blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)  # type: ignore[assignment]
    if detail > 0:
        full = picture.shape[0]
        small = cv2.resize(picture, (detail, detail), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (full, full), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return picture


def random_degradation(rng: np.random.Generator) -> tuple[float, int]:
    """Blur and detail for `degrade`: mostly none, now and then one of them."""
    chance = rng.random()
    if chance < 0.15:
        return float(rng.uniform(0.5, 2)), 0
    return 0.0, int(rng.uniform(64, 180)) if chance < 0.3 else 0


def _eye_rows(mesh: tuple[int, ...]) -> tuple[list[int], list[int]]:
    rows = [MESH_ROWS.index(row) for row in mesh]
    return rows[:9], [rows[0], *rows[:7:-1]]


# Of the subject's right and left eye: landmarks of the upper and the lower lid, from left to right in the picture.
EYE_ROWS = (_eye_rows(RIGHT_EYE_MESH), _eye_rows(LEFT_EYE_MESH))
EYE_LIDS = (RIGHT_LIDS, LEFT_LIDS)  # the keypoints: upper and lower
CLOSED = 0.97  # a closed lid stops short of the other


def close_eyes(
    picture: Picture, landmarks: Array, motion: FrameMotion, amount: float
) -> tuple[Picture, FrameMotion]:
    """A blink: upper lids come down by `amount` in [0, 1] of the opening, the skin above is stretched.

    Within each eye's box, columns are remapped piecewise linearly: brow to new lid shows brow to old lid, new lid
    to lower lid shows the squeezed eye. Lid keypoints move with it.
    """
    side = picture.shape[0]
    where = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).astype(np.float32)
    keypoints = motion.keypoints()
    for (upper, lower), (upper_lid, lower_lid) in zip(EYE_ROWS, EYE_LIDS, strict=True):
        box, mapped = _blink_map(landmarks[upper], landmarks[lower], amount, side)
        if box is None:
            continue
        where[box] = mapped
        drop = (keypoints[lower_lid] - keypoints[upper_lid]) * amount * CLOSED
        keypoints[upper_lid] += drop
    closed = cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[call-overload]
    return closed, motion.with_keypoints(keypoints)


def _blink_map(
    upper: Array, lower: Array, amount: float, side: int
) -> tuple[tuple[slice, slice] | None, Array]:
    """The pixels around one eye (as slices) and where each of them looks, (h,w,2) px, from its lids (9,2) px."""
    first, last = upper[0], upper[-1]
    along = last - first
    length = float(np.hypot(*along))
    opening = float((lower[4] - upper[4]) @ np.array([-along[1], along[0]])) / max(length, 1e-6)
    centre = (first + last) / 2
    reach = 0.95 * length
    x0, y0 = np.floor(centre - reach).astype(int)
    x1, y1 = np.ceil(centre + reach).astype(int)
    if length < 8 or opening < 0.1 * length or min(x0, y0) < 0 or max(x1, y1) >= side:
        return None, np.empty(0, np.float32)
    x_axis = along / length
    y_axis = np.array([-x_axis[1], x_axis[0]])

    def local(points: Array) -> tuple[Array, Array]:
        return (points - first) @ x_axis / length, (points - first) @ y_axis

    px, py = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    u, v = local(np.stack([px, py], -1))
    (upper_u, upper_v), (lower_u, lower_v) = local(upper), local(lower)
    up = np.interp(u, upper_u, upper_v)
    down = np.maximum(np.interp(u, lower_u, lower_v), up)
    lid = up + amount * CLOSED * (down - up)
    brow = up - 0.45 * length
    skin = brow + (v - brow) * (up - brow) / np.maximum(lid - brow, 1e-3)
    eyeball = up + (v - lid) * (down - up) / np.maximum(down - lid, 0.35)
    moved = np.where(v < brow, v, np.where(v < lid, skin, np.where(v < down, eyeball, v)))
    inside = np.clip(np.minimum(u + 0.15, 1.15 - u) / 0.15, 0, 1)  # fade out beyond the corners
    delta = (moved - v) * inside
    mapped = np.stack([px, py], -1) + delta[..., None] * y_axis
    return (slice(y0, y1), slice(x0, x1)), mapped.astype(np.float32)


def move_head(picture: Picture, motion: FrameMotion, move: Similarity) -> tuple[Picture, FrameMotion]:
    """The head moved by a similarity about its own centre, before a background that stays where it is."""
    side = picture.shape[0]
    centre = motion.keypoints()[:, :2].mean(0)
    about = Similarity(move.angle, move.zoom, centre + move.shift - move.zoom * (centre @ move.roll[:2, :2]))
    moved = about.move(motion)
    cells = 33
    axis = (np.arange(cells) + 0.5) / cells * 2 - 1
    grid = np.stack(np.meshgrid(axis, axis), -1)
    inverse = (grid - about.shift) @ about.roll[:2, :2].T / about.zoom
    radius = 2.6 * float(moved.scale[0])  # the head with its hair; the rigid points have radius 1 x scale
    distance = np.linalg.norm(grid - (centre + move.shift), axis=-1)
    keep = 1 / (1 + np.exp((distance - radius) / (0.12 * radius)))
    where = (grid + (inverse - grid) * keep[..., None] + 1) / 2 * side - 0.5
    where = cv2.resize(where.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), moved  # type: ignore[call-overload]
