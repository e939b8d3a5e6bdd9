"""Repaints the mouth after G: a small U-net on one aligned patch.

Where closed lips part, the warp has nothing to show, and G, which sees entire faces, paints a smear. This network sees
only the mouth, upright and at a fixed size, gets the lips' shape as maps, and changes G's picture there. It changes
nothing if the lips keep their shape, and nothing outside the patch.

Patches are 80x64 px, u in ±1 and v in ±0.8, about twice as wide as a mouth. Shapes are the six lip keypoints in these
coordinates: corners, inner lips (upper, lower), outer lips (lower, upper).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.layers import channels_last, conv, double, unshuffled
from liveportrait.networks.geometry import pixel_centres, pixel_grid, plane, turned_grid
from liveportrait.networks.interface import Layers, Pose
from liveportrait.networks.keypoints import MOUTH, MOUTH_CORNERS, OUTER_LIPS

HEIGHT, WIDTH = 64, 80  # px of the patch
TALL = HEIGHT / WIDTH  # v at its lower edge
REACH = 0.82  # half width of the patch, scales of the head
CUES = 5  # what the driver's mouth shows: four numbers, and 1 if they are known
SOFTNESS = 0.05  # of the lips' edges in the maps, half widths
PARTED = 0.08  # opening at which cues reach full weight, half widths
BORDER = 0.12  # share of the patch's sides over which the change fades out
REPAINTED = (0.03, 0.15)  # change of colour over which the source's own pixels fade out
LUMA = (0.299, 0.587, 0.114)
GROUPS = 4
SHAPES = 6  # maps of one shape
INPUTS = 10 + 2 * SHAPES  # source, warped source, first painting, mask, and the maps of both shapes
NUMBERS = 4 + 4 + 6  # openings and widths, where both heads look, colours of the source's patch
# Movement of a lip, half widths, up to which nothing and from which everything changes
STILL, CHANGED = 0.02, 0.08


class Patch(NamedTuple):
    """Position of patches: picture = (u, v) @ axes + centre, in the crop's coordinates."""

    centre: Tensor  # (B,2)
    axes: Tensor  # (B,2,2) a rotation times a size

    def cut(self, picture: Tensor) -> Tensor:
        """The patches (B,C,64,80) of pictures (B,C,S,S); edges are replicated."""
        where = turned_grid(*_axes(picture.device), self.axes, self.centre)
        return F.grid_sample(picture, where, mode="bilinear", padding_mode="border", align_corners=False)

    def paste(self, patch: Tensor, size: int) -> Tensor:
        """Patches (B,C,64,80) placed in pictures (B,C,size,size), zero elsewhere."""
        back = self._back() * patch.new_tensor((1, 1 / TALL))
        offset = -(self.centre[:, None] @ back)[:, 0]
        places = pixel_centres(size, patch.device)
        where = turned_grid(places, places, back, offset)
        return F.grid_sample(patch, where, mode="bilinear", padding_mode="zeros", align_corners=False)

    def local(self, points: Tensor) -> Tensor:
        """(u, v) of points (B,N,2) of the crop."""
        return (points - self.centre[:, None]) @ self._back()

    def _back(self) -> Tensor:
        """(B,2,2) from the picture to the patch."""
        return self.axes.transpose(1, 2) / self.axes[:, :1].square().sum(2, keepdim=True)


def mouth_patch(pose: Pose) -> Patch:
    """The patch around the mouth of each pose, aligned with the head and scaled with it."""
    centre = pose.keypoints[:, [*MOUTH_CORNERS, *OUTER_LIPS], :2].mean(1)
    right = pose.rotation[:, 0, :2]  # steadier than the corners of the mouth
    right = right / right.square().sum(1, keepdim=True).clamp(min=1e-6).sqrt() * (pose.scale * REACH)
    down = torch.stack([-right[:, 1], right[:, 0]], 1)
    return Patch(centre, torch.stack([right, down], 1))


def mouth_shape(pose: Pose, patch: Patch) -> Tensor:
    """The six lip keypoints (B,6,2) in the coordinates of the patch."""
    return patch.local(pose.keypoints[:, list(MOUTH), :2])


def looking(pose: Pose) -> Tensor:
    """Where a head looks (B,2): the projection of its z axis on the picture plane."""
    return pose.rotation[:, 2, :2]


def _axes(device: torch.device) -> tuple[Tensor, Tensor]:
    """u (80,) of the patch's columns and v (64,) of its rows."""
    return pixel_centres(WIDTH, device), pixel_centres(HEIGHT, device) * TALL


