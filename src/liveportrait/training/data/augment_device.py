"""`augment.apply_change` for batches of tensors, on any device: the same changes, within interpolation tolerance.

Numbers that describe a change are drawn on the CPU; here they meet pixels. A change that few frames of a batch need is
applied to those alone. Intermediate pictures are not rounded, and OpenCV's fixed-point weights become floats, so a
pixel differs from the NumPy path's by a grey level or two where the picture is smooth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import MIRROR
from liveportrait.training.data.augment import (
    CLOSED,
    EYE_LIDS,
    EYE_ROWS,
    Change,
    ColourChange,
    Similarity,
)
from liveportrait.training.losses.rendering import LUMA

LARGEST_BLUR = 6  # px from the middle of the kernel: three standard deviations of the strongest blur


def apply_changes(
    pictures: Tensor, landmarks: Tensor, motion: Motion, changes: Sequence[Change]
) -> tuple[Tensor, Motion]:
    """Changed pictures (B,3,S,S) in [0, 255] and their motion; landmarks (B,111,2) px say where the eyes are."""
    if rows := [row for row, change in enumerate(changes) if change.blink > 0]:
        amounts = pictures.new_tensor([changes[row].blink for row in rows])
        closed = close_eyes(pictures[rows], landmarks[rows], _take(motion, rows), amounts)
        pictures, motion = _put(pictures, motion, rows, *closed)
    if heads := {row: change.head for row, change in enumerate(changes) if change.head is not None}:
        rows = list(heads)
        moved = move_heads(pictures[rows], _take(motion, rows), Moves(list(heads.values()), pictures.device))
        pictures, motion = _put(pictures, motion, rows, *moved)
    if rows := [row for row, change in enumerate(changes) if change.flip]:
        pictures, motion = _put(
            pictures, motion, rows, pictures[rows].flip(-1), mirrored(_take(motion, rows))
        )
    if turns := {row: change.move for row, change in enumerate(changes) if change.move is not None}:
        rows = list(turns)
        moves = Moves(list(turns.values()), pictures.device)
        moved = moves.warp(pictures[rows]), moves.move(_take(motion, rows))
        pictures, motion = _put(pictures, motion, rows, *moved)
    if colours := {row: change.colour for row, change in enumerate(changes) if change.colour is not None}:
        rows = list(colours)
        pictures = _put_rows(pictures, rows, recolour(pictures[rows], list(colours.values())))
    return degrade(pictures, changes), motion


class Moves:
    """Similarities p' = zoom · p · roll + shift of a batch, coordinates in [-1, 1]."""

    def __init__(self, moves: Sequence[Similarity], device: torch.device) -> None:
        self.zoom = torch.tensor([move.zoom for move in moves], dtype=torch.float32).to(device)  # (B,)
        self.shift = torch.stack([torch.as_tensor(move.shift).float() for move in moves]).to(device)  # (B,2)
        self.roll = torch.stack([torch.from_numpy(move.roll) for move in moves]).to(device)  # (B,3,3)

    def move(self, motion: Motion) -> Motion:
        """The motion of the moved pictures."""
        shift = F.pad(self.shift, (0, 1))
        return Motion(
            motion.rotation @ self.roll,
            self.zoom[:, None] * (motion.translation[:, None] @ self.roll)[:, 0] + shift,
            motion.scale * self.zoom[:, None],
            motion.canonical,
            motion.expression @ self.roll,
        )

    def back(self, points: Tensor) -> Tensor:
        """Where points (B,h,w,2) of the moved pictures come from."""
        away = points - self.shift[:, None, None]
        return away @ self.roll[:, None, :2, :2].transpose(-1, -2) / self.zoom[:, None, None, None]

    def warp(self, pictures: Tensor) -> Tensor:
        """The moved pictures (B,3,S,S); what comes in from outside is reflected."""
        side = pictures.shape[-1]
        return sample_reflected(
            pictures, self.back(pixel_places(side, pictures.device).expand(len(pictures), -1, -1, -1))
        )


def pixel_places(side: int, device: torch.device) -> Tensor:
    """Coordinates (1,side,side,2) of the middles of pixels, the picture being [-1, 1]."""
    axis = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]


def sample_reflected(pictures: Tensor, where: Tensor) -> Tensor:
    """Pictures (B,3,S,S) looked at `where` (B,h,w,2) in [-1, 1]; outside, mirrored about the border's pixels."""
    side = pictures.shape[-1]
    where = where * (side / (side - 1))  # from the picture's edges at ±1 to its outer pixels' middles at ±1
    return F.grid_sample(pictures, where, mode="bilinear", padding_mode="reflection", align_corners=True)


