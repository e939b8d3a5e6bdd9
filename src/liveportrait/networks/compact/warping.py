"""W of the compact model: a closed-form first-order flow, corrected by a small U-net.

Both faces obey x = s(x_c R + δ) + t with the same x_c, so around keypoint k the picture moves by
p → p A + (x_s,k − x_d,k A) with A = (s_s/s_d) R_dᵀ R_s. All keypoints share A: the dense flow is a mask-weighted
sum of K translations, one rigid motion of the head and the still background, without K warped copies.
Coordinates are fp32 whatever the precision of the convolutions.

In a pinned pose (`Pose.pin`) the displacement is multiplied by a window: the face moves, shoulders and border stay. The
paper's stitching moves keypoints to achieve this. Here shoulders follow the rigid pose of the head as much as the
keypoints, and correcting that by keypoints alone costs the head a fifth of its motion. So the flow itself fades out
below the chin, away from the head and towards the crop's border, which stretches the neck in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.compact.appearance import AppearanceSizes
from liveportrait.networks.compact.layers import JoiningConv, Residual, conv, map_of, rows_of, sample
from liveportrait.networks.geometry import pixel_centres, pixel_grid, plane, sample_volume, without_depth
from liveportrait.networks.interface import NUM_KEYPOINTS, Features, Pose, Warped
from liveportrait.networks.keypoints import (
    CHIN,
    FOREHEAD,
    INNER_BROWS,
    INNER_LIPS,
    IRISES,
    JAW,
    LIDS,
    MOUTH_CORNERS,
    NOSE_TIP,
    OUTER_BROWS,
    OUTER_LIPS,
    per_keypoint,
)

# Reach of each keypoint's motion in the prior, crop half side = 1. With a common reach lids, iris and brow are averaged
# together, and eyes never close.
REACH = per_keypoint(
    {
        LIDS: 0.045,
        IRISES: 0.04,
        INNER_BROWS: 0.09,
        OUTER_BROWS: 0.12,
        MOUTH_CORNERS: 0.09,
        INNER_LIPS: 0.065,
        OUTER_LIPS: 0.08,
        (NOSE_TIP, CHIN): 0.14,
        JAW: 0.18,
        (FOREHEAD,): 0.2,
    }
)
DEPTH_CENTRE, DEPTH_REACH = 0.1, 0.4  # the planes of the volume, crop half side = 1

# The window of a pinned pose.
BORDER = 0.1  # half sides over which all motion fades out towards the border
SHOULDERS = (0.28, 0.62)  # heights in the crop between which all motion but the face's fades out
# Distances in face heights (forehead to chin), from the face's middle, at which fading begins and ends.
FACE = ((0.51, 0.62), (0.55, 0.9), (0.5, 0.75))  # downwards, upwards, sideways
HEAD = ((0.54, 0.9), (0.85, 1.35), (0.65, 1.25))  # with hair and neck

MIN_LOGIT = -80.0  # exp of it is still a normal number: denormals are five times slower on a CPU
CANDIDATES = NUM_KEYPOINTS + 2  # keypoints, rigid head, background


@dataclass(frozen=True)
class WarpingSizes:
    """Widths of W: U-net levels at strides 4, 8, 16 and 32 of the picture."""

    channels: tuple[int, int, int, int] = (40, 80, 128, 128)


class WarpingModule(nn.Module):
    """Warps the source's volume, skip map and picture to the driving pose."""

    def __init__(self, sizes: WarpingSizes, appearance: AppearanceSizes) -> None:
        super().__init__()
        c0, c1, c2, c3 = sizes.channels
        inputs = appearance.context_channels + 2 * NUM_KEYPOINTS + 3
        self.enter = conv(inputs, c0)
        self.down1, self.down2 = conv(c0, c1, stride=2), conv(c1, c2, stride=2)
        self.down3 = conv(c2, c3, stride=2)
        self.middle = Residual(c3)
        self.up2, self.up1 = JoiningConv(c3, c2, c2), JoiningConv(c2, c1, c1)
        self.up0 = JoiningConv(c1, c0, c0)
        # mask logits, depth, flow residual at twice the resolution, occlusion
        self.output = conv(c0, CANDIDATES + 1 + 2 * 4 + 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.output.bias[-1] = 2.0  # type: ignore[index]
        self.log_reach = nn.Parameter(torch.tensor([math.log(reach) for reach in REACH]))
        self.rigid_logits = nn.Parameter(torch.tensor([-2.5, -4.0]))  # head, background

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        """The warped source: volume (B,C·D,h,w), hidden (B,c,h,w), skip (B,k,2h,2w), image (B,3,4h,4w).

        Also image_flow (B,4h,4w,2), where each pixel of the image comes from in [-1, 1]. And for the losses flow
        (B,2h,2w,2), the same at half the size, and its learned part, residual (B,2,2h,2w).
        """
        geometry, x = self.prepare(features["context"], source, driving)
        return self.warp(features, geometry, *self.predict(x))

    def flow(self, context: Tensor, source: Pose, driving: Pose) -> Tensor:
        """Only the flow (B,2h,2w,2) of `forward`, from F's context (B,c,h,w), for training modules that change it."""
        geometry, x = self.prepare(context, source, driving)
        _, raw = self.predict(x)
        with torch.autocast(raw.device.type, enabled=False):
            return _absolute(self._displacement(geometry, raw.float()).fine)

    def prepare(self, context: Tensor, source: Pose, driving: Pose) -> tuple[_Geometry, Tensor]:
        """The closed-form flow, and the input of the convolutions (B,c,h,w), channels-last."""
        with torch.autocast(context.device.type, enabled=False):
            geometry = _Geometry(self.log_reach.exp(), self.rigid_logits, source, driving, context.shape[-2:])
            prior_flow, _, _ = geometry.flow(geometry.prior, depth_offset=0.0)
            unet_input = geometry.unet_input(context.float(), prior_flow)
        return geometry, unet_input

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutions: hidden (B,c,h,w), and raw (B,k,h,w), the correction of the closed-form flow."""
        hidden = self._unet(x)
        return hidden, self.output(hidden)

    def _unet(self, x: Tensor) -> Tensor:
        level0 = F.silu(self.enter(x))
        level1 = F.silu(self.down1(level0))
        level2 = F.silu(self.down2(level1))
        x = self.middle(F.silu(self.down3(level2)))
        x = F.silu(self.up2(x, level2))
        x = F.silu(self.up1(x, level1))
        return F.silu(self.up0(x, level0))

    def _displacement(self, geometry: _Geometry, raw: Tensor) -> _Displacement:
        height, width = raw.shape[-2:]
        logits = geometry.prior + raw[:, :CANDIDATES].flatten(2).transpose(1, 2)
        depth_offset = 0.3 * raw[:, CANDIDATES].flatten(1)[..., None]
        flow, masks, translation = geometry.flow(logits, depth_offset)
        residual = 0.1 * F.pixel_shuffle(raw[:, CANDIDATES + 1 : CANDIDATES + 9], 2)  # (B,2,2h,2w)
        coarse = (flow - geometry.grid).transpose(1, 2).contiguous().unflatten(2, (height, width))
        window = moving_window(geometry.driving.keypoints, 2 * height, 2 * width)
        follows = (1 - geometry.driving.pin[:, :, None] * (1 - window))[:, None]  # (B,1,2h,2w)
        return _Displacement((enlarge(coarse) + residual) * follows, residual, masks, translation, follows)

    def warp(self, features: Features, geometry: _Geometry, hidden: Tensor, raw: Tensor) -> Warped:
        """The warped source, see `forward`, from the results of `prepare` and `predict`."""
        with torch.autocast(raw.device.type, enabled=False):
            return self._warp(features, geometry, hidden, raw.float())

    def _warp(self, features: Features, geometry: _Geometry, hidden: Tensor, raw: Tensor) -> Warped:
        fine, fine_residual, masks, translation, follows = self._displacement(geometry, raw)
        residual = F.avg_pool2d(fine_residual, 2)
        fine_flow, image_flow = _absolute(fine), _absolute(enlarge(fine))

        volume = features["volume"]
        volume_flow = geometry.volume_flow(masks, translation, residual, follows, volume.shape[2])
        warped = sample_volume(volume, volume_flow, "border")
        occlusion = raw[:, -1:].sigmoid()
        return {
            "volume": warped.flatten(1, 2) * occlusion,
            "hidden": hidden,
            "skip": sample(features["skip"], fine_flow),
            "image": sample(features["image"], image_flow),
            "image_flow": image_flow,
            "flow": fine_flow,
            "residual": fine_residual,
        }


class _Displacement(NamedTuple):
    """The displacement at twice the grid's resolution, and its components."""

    fine: Tensor  # (B,2,2h,2w)
    residual: Tensor  # (B,2,2h,2w) its learned part
    masks: Tensor  # (B,HW,K+2)
    translation: Tensor  # (B,HW,3)
    follows: Tensor  # (B,1,2h,2w) share of the displacement that remains in a pinned pose


class _Geometry:
    """The closed-form part of the flow between two poses on a grid of (h,w) cells."""

    def __init__(
        self, reach: Tensor, rigid_logits: Tensor, source: Pose, driving: Pose, size: torch.Size
    ) -> None:
        """`reach` (K,) of the keypoints, half sides of the crop; `rigid_logits` (2,) of head and background."""
        self.size = tuple(size)
        device = source.keypoints.device
        self.grid = pixel_grid(size[0], size[1], device).view(1, -1, 2)  # (1,HW,2)
        self.source, self.driving = source, driving
        ratio = (source.scale / driving.scale)[:, :, None]
        self.linear = ratio * (driving.rotation.transpose(1, 2) @ source.rotation)  # A (B,3,3)
        local = source.keypoints - driving.keypoints @ self.linear
        rigid = flat(source.translation) - flat(driving.translation) @ self.linear
        self.translations = torch.cat([local, rigid], 1)  # (B,K+1,3)
        self.reach = reach
        self.distance = _squared_distance(self.grid, driving.keypoints)  # (B,HW,K)
        constant = rigid_logits.expand(*self.distance.shape[:2], 2)
        prior = (-self.distance / (2 * self.reach**2)).clamp(min=MIN_LOGIT)
        self.prior = torch.cat([prior, constant], -1)  # (B,HW,K+2)
        depths = [driving.keypoints[..., 2:], flat(driving.translation)[..., 2:]]
        self.depths = torch.cat(depths, 1)  # (B,K+1,1)

    def flow(self, logits: Tensor, depth_offset: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """Where each cell comes from (B,HW,2), the masks (B,HW,K+2) and the blended translation (B,HW,3)."""
        masks = logits.softmax(-1)
        moving, still = masks[..., :-1], masks[..., -1:]
        depth = (moving @ self.depths) / (moving.sum(-1, keepdim=True) + 1e-4) + depth_offset
        points = torch.cat([self.grid.expand(len(depth), -1, -1), depth], -1)
        translation = moving @ self.translations
        moved = (1 - still) * (points @ self.linear) + translation
        return moved[..., :2] + still * self.grid, masks, translation

    def unet_input(self, context: Tensor, prior_flow: Tensor) -> Tensor:
        """Source context warped by the prior flow, heatmaps of the keypoints, and their remaining errors."""
        where = prior_flow.unflatten(1, self.size)
        width_of = self.reach.clamp(min=max(0.07, 1.8 / self.size[0])) ** 2
        driving = (-self.distance / width_of).clamp(min=MIN_LOGIT).exp()
        away = _squared_distance(self.grid, self.source.keypoints)
        source = (-away / width_of).clamp(min=MIN_LOGIT).exp()
        seen = rows_of(F.grid_sample(map_of(source, self.size), where, align_corners=False))
        nearer = (self.driving.scale - self.source.scale)[:, None].expand(*driving.shape[:2], 1)
        cells = [rows_of(sample(context, where)), driving, seen - driving, prior_flow - self.grid, nearer]
        return map_of(torch.cat(cells, -1), self.size)

    def volume_flow(
        self, masks: Tensor, translation: Tensor, residual: Tensor, follows: Tensor, depth: int
    ) -> Tensor:
        """Lookup grid (B,D,H,W,3) in [-1, 1] for the planes of the feature volume."""
        height, width = self.size
        planes = (torch.arange(depth, device=masks.device, dtype=torch.float32) + 0.5) / depth * 2 - 1
        planes = (planes * DEPTH_REACH + DEPTH_CENTRE)[:, None, None].expand(depth, height * width, 1)
        points = torch.cat([self.grid.expand(depth, -1, -1), planes], -1)  # (D,HW,3)
        turned = (points.reshape(1, -1, 3) @ self.linear).unflatten(1, (depth, height * width))
        still = masks[:, None, :, -1:]
        moved = (1 - still) * turned + translation[:, None] + still * points[None]
        planar = moved[..., :2] + residual.flatten(2).transpose(1, 2)[:, None]
        share = F.avg_pool2d(follows, 2).flatten(2).transpose(1, 2)[:, None]  # (B,1,HW,1)
        planar = self.grid[:, None] + (planar - self.grid[:, None]) * share
        inward = (moved[..., 2:] - DEPTH_CENTRE) / DEPTH_REACH
        return torch.cat([planar, inward], -1).unflatten(2, (height, width))


def _squared_distance(grid: Tensor, keypoints: Tensor) -> Tensor:
    """Squared distances (B,N,K) of cells (1,N,2) and keypoints (B,K,3) in the picture plane."""
    x, y = (grid[:, :, None, axis] - keypoints[:, None, :, axis] for axis in (0, 1))
    return x * x + y * y


def flat(translation: Tensor) -> Tensor:
    """Translation as a point (B,1,3) with z = 0, as the motion formula uses it."""
    return without_depth(translation)[:, None]


def enlarge(displacement: Tensor) -> Tensor:
    """Displacements (B,2,h,w) at twice the resolution. (Interpolated positions would flatten at the border.)"""
    return F.interpolate(displacement, scale_factor=2, mode="bilinear", align_corners=False)


def _absolute(displacement: Tensor) -> Tensor:
    """Lookup grid (B,H,W,2) of displacements (B,2,H,W)."""
    height, width = displacement.shape[-2:]
    # The grid comes first, so that the sum has its layout, x and y interleaved, which lookups read twice as fast.
    return pixel_grid(height, width, displacement.device) + displacement.permute(0, 2, 3, 1)


def moving_window(keypoints: Tensor, height: int, width: int) -> Tensor:
    """1 where W's displacement is kept, 0 where nothing moves: (B,H,W) for driving keypoints (B,21,3)."""
    x, y = pixel_centres(width, keypoints.device), pixel_centres(height, keypoints.device)
    chin, forehead = keypoints[:, CHIN, :2], keypoints[:, FOREHEAD, :2]
    size = (chin - forehead).square().sum(1, keepdim=True).clamp(min=1e-4).sqrt()  # (B,1)
    down = (chin - forehead) / size
    right = torch.stack([-down[:, 1], down[:, 0]], 1)
    u, v = (plane(x, y, axis / size, (chin + forehead) / 2) for axis in (right, down))
    u = u.abs()
    low, high = SHOULDERS
    above_shoulders = _falling((y - low) / (high - low))[:, None]
    following = torch.maximum(_region(u, v, FACE), _region(u, v, HEAD) * above_shoulders)
    inside = (1 - torch.maximum(x.abs(), y.abs()[:, None])) / BORDER
    return following * _falling(1 - inside)


def _region(u: Tensor, v: Tensor, reach: tuple[tuple[float, float], ...]) -> Tensor:
    down, up, side = (
        (value - near) / (far - near) for value, (near, far) in zip((v, -v, u), reach, strict=True)
    )
    vertical, sideways = torch.maximum(down, up).clamp(0, 1), side.clamp(0, 1)
    return _falling((vertical.square() + sideways.square()).clamp(min=1e-8).sqrt())


def _falling(t: Tensor) -> Tensor:
    """Falls smoothly from 1 at t = 0 to 0 at t = 1."""
    t = t.clamp(0, 1)
    return 1 - t * t * (3 - 2 * t)
