"""Augmentation of frames together with their motion, in batches of tensors on any device.

An image enters training as a one-frame clip (paper section 3.2). To make a pair of it, the head is moved rigidly in
front of a still background, and the eyes are closed by a warp. The parameters of a change are drawn with NumPy on the
CPU (`Change`, `random_similarity`, ...); `augment_batch` applies changes: frame by frame where a loader draws on the
CPU, in entire batches on an accelerator.

All geometry of a change is one map from the result's pixels to the picture's, so the picture is interpolated once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import MIRROR
from liveportrait.training.data.closing import EYE_LIDS, EYE_ROWS, Eye, Planes, per_row
from liveportrait.training.losses.rendering import LUMA

HEAD_RADIUS = 2.6  # of the head with its hair, where the rigid points have radius 1


@dataclass(frozen=True)
class Similarity:
    """p' = zoom · p · roll + shift on coordinates in [-1, 1]."""

    angle: float = 0.0  # radians, positive turns x towards y
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class ColourChange:
    """Contrast, brightness, channel gains, gamma and saturation; the defaults leave colours as they are."""

    contrast: float = 1.0
    brightness: float = 0.0
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0


@dataclass(frozen=True)
class Change:
    """A change of one frame and its motion; the defaults leave both as they are.

    Geometric changes apply in the order of the fields.
    """

    blink: float = 0.0  # share of the eyes' opening by which the upper lids come down
    head: Similarity | None = None  # moves the head about its own centre, in front of a still background
    move: Similarity | None = None
    flip: bool = False
    colour: ColourChange | None = None
    blur: float = 0.0  # standard deviation, px
    detail: int = 0  # side of the smaller picture that the frame is enlarged from, px

    @property
    def warps(self) -> bool:
        """Whether the picture is interpolated."""
        return self.blink > 0 or self.head is not None or self.move is not None


def random_similarity(rng: np.random.Generator, degrees: float, zoom: float, shift: float) -> Similarity:
    """A similarity within the given turn, log zoom and shift; small turns are more common."""
    angle = float(np.radians(rng.uniform(-degrees, degrees) * rng.random()))
    size = float(np.exp(rng.uniform(-zoom, zoom)))
    return Similarity(angle, size, (float(rng.uniform(-shift, shift)), float(rng.uniform(-shift, shift))))


def random_colour(rng: np.random.Generator) -> ColourChange:
    """A change of colour that keeps a face plausible."""
    contrast, brightness = float(rng.uniform(0.75, 1.25)), float(rng.uniform(-0.1, 0.1))
    red, green, blue = (float(gain) for gain in rng.uniform(0.9, 1.1, 3))
    gamma, saturation = float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.6, 1.4))
    return ColourChange(contrast, brightness, (red, green, blue), gamma, saturation)


def random_degradation(rng: np.random.Generator) -> tuple[float, int]:
    """Blur and detail of a change: usually neither, sometimes one of them."""
    chance = rng.random()
    if chance < 0.15:
        return float(rng.uniform(0.5, 2)), 0
    return 0.0, int(rng.uniform(64, 180)) if chance < 0.3 else 0


@torch.no_grad()
def augment_batch(
    pictures: Tensor, landmarks: Tensor, motion: Motion, changes: Sequence[Change], size: int
) -> tuple[Tensor, Motion]:
    """Changed pictures (B,size,size,3) uint8 and their motion, from pictures (B,S,S,3) uint8.

    landmarks: (B,111,2) px of S, needed for the eyes. A CPU is faster with one frame at a time, which fits its cache.
    """
    changed = recoloured(pictures, [change.colour for change in changes])
    if any(change.warps for change in changes):
        changed, motion = warped(changed, landmarks, motion, changes)
    changed = degraded(changed, changes)
    if size != changed.shape[-1]:
        changed = F.interpolate(changed, size=(size, size), mode="area")
    changed = changed.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    if any(change.flip for change in changes):
        flips = torch.tensor([change.flip for change in changes], device=changed.device)
        changed = _where(flips, changed.flip(2), changed)
        motion = Motion(*(_where(flips, *both) for both in zip(mirrored(motion), motion, strict=True)))
    return changed, motion


