"""M of the compact model: heatmap keypoints, refined on patches where millimetres matter.

A small convolutional network finds the 21 keypoints as soft-argmax heatmaps. Lids, irises and lips decide
whether a face blinks or speaks, and on the 32x32 heatmaps a blink is a fraction of a cell, so the network
then crops aligned patches around both eyes and the mouth and corrects those keypoints there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.layers import ConvNorm, JoiningConvNorm, NormResidual, sample
from liveportrait.networks.geometry import pixel_grid
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion
from liveportrait.networks.keypoints import LEFT_EYE, LEFT_IRIS, MOUTH, RIGHT_EYE, RIGHT_IRIS

PRIOR_STD = 0.2  # of the fixed spatial prior, without which the soft-argmax starts collapsed in the centre
HEATMAP_GAIN = 4.0
# Where the keypoints of a patch lie on average, in units of its half width from its centre.
EYE_HOME = ((0.0, -0.1), (0.0, 0.1), (0.0, 0.0))
MOUTH_HOME = ((-0.4, 0.0), (0.4, 0.0), (0.0, -0.05), (0.0, 0.05), (0.0, 0.15), (0.0, -0.15))


@dataclass(frozen=True)
class MotionSizes:
    """Widths of M: stages at strides 4, 8, 16 and 32."""

    channels: tuple[int, int, int, int] = (48, 72, 128, 224)
    blocks: tuple[int, int, int, int] = (0, 1, 2, 2)
    top_down: tuple[int, int] = (96, 64)
    patch_channels: tuple[int, int, int] = (32, 64, 128)
    patch_code: int = 64
    hidden: int = 256


class Magnifier(nn.Module):
    """Predicts how far the keypoints in a patch (B,3,h,w) are from their mean positions."""

    def __init__(self, sizes: MotionSizes, height: int, width: int, points: int) -> None:
        super().__init__()
        fine, middle, coarse = sizes.patch_channels
        self.height, self.width, self.points = height, width, points
        self.features = nn.Sequential(
            ConvNorm(12, fine),
            ConvNorm(fine, middle, stride=2),
            NormResidual(middle),
            ConvNorm(middle, coarse, stride=2),
            NormResidual(coarse),
            nn.Flatten(),
        )
        self.code = nn.Linear(coarse * (height // 8) * (width // 8), sizes.patch_code)
        self.offset = nn.Linear(sizes.patch_code, points * 2)
        nn.init.normal_(self.offset.weight, std=1e-3)
        nn.init.zeros_(self.offset.bias)

    def forward(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (B,points,2) in units of the patch's half width, and a code (B,c)."""
        unshuffled = F.pixel_unshuffle(patch * 2 - 1, 2).contiguous(memory_format=torch.channels_last)
        code = F.relu(self.code(self.features(unshuffled)))
        return self.offset(code).float().unflatten(1, (self.points, 2)), code.float()