def mirrored(motion: Motion) -> Motion:
    """Of the left-right mirrored pictures."""
    mirror = torch.diag(motion.rotation.new_tensor([-1.0, 1.0, 1.0]))
    rows = list(MIRROR)
    return Motion(
        mirror @ motion.rotation @ mirror,
        motion.translation @ mirror,
        motion.scale,
        motion.canonical[:, rows] @ mirror,
        motion.expression[:, rows] @ mirror,
    )


def close_eyes(pictures: Tensor, landmarks: Tensor, motion: Motion, amounts: Tensor) -> tuple[Tensor, Motion]:
    """Blinks by `amounts` (B,) of the opening; see `augment.close_eyes`."""
    side = pictures.shape[-1]
    axis = torch.arange(side, device=pictures.device, dtype=torch.float32)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None].expand(
        len(pictures), -1, -1, -1
    )
    where, keypoints = pixels, transform_keypoints(motion)
    for (upper, lower), (upper_lid, lower_lid) in zip(EYE_ROWS, EYE_LIDS, strict=True):
        inside, valid, looked = _blink_map(landmarks[:, upper], landmarks[:, lower], amounts, pixels)
        where = torch.where(inside[..., None], looked, where)
        drop = (keypoints[:, lower_lid] - keypoints[:, upper_lid]) * (amounts * CLOSED * valid)[:, None]
        keypoints = keypoints.index_add(1, torch.tensor([upper_lid], device=keypoints.device), drop[:, None])
    expression = (keypoints - motion.translation[:, None]) / motion.scale[:, :, None]
    expression = expression - motion.canonical @ motion.rotation
    closed = sample_reflected(pictures, (where + 0.5) / side * 2 - 1)
    return closed, motion._replace(expression=expression)