def recoloured(pictures: Tensor, colours: Sequence[ColourChange | None]) -> Tensor:
    """Pictures (B,3,S,S) in [0, 255] with changed colours, from pictures (B,S,S,3) uint8."""
    pictures = pictures.permute(0, 3, 1, 2).contiguous()
    if not any(colours):
        return pictures.float()
    known = [colour or ColourChange() for colour in colours]
    numbers = [[c.gamma, c.contrast, c.brightness, c.saturation, *c.gains] for c in known]
    table = torch.tensor(numbers, device=pictures.device)[:, :, None, None]
    gamma, contrast, brightness, saturation = (table[:, column] for column in range(4))  # each (B,1,1)
    level = torch.linspace(0, 1, 256, device=pictures.device) ** gamma
    level = ((level - 0.5) * contrast + 0.5 + brightness) * table[:, 4:, 0]
    levels = (level.clamp(0, 1) * 255).flatten()  # of (B,3,256)
    first = torch.arange(0, len(levels), 256, device=pictures.device, dtype=torch.int32).view(-1, 3, 1, 1)
    light = levels.index_select(0, (pictures.int() + first).flatten()).view(pictures.shape)
    grey = light.new_tensor([LUMA]) @ light.flatten(2)
    return torch.lerp(grey.view_as(light[:, :1]), light, saturation[..., None]).clamp_(0, 255)


def warped(
    pictures: Tensor, landmarks: Tensor, motion: Motion, changes: Sequence[Change]
) -> tuple[Tensor, Motion]:
    """Pictures (B,3,S,S) with eyes closed, heads moved and everything moved, and their motion.

    Outside the picture its reflection continues.
    """
    device, side = pictures.device, pictures.shape[-1]
    axis = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    moves = Similarities.of([change.move for change in changes], device)
    x, y = moves.back((axis[None, None], axis[None, :, None]))
    eyes: list[Eye] = []
    if any(change.blink > 0 for change in changes):
        amounts = torch.tensor([change.blink for change in changes], device=device)
        for rows, lids in zip(EYE_ROWS, EYE_LIDS, strict=True):
            eyes.append(Eye.of(landmarks, rows, amounts, side))
            motion = eyes[-1].close(motion, lids)
    if any(change.head for change in changes):
        heads = Similarities.of([change.head for change in changes], device)
        x, y, motion = _moved_heads((x, y), heads, motion)
    for eye in eyes:
        x, y = eye.back((x, y))
    where = torch.stack(torch.broadcast_tensors(x, y), 1).movedim(1, -1)  # separate planes: faster on a CPU
    pictures = F.grid_sample(pictures, where, padding_mode="reflection", align_corners=False)
    return pictures, moves.move(motion)


class Similarities(NamedTuple):
    """A batch of similarities."""

    cosine: Tensor  # (B,) of the angle
    sine: Tensor  # (B,)
    zoom: Tensor  # (B,)
    shift: Tensor  # (B,2)

    @classmethod
    def of(cls, moves: Sequence[Similarity | None], device: torch.device) -> Similarities:
        """The similarities as tensors; None is the identity."""
        known = [move or Similarity() for move in moves]
        numbers = [[math.cos(m.angle), math.sin(m.angle), m.zoom, *m.shift] for m in known]
        cosine, sine, zoom, x, y = torch.tensor(numbers, device=device).unbind(1)
        return cls(cosine, sine, zoom, torch.stack([x, y], 1))

    @property
    def roll(self) -> Tensor:
        """The rotations (B,3,3), for row vectors."""
        zero, one = torch.zeros_like(self.sine), torch.ones_like(self.sine)
        rows = [self.cosine, self.sine, zero, -self.sine, self.cosine, zero, zero, zero, one]
        return torch.stack(rows, 1).view(-1, 3, 3)

    def about(self, centres: Tensor) -> Similarities:
        """The similarities about points (B,2) instead of the origin."""
        turned = (centres[:, None] @ self.roll[:, :2, :2])[:, 0]
        return self._replace(shift=centres + self.shift - self.zoom[:, None] * turned)

    def move(self, motion: Motion) -> Motion:
        """The motion of the moved pictures."""
        roll, shift = self.roll, F.pad(self.shift, (0, 1))
        return Motion(
            motion.rotation @ roll,
            self.zoom[:, None] * (motion.translation[:, None] @ roll)[:, 0] + shift,
            motion.scale * self.zoom[:, None],
            motion.canonical,
            motion.expression @ roll,
        )

    def back(self, points: Planes) -> Planes:
        """The source positions of points in the moved pictures."""
        x, y = points[0] - per_row(self.shift[:, 0]), points[1] - per_row(self.shift[:, 1])
        cosine, sine = per_row(self.cosine / self.zoom), per_row(self.sine / self.zoom)
        return cosine * x + sine * y, cosine * y - sine * x