class MotionExtractor(nn.Module):
    """M. `forward` gives the motion; `detailed` also the keypoints before magnification, for the losses."""

    prior: Tensor
    grid: Tensor
    mean_layout: Tensor
    mean_canonical: Tensor
    mean_rigid: Tensor

    def __init__(self, sizes: MotionSizes) -> None:
        super().__init__()
        channels, (up2, up1) = sizes.channels, sizes.top_down
        self.stages = nn.ModuleList()
        for level, width in enumerate(channels):
            entry = ConvNorm(48, width) if level == 0 else ConvNorm(channels[level - 1], width, stride=2)
            self.stages.append(
                nn.Sequential(entry, *(NormResidual(width) for _ in range(sizes.blocks[level])))
            )
        self.lateral = ConvNorm(channels[3], up2, kernel=1)
        self.top_down2 = JoiningConvNorm(up2, channels[2], up2)
        self.top_down1 = JoiningConvNorm(up2, channels[1], up1)
        self.heatmaps = nn.Conv2d(up1, NUM_KEYPOINTS, 1)
        self.eye = Magnifier(sizes, 32, 48, len(RIGHT_EYE))
        self.mouth = Magnifier(sizes, 48, 48, len(MOUTH))
        self.hidden = nn.Linear(channels[3] + NUM_KEYPOINTS * 2 + 4 + 3 * sizes.patch_code, sizes.hidden)
        self.output = nn.Linear(sizes.hidden, 6 + 1 + 3 + NUM_KEYPOINTS * 3 + NUM_KEYPOINTS)
        nn.init.normal_(self.heatmaps.weight, std=0.02)
        nn.init.zeros_(self.heatmaps.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.output.weight, std=1e-3)
        nn.init.zeros_(self.output.bias)
        self.register_buffer("grid", pixel_grid(32, 32, torch.device("cpu")).reshape(-1, 2), persistent=False)
        self.register_buffer("prior", torch.zeros(NUM_KEYPOINTS, 32 * 32))
        self.register_buffer("mean_layout", torch.zeros(NUM_KEYPOINTS, 2))
        self.register_buffer("mean_canonical", torch.zeros(NUM_KEYPOINTS, 3))
        self.register_buffer("mean_rigid", torch.tensor([1.0, 0.0, 0.0]))  # scale ratio and offset, see below

    @torch.no_grad()
    def set_statistics(self, keypoints: Tensor, motion: Motion) -> None:
        """Start from the mean face: keypoints (N,21,3) and motion of N training frames."""
        xy = keypoints[..., :2]
        self.prior.copy_(-((self.grid[None] - xy.mean(0)[:, None]) ** 2).sum(-1) / (2 * PRIOR_STD**2))
        centre, spread, layout = normalised_layout(xy)
        self.mean_layout.copy_(layout.mean(0))
        self.mean_canonical.copy_(motion.canonical.mean(0))
        offset = (motion.translation[:, :2] - centre[:, 0]) / spread
        self.mean_rigid.copy_(torch.cat([(motion.scale / spread).median().view(1), offset.median(0).values]))

    def forward(self, image: Tensor) -> Motion:
        """Motion of face crops (B,3,256,256), RGB in [0, 1]."""
        return self.detailed(image)[0]

    def detailed(self, image: Tensor, jitter: float = 0.0) -> tuple[Motion, Tensor]:
        """Motion, and keypoints (B,21,2) from the heatmaps alone. `jitter` displaces the patches (for training)."""
        x = F.pixel_unshuffle(image * 2 - 1, 4).contiguous(memory_format=torch.channels_last)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        up = self.top_down2(self.lateral(levels[3]), levels[2])
        logits = self.heatmaps(self.top_down1(up, levels[1]))
        with torch.autocast(image.device.type, enabled=False):
            weights = (HEATMAP_GAIN * logits.float().flatten(2) + self.prior).softmax(-1)
            coarse = weights @ self.grid  # (B,21,2)
        xy, codes = self.magnify(image, coarse, jitter)
        with torch.autocast(image.device.type, enabled=False):
            centre, spread, layout = normalised_layout(xy)
            summary = [
                levels[3].float().mean((2, 3)), 2 * (layout - self.mean_layout).flatten(1),
                centre[:, 0], spread, spread.log(), *codes,
            ]  # fmt: skip
            raw = self.output(F.relu(self.hidden(torch.cat(summary, 1))))
            return self._compose(raw, xy, centre, spread), coarse

    def magnify(self, image: Tensor, coarse: Tensor, jitter: float = 0.0) -> tuple[Tensor, list[Tensor]]:
        """Keypoints (B,21,2) with eyes and mouth corrected in three patches, and the patches' codes (B,c).

        `coarse` (B,21,2) determines where the patches are, without a gradient.
        """
        points = coarse.detach()
        across = points[:, LEFT_IRIS] - points[:, RIGHT_IRIS]  # the patches follow the head's roll and size
        shifts = [torch.zeros_like(across)] * 3
        if jitter:
            shifts = [jitter * torch.randn_like(across) * across.norm(dim=1, keepdim=True) for _ in shifts]
        patches = [
            (RIGHT_EYE, self.eye, 0.55, 1.0),
            (LEFT_EYE, self.eye, 0.55, -1.0),  # mirrored, so that both eyes share one network
            (MOUTH, self.mouth, 0.8, 1.0),
        ]
        xy, codes = coarse, []
        for (rows, magnifier, reach, mirror), shift in zip(patches, shifts, strict=True):
            index = torch.tensor(rows, device=image.device)
            x_axis = across * reach * mirror
            y_axis = torch.stack([-across[:, 1], across[:, 0]], 1) * reach
            axes = torch.stack([x_axis, y_axis], 1)  # (B,2,2): patch coordinates @ axes = picture coordinates
            centre = points[:, index].mean(1) + shift
            grid = pixel_grid(magnifier.height, magnifier.width, image.device)
            grid = grid * grid.new_tensor([1.0, magnifier.height / magnifier.width])
            with torch.autocast(image.device.type, enabled=False):
                where = (grid.view(1, -1, 2) @ axes + centre[:, None]).view(-1, *grid.shape)
                patch = sample(image.float(), where)
            offset, code = magnifier(patch)
            with torch.autocast(image.device.type, enabled=False):
                # Offsets are relative to the patch's centre: the heatmaps' estimate no longer matters.
                home = MOUTH_HOME if magnifier is self.mouth else EYE_HOME
                fine = (offset + offset.new_tensor(home)) @ axes + centre[:, None]
            xy = xy.index_copy(1, index, fine)
            codes.append(code)
        return xy, codes

    def _compose(self, raw: Tensor, xy: Tensor, centre: Tensor, spread: Tensor) -> Motion:
        """The motion whose keypoints are `xy`; rotation from two 3-vectors (Zhou et al. 2019)."""
        first = F.normalize(raw[:, 0:3] + raw.new_tensor([1.0, 0.0, 0.0]), dim=1)
        second = raw[:, 3:6] + raw.new_tensor([0.0, 1.0, 0.0])
        second = F.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
        rotation = torch.stack([first, second, _cross(first, second)], 1)
        scale = spread * self.mean_rigid[0] * raw[:, 6:7].exp()  # (B,1)
        shift = centre[:, 0] + spread * (self.mean_rigid[1:] + raw[:, 7:9])
        translation = torch.cat([shift, torch.zeros_like(scale)], 1)
        canonical = self.mean_canonical + 0.3 * raw[:, 10 : 10 + NUM_KEYPOINTS * 3].unflatten(1, (-1, 3))
        depth = 0.3 * raw[:, 10 + NUM_KEYPOINTS * 3 :]
        planar = (xy - shift[:, None]) / scale[:, :, None] - (canonical @ rotation)[..., :2]
        return Motion(rotation, translation, scale, canonical, torch.cat([planar, depth[..., None]], -1))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product (B,3), from products that every runtime has, unlike torch.cross."""
    return a.roll(-1, 1) * b.roll(1, 1) - a.roll(1, 1) * b.roll(-1, 1)


def normalised_layout(xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (B,1,2), RMS radius (B,1) and the keypoints (B,21,2) normalised by both."""
    centre = xy.mean(1, keepdim=True)
    spread = ((xy - centre) ** 2).sum(-1).mean(1, keepdim=True).add(1e-6).sqrt()
    return centre, spread, (xy - centre) / spread[:, :, None]
