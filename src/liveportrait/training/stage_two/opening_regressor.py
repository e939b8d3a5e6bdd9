"""Reads from a picture how far eyes and lips are open, differentiably: c_p of the paper's stage two.

The face mesh measures openings well but passes no gradient. This small network looks at three patches, cut at
places that follow from points which expressions do not move (eye corners, base of the nose). A rendered source
keeps its pose, so its own landmarks say where to look. It learns from labelled frames and from rendered pictures
that the face mesh has measured: what it is asked to read later. Openings beyond what people show are learnt by
cutting patches with another height: a patch of f times the height shows 1/f of the opening.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.face.canonical import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.networks.interface import CROP_SIDE, HALF_SIDE

NOSE_BASE = 2  # of the mesh
EYE_SIZE, MOUTH_SIZE = (32, 48), (48, 48)  # height and width of the patches, cells
EYE_REACH = 0.85  # half width of an eye's patch, eye widths
MOUTH_REACH, MOUTH_DROP = (
    0.5,
    0.42,
)  # half width and centre below the nose's base, distances of the outer eye corners


class Place(NamedTuple):
    """Where a patch lies: p = centre + u·across + v·down for u, v in [-1, 1]; coordinates of the crop in [-1, 1]."""

    centre: Tensor  # (B,2)
    across: Tensor  # (B,2)
    down: Tensor  # (B,2)

    def stretched(self, factor: Tensor) -> Place:
        """The same place, `factor` (B,) times as high: it shows 1/factor of an opening."""
        return self._replace(down=self.down * factor[:, None])

    def jittered(self, amount: float) -> Place:
        """Displaced and resized at random, by about `amount` half widths."""
        away, size = torch.randn_like(self.centre), (amount * torch.randn_like(self.centre[:, :1])).exp()
        return Place(
            self.centre + amount * (away[:, :1] * self.across + away[:, 1:] * self.down),
            self.across * size,
            self.down * size,
        )


def places(landmarks: Tensor) -> tuple[Place, Place, Place]:
    """Patches of the picture's left eye, its right eye (mirrored) and the mouth, from landmarks (B,111,2) px of 256."""

    def at(mesh_row: int) -> Tensor:
        return landmarks[:, MESH_ROWS.index(mesh_row)] / HALF_SIDE - 1

    def eye(corners: tuple[int, int], mirror: float) -> Place:
        first, last = at(corners[0]), at(corners[1])
        half = (last - first) / 2
        across = half * 2 * EYE_REACH
        return Place((first + last) / 2, across * mirror, turned(across) * EYE_SIZE[0] / EYE_SIZE[1])

    width = at(LEFT_EYE_CORNERS[1]) - at(RIGHT_EYE_CORNERS[0])
    # Between the outer corners a turned head looks narrow: the nose's distance from the eyes does not shrink with it.
    eyes = (at(LEFT_EYE_CORNERS[1]) + at(RIGHT_EYE_CORNERS[0])) / 2
    size = torch.maximum(width.norm(dim=1), 1.6 * (at(NOSE_BASE) - eyes).norm(dim=1))[:, None]
    axis = F.normalize(width, dim=1) * size
    mouth = Place(at(NOSE_BASE) + MOUTH_DROP * turned(axis), axis * MOUTH_REACH, turned(axis) * MOUTH_REACH)
    return eye(RIGHT_EYE_CORNERS, 1.0), eye(LEFT_EYE_CORNERS, -1.0), mouth


def turned(axis: Tensor) -> Tensor:
    """A quarter turn of vectors (B,2): across becomes down."""
    return torch.stack([-axis[:, 1], axis[:, 0]], 1)


def cut(picture: Tensor, place: Place, size: tuple[int, int]) -> Tensor:
    """The patch (B,3,h,w) of pictures (B,3,S,S)."""
    height, width = size
    v = (torch.arange(height, device=picture.device) + 0.5) / height * 2 - 1
    u = (torch.arange(width, device=picture.device) + 0.5) / width * 2 - 1
    across, down = place.across[:, None, None], place.down[:, None, None]
    grid = place.centre[:, None, None] + u[None, None, :, None] * across + v[None, :, None, None] * down
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


class PatchReader(nn.Module):
    """One number of a patch."""

    def __init__(self, size: tuple[int, int], channels: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, (height, width) = 3, size
        for level in range(4):
            outputs = channels * (level + 2) // 2
            layers += [
                nn.Conv2d(inputs, outputs, 3, 1 if level == 0 else 2, 1),
                nn.GroupNorm(4, outputs),
                nn.SiLU(),
            ]
            inputs = outputs
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(inputs * (height // 8) * (width // 8), 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(self, patch: Tensor) -> Tensor:
        """Openings (B,) of patches (B,3,h,w), RGB in [0, 1]."""
        level = patch.mean((2, 3), keepdim=True)  # light and contrast say nothing about openings
        spread = patch.std((1, 2, 3), keepdim=True) + 0.05
        return self.head(self.features((patch - level) / spread))[:, 0] * 0.2 + 0.25


class OpeningReader(nn.Module):
    """Openings of both eyes and of the lips."""

    def __init__(self) -> None:
        super().__init__()
        self.eye, self.mouth = PatchReader(EYE_SIZE), PatchReader(MOUTH_SIZE)

    def forward(self, picture: Tensor, landmarks: Tensor) -> Tensor:
        """Openings (B,3): the picture's left eye, its right eye, the lips; see `face.ratios`.

        Pictures (B,3,S,S) RGB in [0, 1]; landmarks (B,111,2), px of 256, of that face or of the source it was
        rendered from.
        """
        return self.read(picture, places(landmarks))

    def read(self, picture: Tensor, where: tuple[Place, Place, Place]) -> Tensor:
        """Openings (B,3) as three given patches show them."""
        if picture.shape[-1] > CROP_SIDE:
            picture = F.interpolate(picture, size=CROP_SIDE, mode="area")
        right, left, mouth = where
        eyes = [cut(picture, place, EYE_SIZE) for place in (right, left)]
        both = self.eye(torch.cat(eyes)).unflatten(0, (2, -1))
        return torch.stack([*both, self.mouth(cut(picture, mouth, MOUTH_SIZE))], 1)


def reading_loss(
    reader: OpeningReader, picture: Tensor, landmarks: Tensor, ratios: Tensor
) -> dict[str, Tensor]:
    """Mean |read − labelled opening| of eyes and lips, on jittered and stretched patches.

    Labels (B,3); the error is that of the opening as the patch shows it.
    """
    factors = (0.45 * (2 * torch.rand(3, len(picture), device=picture.device) - 1)).exp()
    where = [
        place.jittered(0.06).stretched(factor)
        for place, factor in zip(places(landmarks), factors, strict=True)
    ]
    read = reader.read(picture, (where[0], where[1], where[2]))
    error = F.smooth_l1_loss(read, ratios / factors.T, beta=0.02, reduction="none")
    return {"eyes": error[:, :2].mean(), "lips": error[:, 2].mean()}
