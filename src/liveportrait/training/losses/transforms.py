"""Known random motions of a picture: an affine map and a thin-plate spline (first-order model, arXiv 2003.00196).

A transform T says where each point of the moved picture comes from: moved(p) = picture(T(p)). A keypoint found
at p in the moved picture therefore lies at T(p) in the picture, in closed form, with no inversion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion

FADE = 0.4  # share of the reach over which the motion fades


@dataclass(frozen=True)
class Transform:
    """T(p) = p A + b + Σ_c w_c φ(|p − c|²) for each picture of a batch, φ(r²) = r² log r².

    With a `reach`, the middle moves fully and the background stands still.
    """

    linear: Tensor  # (B,2,2) A
    shift: Tensor  # (B,2) b
    control: Tensor  # (C,2) c
    spline: Tensor  # (B,C,2) w
    reach: float | None = None  # radius around the picture's centre beyond which nothing moves

    def points(self, points: Tensor) -> Tensor:
        """T of points (B,N,2) in [-1, 1]; differentiable."""
        squared = (points[:, :, None] - self.control).square().sum(-1)  # (B,N,C)
        bending = (squared * (squared + 1e-6).log()) @ self.spline
        moved = points @ self.linear + self.shift[:, None] + bending
        if self.reach is None:
            return moved
        away = points.norm(dim=-1, keepdim=True)
        share = ((self.reach - away) / (FADE * self.reach)).clamp(0, 1)
        return points + share * (moved - points)

    def inverse(self, points: Tensor, steps: int = 20) -> Tensor:
        """T⁻¹ of points (B,N,2): where points of the picture lie in the moved one.

        Fixed-point iteration p ← p + (x − T(p)) A⁻¹. It converges because the spline is small compared to A and the
        points are far from where the motion fades.
        """
        undo = torch.linalg.inv(self.linear)
        found = (points - self.shift[:, None]) @ undo
        for _ in range(steps):
            found = found + (points - self.points(found)) @ undo
        return found

    def motion(self, motion: Motion) -> Motion:
        """The motion of the moved picture: turned, zoomed and shifted by A and b, with keypoints exactly T⁻¹(x)."""
        zoom = torch.linalg.det(self.linear).sqrt()[:, None]  # (B,1)
        turn = (self.linear / zoom[:, :, None]).transpose(1, 2)  # (B,2,2), of the moved picture, row vectors
        roll = F.pad(turn, (0, 1, 0, 1))
        roll[:, 2, 2] = 1
        rotation, scale = motion.rotation @ roll, motion.scale / zoom
        shift = ((motion.translation[:, :2] - self.shift)[:, None] @ turn)[:, 0] / zoom
        planar = self.inverse(transform_keypoints(motion)[..., :2])
        turned = (motion.canonical @ rotation)[..., :2]
        expression = (planar - shift[:, None]) / scale[:, :, None] - turned
        return Motion(
            rotation,
            torch.cat([shift, motion.translation[:, 2:]], 1),
            scale,
            motion.canonical,
            torch.cat([expression, motion.expression[..., 2:]], -1),
        )

    def pictures(self, pictures: Tensor) -> Tensor:
        """The moved pictures (B,C,S,S); outside a picture its reflection continues."""
        height, width = pictures.shape[-2:]
        theta = torch.eye(2, 3, device=pictures.device)[None]
        grid = F.affine_grid(theta.expand(len(pictures), -1, -1), list(pictures.shape), align_corners=False)
        where = self.points(grid.flatten(1, 2)).view(-1, height, width, 2)
        return F.grid_sample(pictures, where, padding_mode="reflection", align_corners=False)


def random_transform(
    batch: int,
    degrees: float = 20.0,
    zoom: float = 0.15,
    shift: float = 0.1,
    bend: float = 0.005,
    control: int = 5,
    reach: float | None = None,
    device: torch.device | str = "cpu",
) -> Transform:
    """A similarity within the given turn, log zoom and shift, bent by a spline of `control`² points.

    `bend` is the standard deviation of the weights w (the first-order model's 0.005). Random numbers are drawn
    on the CPU, so that they are the same on every device.
    """
    angle = torch.deg2rad((2 * torch.rand(batch) - 1) * degrees)
    size = ((2 * torch.rand(batch) - 1) * zoom).exp()
    c, s = size * angle.cos(), size * angle.sin()
    linear = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], 1)
    axis = torch.linspace(-1, 1, control)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(-1, 2)
    moved = (2 * torch.rand(batch, 2) - 1) * shift
    weights = bend * torch.randn(batch, control * control, 2)
    return Transform(linear.to(device), moved.to(device), points.to(device), weights.to(device), reach)