class _Lips(NamedTuple):
    """The patch in the coordinates of a mouth, whose lips are parabolas through both corners."""

    along: Tensor  # (B,64,80) from corner to corner, in ±1
    across: Tensor  # (B,64,80) from the line between the corners, downwards
    arch: Tensor  # (B,64,80) 1 in the middle, 0 at the corners
    heights: Tensor  # (B,4) of inner upper, inner lower, outer lower, outer upper lip, as `across`
    width: Tensor  # (B,1) between the corners

    @classmethod
    def of(cls, shape: Tensor) -> _Lips:
        right, left = shape[:, 0], shape[:, 1]
        width = (left - right).square().sum(1, keepdim=True).clamp(min=1e-6).sqrt()
        x = (left - right) / width
        y = torch.stack([-x[:, 1], x[:, 0]], 1)
        middle = (right + left) / 2
        along, across = (plane(*_axes(shape.device), axis, middle) for axis in (x / (width / 2), y))
        heights = ((shape[:, 2:] - middle[:, None]) * y[:, None]).sum(-1)
        return cls(along, across, (1 - along.square()).clamp(min=-1), heights, width)

    @property
    def opening(self) -> Tensor:
        """Distance (B,1) between the inner lips."""
        return self.heights[:, 1:2] - self.heights[:, :1]

    def below(self, lip: int) -> Tensor:
        """How far each pixel (B,64,80) is below one of the four lip edges."""
        return self.across - self.heights[:, lip, None, None] * self.arch

    def inside(self) -> Tensor:
        """1 between the lips (B,64,80), soft at their edges."""
        sharp = 2 / SOFTNESS
        upper, lower = torch.sigmoid(self.below(0) * sharp), torch.sigmoid(-self.below(1) * sharp)
        return upper * lower * torch.sigmoid((1 - self.along.abs()) * 8)

    def maps(self) -> Tensor:
        """The maps (B,6,64,80) that represent a shape for the network."""
        below = self.across[:, None] - self.heights[:, :, None, None] * self.arch[:, None]
        edges = torch.tanh(below / (2 * SOFTNESS))
        return torch.cat([edges, self.along[:, None].clamp(-2, 2) / 2, self.inside()[:, None]], 1)

    def numbers(self) -> Tensor:
        """Opening and width (B,2)."""
        return torch.cat([self.opening, self.width], 1)


def inside_lips(shape: Tensor) -> Tensor:
    """1 between the lips of shapes (B,6,2), soft at their edges: (B,1,64,80)."""
    return _Lips.of(shape).inside()[:, None]


def mouth_cues(picture: Tensor, pose: Pose) -> Tensor:
    """Cues (B,5) of the mouths in crops (B,3,S,S), RGB in [0, 1], with these poses: see `patch_cues`."""
    patch = mouth_patch(pose)
    return patch_cues(patch.cut(picture), mouth_shape(pose, patch))