def _where(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` in the rows (B,) that are True, `no` in the others."""
    return torch.where(rows.view(-1, *[1] * (yes.dim() - 1)), yes, no)


def mirrored(motion: Motion) -> Motion:
    """The motion of left-right mirrored pictures."""
    mirror = torch.diag(motion.rotation.new_tensor([-1.0, 1.0, 1.0]))
    rows = list(MIRROR)
    return Motion(
        mirror @ motion.rotation @ mirror,
        motion.translation @ mirror,
        motion.scale,
        motion.canonical[:, rows] @ mirror,
        motion.expression[:, rows] @ mirror,
    )


def _moved_heads(points: Planes, heads: Similarities, motion: Motion) -> tuple[Tensor, Tensor, Motion]:
    """The source positions of points when heads are moved about their own centres, and the heads' motion.

    Far from the head nothing moves.
    """
    centre = transform_keypoints(motion)[..., :2].mean(1)
    about = heads.about(centre)
    moved, target = about.move(motion), centre + heads.shift
    radius = HEAD_RADIUS * moved.scale[:, :, None]
    distance = torch.hypot(points[0] - per_row(target[:, 0]), points[1] - per_row(target[:, 1]))
    share = torch.sigmoid((radius - distance) / (0.12 * radius))
    x, y = about.back(points)
    return torch.lerp(points[0], x, share), torch.lerp(points[1], y, share), moved


def degraded(pictures: Tensor, changes: Sequence[Change]) -> Tensor:
    """Pictures (B,3,S,S), some blurred, some enlarged from fewer pixels, like those of webcams and distant faces."""
    if any(change.blur > 0 for change in changes):
        pictures = blurred(pictures, [change.blur for change in changes])
    if any(change.detail for change in changes):
        pictures = pictures.clone()
    for row, change in enumerate(changes):
        if change.detail:
            small = F.interpolate(pictures[row, None], size=(change.detail, change.detail), mode="area")
            pictures[row] = F.interpolate(small, size=pictures.shape[-2:], mode="bilinear")[0]
    return pictures


def blurred(pictures: Tensor, widths: Sequence[float]) -> Tensor:
    """Gaussian blur of pictures (B,3,S,S), each with its own standard deviation, px; 0 leaves one sharp."""
    count, channels = pictures.shape[:2]
    reach = math.ceil(3 * max(widths))
    offsets = torch.arange(-reach, reach + 1, device=pictures.device)
    width = pictures.new_tensor(widths).clamp_min(1e-3)[:, None]
    kernel = (-(offsets**2) / (2 * width**2)).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # (B·3,1,K)
    flat = pictures.flatten(0, 1)[None]
    flat = F.conv2d(
        F.pad(flat, (reach, reach, 0, 0), mode="reflect"), kernel[:, :, None], groups=count * channels
    )
    flat = F.conv2d(
        F.pad(flat, (0, 0, reach, reach), mode="reflect"), kernel[..., None], groups=count * channels
    )
    return flat.view_as(pictures)