def _blink_map(
    upper: Tensor, lower: Tensor, amounts: Tensor, pixels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """From lids (B,9,2) px: pixels around the eye (B,S,S), eyes that can blink (B,), where all look (B,S,S,2) px."""
    side = pixels.shape[1]
    first, along = upper[:, 0], upper[:, -1] - upper[:, 0]
    length = along.norm(dim=1).clamp_min(1e-6)
    x_axis = along / length[:, None]
    y_axis = torch.stack([-x_axis[:, 1], x_axis[:, 0]], 1)
    opening = ((lower[:, 4] - upper[:, 4]) * y_axis).sum(1)
    centre, reach = (first + upper[:, -1]) / 2, 0.95 * length[:, None]
    low, high = (centre - reach).floor(), (centre + reach).ceil()
    valid = (length >= 8) & (opening >= 0.1 * length) & (low.amin(1) >= 0) & (high.amax(1) < side)
    inside = (pixels >= low[:, None, None]).all(-1) & (pixels < high[:, None, None]).all(-1)

    def local(points: Tensor) -> tuple[Tensor, Tensor]:
        away = points - first[:, None]
        return (away * x_axis[:, None]).sum(-1) / length[:, None], (away * y_axis[:, None]).sum(-1)

    u, v = local(pixels.flatten(1, 2))
    up = _interpolate(u, *local(upper))
    down = torch.maximum(_interpolate(u, *local(lower)), up)
    lid = up + amounts[:, None] * CLOSED * (down - up)
    brow = up - 0.45 * length[:, None]
    skin = brow + (v - brow) * (up - brow) / (lid - brow).clamp_min(1e-3)
    eyeball = up + (v - lid) * (down - up) / (down - lid).clamp_min(0.35)
    moved = torch.where(v < brow, v, torch.where(v < lid, skin, torch.where(v < down, eyeball, v)))
    fade = (torch.minimum(u + 0.15, 1.15 - u) / 0.15).clamp(0, 1)  # beyond the corners
    delta = ((moved - v) * fade).unflatten(1, (side, side))
    looked = pixels + delta[..., None] * y_axis[:, None, None]
    return inside & valid[:, None, None], valid.float(), looked


def _interpolate(at: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through knots (B,K), ascending, at (B,P); constant beyond them."""
    right = torch.searchsorted(knots.contiguous(), at.contiguous()).clamp(1, knots.shape[1] - 1)
    x0, x1 = knots.gather(1, right - 1), knots.gather(1, right)
    y0, y1 = values.gather(1, right - 1), values.gather(1, right)
    return y0 + (y1 - y0) * ((at - x0) / (x1 - x0).clamp_min(1e-6)).clamp(0, 1)


def move_heads(pictures: Tensor, motion: Motion, moves: Moves) -> tuple[Tensor, Motion]:
    """Heads moved about their own centres before backgrounds that stay; see `augment.move_head`."""
    side, cells = pictures.shape[-1], 33
    centre = transform_keypoints(motion)[..., :2].mean(1)
    target = centre + moves.shift
    turned = (centre[:, None] @ moves.roll[:, :2, :2])[:, 0]
    moves.shift = target - moves.zoom[:, None] * turned
    moved = moves.move(motion)
    grid = pixel_places(cells, pictures.device).expand(len(pictures), -1, -1, -1)
    radius = 2.6 * moved.scale[:, :, None]
    distance = (grid - target[:, None, None]).norm(dim=-1)
    keep = torch.sigmoid((radius - distance) / (0.12 * radius))
    where = grid + (moves.back(grid) - grid) * keep[..., None]
    where = F.interpolate(where.movedim(-1, 1), size=(side, side), mode="bicubic", align_corners=False)
    return sample_reflected(pictures, where.movedim(1, -1)), moved


def recolour(pictures: Tensor, colours: Sequence[ColourChange]) -> Tensor:
    """Pictures (B,3,S,S) in [0, 255] in other light; see `augment.ColourChange`."""
    numbers = [[c.gamma, c.contrast, c.brightness, c.saturation, *c.gains.tolist()] for c in colours]
    table = pictures.new_tensor(numbers)[:, :, None, None, None]
    gamma, contrast, brightness, saturation = (table[:, column] for column in range(4))
    level = (pictures / 255).clamp(0, 1) ** gamma
    level = ((level - 0.5) * contrast + 0.5 + brightness) * table[:, 4:, :, :, 0]
    level = level.clamp(0, 1) * 255
    grey = (level * level.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    return (saturation * level + (1 - saturation) * grey).clamp(0, 255)


def degrade(pictures: Tensor, changes: Sequence[Change]) -> Tensor:
    """The frames of a batch whose changes ask for blur or less detail, so changed; see `augment.degrade`."""
    if rows := [row for row, change in enumerate(changes) if change.blur > 0]:
        widths = pictures.new_tensor([changes[row].blur for row in rows])
        pictures = _put_rows(pictures, rows, blurred(pictures[rows], widths))
    for row, change in enumerate(changes):
        if change.detail > 0:  # each to its own size
            small = F.interpolate(pictures[row : row + 1], size=(change.detail,) * 2, mode="area")
            large = F.interpolate(small, size=pictures.shape[-2:], mode="bilinear", align_corners=False)
            pictures = _put_rows(pictures, [row], large)
    return pictures


def blurred(pictures: Tensor, widths: Tensor) -> Tensor:
    """Gaussian blur of pictures (B,3,S,S), each with its own standard deviation (B,) px, up to 2."""
    count, channels, height, width = pictures.shape
    offsets = torch.arange(-LARGEST_BLUR, LARGEST_BLUR + 1, device=pictures.device)
    kernel = (-(offsets**2) / (2 * widths[:, None] ** 2)).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # (B·3,1,K)
    flat = pictures.reshape(1, count * channels, height, width)
    for axis in (2, 3):
        edge = (LARGEST_BLUR, LARGEST_BLUR) if axis == 3 else (0, 0, LARGEST_BLUR, LARGEST_BLUR)
        padded = F.pad(flat, edge if axis == 2 else (*edge, 0, 0), mode="reflect")
        flat = F.conv2d(padded, kernel.unsqueeze(5 - axis), groups=count * channels)
    return flat.view_as(pictures)


def _take(motion: Motion, rows: list[int]) -> Motion:
    return Motion(*(value[rows] for value in motion))


def _put_rows(whole: Tensor, rows: list[int], part: Tensor) -> Tensor:
    return whole.index_copy(0, torch.tensor(rows, device=whole.device), part.to(whole.dtype))


def _put(
    pictures: Tensor, motion: Motion, rows: list[int], some: Tensor, moved: Motion
) -> tuple[Tensor, Motion]:
    values = (_put_rows(whole, rows, part) for whole, part in zip(motion, moved, strict=True))
    return _put_rows(pictures, rows, some), Motion(*values)