def patch_cues(patch: Tensor, shape: Tensor) -> Tensor:
    """Cues (B,5) of the mouths in patches (B,3,64,80) with shapes (B,6,2).

    Brightness of the upper, middle and lower third between the lips, relative to the patch's mean, minus 1; how much
    redder it is there than in the patch, times 4; all fade to 0 as the lips meet. Finally 1, for known.
    """
    lips = _Lips.of(shape)
    gap = (lips.opening[:, :, None] * lips.arch).clamp(min=1e-3)
    depth = lips.below(0) / gap  # 0 at the upper, 1 at the lower lip
    inside = ((depth > 0) & (depth < 1) & (lips.along.abs() < 0.8) & (gap > 0.02)).float()
    luma = (patch * patch.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    mean = luma.mean((1, 2)).clamp(min=0.05)
    thirds = [
        inside * (1 - (depth - middle).abs() * 3).clamp(min=0) + 1e-6 for middle in (1 / 6, 1 / 2, 5 / 6)
    ]
    levels = [(third * luma).sum((1, 2)) / third.sum((1, 2)) / mean - 1 for third in thirds]
    redness = patch[:, 0] - patch[:, 1]
    red = (redness * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1) - redness.mean((1, 2))
    cues = torch.stack([*levels, 4 * red], 1) * (lips.opening / PARTED).clamp(0, 1)
    return torch.cat([cues, torch.ones_like(cues[:, :1])], 1)


@dataclass(frozen=True)
class PainterSizes:
    """Widths of the U-net at strides 2, 4 and 8 of the patch."""

    channels: tuple[int, int, int] = (36, 72, 128)


class _Residual(nn.Module):
    """Residual block with one group norm; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.first, self.second = conv(channels, channels), conv(channels, channels)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class MouthPainter(nn.Module):
    """Changes `Layers` around the mouth; `repaint` is the network itself, on patches."""

    def __init__(self, sizes: PainterSizes) -> None:
        super().__init__()
        fine, middle, coarse = sizes.channels
        self.enter, self.first = conv(4 * INPUTS, fine), conv(fine, fine)
        self.down1, self.residual1 = conv(fine, middle, stride=2), _Residual(middle)
        self.down2, self.residual2 = conv(middle, coarse, stride=2), _Residual(coarse)
        self.told = nn.Linear(NUMBERS + CUES, coarse)
        self.up1, self.merge1 = conv(coarse, middle, kernel=1), conv(middle, middle)
        self.up0, self.merge0 = conv(middle, fine, kernel=1), conv(fine, fine)
        self.norm_enter, self.norm0 = nn.GroupNorm(GROUPS, fine), nn.GroupNorm(GROUPS, fine)
        self.norm1 = nn.GroupNorm(GROUPS, middle)
        self.output = conv(fine, 12)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.output.weight *= 0.1

    def forward(
        self, source: Tensor, warped: Tensor, layers: Layers, own: Pose, driving: Pose, cues: Tensor
    ) -> Layers:
        """The layers with the mouth repainted.

        source: crops (B,3,S,S); warped: the same after W; own, driving: their poses. cues (B,5): see `patch_cues`,
        zeros if unknown.
        """
        with torch.autocast(source.device.type, enabled=False):
            patch = mouth_patch(own).cut(source.float())
        return self.paint(patch, warped, layers, own, driving, cues)

    def paint(
        self, patch: Tensor, warped: Tensor, layers: Layers, own: Pose, driving: Pose, cues: Tensor
    ) -> Layers:
        """The same, given the patch (B,3,64,80) of the source that `mouth_patch` cuts."""
        with torch.autocast(patch.device.type, enabled=False):
            warped, layers = warped.float(), layers.map(Tensor.float)
            place, own_place = mouth_patch(driving), mouth_patch(own)
            shape, own_shape = mouth_shape(driving, place), mouth_shape(own, own_place)
            moved = layers.keep * warped
            first = layers.paint + moved
            seen = [patch, *(place.cut(each) for each in (warped, first, layers.keep))]
            look = torch.cat([looking(own), looking(driving)], 1)
        painted = self.repaint(torch.cat(seen, 1), own_shape, shape, look, cues)
        with torch.autocast(patch.device.type, enabled=False):
            return _pasted(layers, moved, place, painted - seen[2])

    def repaint(
        self, patches: Tensor, own_shape: Tensor, shape: Tensor, look: Tensor, cues: Tensor
    ) -> Tensor:
        """The repainted mouth (B,3,64,80), in [0, 1] if the first painting is.

        patches (B,10,64,80): source, warped source, first painting, mask; shapes (B,6,2): of the source and the target
        mouth; look (B,4): where both heads look; cues (B,5).
        """
        lips = _Lips.of(torch.cat([shape, own_shape]))
        source, painting = patches[:, :3], patches[:, 6:9]
        mean = source.mean((2, 3))
        spread = (source - mean[:, :, None, None]).square().mean((2, 3)).add(1e-6).sqrt()
        numbers = [*(3 * lips.numbers()).chunk(2), look, mean, spread, cues]
        x = torch.cat([patches * 2 - 1, *lips.maps().chunk(2)], 1)
        x = channels_last(unshuffled(x))
        fine = F.silu(self.first(F.silu(self.norm_enter(self.enter(x)))))
        middle = self.residual1(self.down1(fine))
        coarse = self.down2(F.silu(middle)) + self.told(torch.cat(numbers, 1))[:, :, None, None]
        x = double(self.up1(F.silu(self.residual2(coarse))))
        x = F.silu(self.norm1(self.merge1(F.silu(middle + x))))
        x = F.silu(self.norm0(self.merge0(F.silu(fine + double(self.up0(x))))))
        change = 4 * torch.tanh(F.pixel_shuffle(self.output(x).float(), 2) / 2)
        base = painting.clamp(0.02, 0.98)
        painted = torch.sigmoid(torch.log(base / (1 - base)) + change)
        return painting + changed_shape(own_shape, shape) * feather(painting.device) * (painted - base)


def _pasted(layers: Layers, moved: Tensor, place: Patch, change: Tensor) -> Layers:
    """Layers changed in a patch by `change` (B,3,64,80); moved (B,3,S,S) is what they keep of the source."""
    low, high = REPAINTED
    share = ((change.abs().amax(1, keepdim=True) - low) / (high - low)).clamp(0, 1)
    share = F.avg_pool2d(F.max_pool2d(share, 5, 1, 2), 5, 1, 2)
    change, share = place.paste(torch.cat([change, share], 1), moved.shape[-1]).split((3, 1), 1)
    keep = torch.addcmul(layers.keep, share, layers.keep, value=-1)
    return Layers(layers.flow, keep, torch.addcmul(layers.paint + change, share, moved))


def changed_shape(own: Tensor, shape: Tensor) -> Tensor:
    """0 if a mouth keeps its shape, 1 if it changes, with a smooth transition: (B,1,1,1) of shapes (B,6,2)."""
    farthest = (shape - own).square().sum(2).amax(1).add(1e-9).sqrt()
    share = ((farthest - STILL) / (CHANGED - STILL)).clamp(0, 1)
    return (share * share * (3 - 2 * share))[:, None, None, None]


def feather(device: torch.device) -> Tensor:
    """Weight (64,80) of a change: 1 inside, falling to 0 at the patch's edges."""
    grid = pixel_grid(HEIGHT, WIDTH, device)
    fade = ((1 - grid.abs()) / (2 * BORDER)).clamp(0, 1)
    fade = fade[..., 0] * fade[..., 1]
    return fade * fade * (3 - 2 * fade)
