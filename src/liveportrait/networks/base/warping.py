"""W, the warping module: warps the source's feature volume according to the driving keypoints.

The flow field is a mixture of K+1 simple motions, one for each keypoint and one for the still background,
with weights that a 3-D hourglass predicts from the result of each motion (arXiv 2011.15126, sec. 3.2,
without the rotation term).

Coordinates are float32 whatever precision the convolutions run in. The sampling grid puts its outermost
points on the border of the volume (`align_corners=True`) while the sampling places ±1 half a cell outside
(`align_corners=False`). Zero motion is therefore not quite the identity; the published weights were
trained that way and need it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks import geometry
from liveportrait.networks.base.layers import ConvNorm, Hourglass
from liveportrait.networks.interface import NUM_KEYPOINTS, Features, Pose, Warped

HEATMAP_VARIANCE = 0.01


@dataclass(frozen=True)
class WarpingSizes:
    """Widths of W."""

    volume_channels: int = 32
    volume_depth: int = 16
    compressed_channels: int = 4
    hourglass_channels: int = 32
    hourglass_max_channels: int = 1024
    hourglass_blocks: int = 5
    output_channels: int = 256


def coordinate_grid(depth: int, height: int, width: int, device: torch.device) -> Tensor:
    """Coordinates (D,H,W,3) of a volume's cells, in the order (x, y, z), from -1 to 1 on each axis."""
    z, y, x = (torch.linspace(-1.0, 1.0, size, device=device) for size in (depth, height, width))
    grid = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack(grid[::-1], dim=-1)


def sparse_motions(grid: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    """The positions from which the K+1 motions fetch each cell: (B,K+1,D,H,W,3).

    Motion 0 is the still background, motion k+1 moves the driving keypoint k onto the source's.
    grid (D,H,W,3); source and driving keypoints (B,K,3).
    """
    shifts = F.pad(source - driving, (0, 0, 1, 0))  # (B, K+1, 3), the first is zero
    return grid + shifts[:, :, None, None, None, :]


def heatmap_difference(grid: Tensor, source: Tensor, driving: Tensor) -> Tensor:
    """Gaussians around the driving keypoints minus those around the source's: (B,K,D,H,W)."""

    def heatmap(keypoints: Tensor) -> Tensor:
        offset = grid - keypoints[:, :, None, None, None, :]  # (B, K, D, H, W, 3)
        return torch.exp(-0.5 * offset.square().sum(dim=-1) / HEATMAP_VARIANCE)

    return heatmap(driving) - heatmap(source)


def sample_volume(volume: Tensor, flow: Tensor) -> Tensor:
    """The volume (B,C,D,H,W) fetched, trilinearly, from the coordinates (B,D,H,W,3); zero outside."""
    return geometry.sample_volume(volume.float(), flow, "zeros")


class DenseMotionNetwork(nn.Module):
    """Mixes the sparse motions into one flow, and predicts what the source cannot show."""

    def __init__(self, sizes: WarpingSizes) -> None:
        super().__init__()
        motions = NUM_KEYPOINTS + 1
        self.compress = nn.Conv3d(sizes.volume_channels, sizes.compressed_channels, kernel_size=1)
        self.norm = nn.BatchNorm3d(sizes.compressed_channels)
        self.hourglass = Hourglass(
            motions * (sizes.compressed_channels + 1),
            sizes.hourglass_channels,
            sizes.hourglass_max_channels,
            sizes.hourglass_blocks,
        )
        channels = self.hourglass.output_channels
        self.mask = nn.Conv3d(channels, motions, kernel_size=7, padding=3)
        self.occlusion = nn.Conv2d(channels * sizes.volume_depth, 1, kernel_size=7, padding=3)

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (B,D,H,W,3), float32, and occlusion map (B,1,H,W) in [0, 1], 1 where the source can be used.

        volume (B,C,D,H,W); source and driving keypoints (B,21,3).
        """
        source, driving = source.float(), driving.float()
        depth, height, width = volume.shape[2:]
        grid = coordinate_grid(depth, height, width, volume.device)
        motions = sparse_motions(grid, source, driving)  # (B, 22, D, H, W, 3)
        heatmaps = heatmap_difference(grid, source, driving)
        heatmaps = F.pad(heatmaps, (0, 0, 0, 0, 0, 0, 1, 0))  # (B, 22, D, H, W), the background's is zero

        compressed = F.relu(self.norm(self.compress(volume)))  # (B, 4, D, H, W)
        count = motions.shape[1]
        moved = sample_volume(compressed.repeat_interleave(count, dim=0), motions.flatten(0, 1))
        moved = moved.unflatten(0, (-1, count))  # (B, 22, 4, D, H, W)
        seen = torch.cat([heatmaps[:, :, None], moved], dim=2).flatten(1, 2)  # (B, 110, D, H, W)

        out = self.hourglass(seen.to(compressed.dtype))  # (B, 142, D, H, W)
        weights = self.mask(out).float().softmax(dim=1)  # (B, 22, D, H, W)
        flow = (weights[..., None] * motions).sum(dim=1)
        return flow, self.occlusion(out.flatten(1, 2)).sigmoid()


class WarpingModule(nn.Module):
    """Warps the volume along the dense motion and flattens it to the map that G starts from."""

    def __init__(self, sizes: WarpingSizes) -> None:
        super().__init__()
        self.dense_motion_network = DenseMotionNetwork(sizes)
        flat = sizes.volume_channels * sizes.volume_depth
        self.third = ConvNorm(flat, sizes.output_channels, slope=0.01)
        self.fourth = nn.Conv2d(sizes.output_channels, sizes.output_channels, kernel_size=1)

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        """The warped map (B,256,64,64) of the volume (B,32,16,64,64). Uses only the poses' keypoints."""
        volume = features["volume"]
        flow, occlusion = self.dense_motion_network(volume, source.keypoints, driving.keypoints)
        warped = sample_volume(volume, flow).to(volume.dtype).flatten(1, 2)  # (B, 512, 64, 64)
        return {"feature": self.fourth(self.third(warped)) * occlusion}
