"""F and W of the published architecture with fewer operations and the same numbers up to rounding.

- The compressed volume depends on the source alone: F makes it, once, and W finds it among the features.
- The 22 sparse motions are translations. A regular grid that is moved stays regular, so that sampling it is a linear
  interpolation along each axis, a product with a matrix: 22 samplings of a volume become three batched products.
- A Gaussian heatmap is the product of three one-dimensional ones.
- A flow that mixes "where I am + shift k" with weights of sum 1 is "where I am" + the mixture of the shifts.
- The decoder's convolutions see maps of repeated pixels: see `upsampling`.
- The last convolutions have few outputs: see `few_outputs`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.rewrites.few_outputs import PixelTaps, SliceTaps
from liveportrait.engine.rewrites.upsampling import after_enlarging
from liveportrait.networks.base.appearance import AppearanceFeatureExtractor
from liveportrait.networks.base.layers import Decoder
from liveportrait.networks.base.warping import (
    HEATMAP_VARIANCE,
    DenseMotionNetwork,
    WarpingModule,
    coordinate_grid,
)
from liveportrait.networks.interface import Features, Pose, Warped
from liveportrait.networks.sampling import sample_volume


class FastAppearance(nn.Module):
    """F, and the first layer of W, which looks at the source alone."""

    def __init__(self, appearance: AppearanceFeatureExtractor, warping: WarpingModule) -> None:
        super().__init__()
        self.appearance = appearance
        self.compress = warping.dense_motion_network.compress  # its batch norm has been folded

    def forward(self, image: Tensor) -> Features:
        """Volume (B,32,16,64,64) and compressed (B,4,16,64,64) of pictures (B,3,256,256), RGB in [0, 1]."""
        volume = self.appearance(image)["volume"]
        return {"volume": volume, "compressed": F.relu(self.compress(volume))}


class FastDecoder(nn.Module):
    """The hourglass's way up; it never holds an enlarged map of the level below."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList(after_enlarging(block.conv, 2) for block in decoder.up_blocks)  # type: ignore[arg-type]
        self.conv = decoder.conv

    def forward(self, levels: list[Tensor]) -> Tensor:
        out = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            out = torch.cat([F.relu(block(out)), skip], dim=1)
        return F.relu(self.conv(out))


class FastDenseMotion(nn.Module):
    """The flow and the occlusion map of `DenseMotionNetwork`, from the compressed volume."""

    def __init__(self, network: DenseMotionNetwork) -> None:
        super().__init__()
        self.encoder, self.decoder = network.hourglass.encoder, FastDecoder(network.hourglass.decoder)
        self.mask, self.occlusion = SliceTaps(network.mask), PixelTaps(network.occlusion)

    def forward(self, compressed: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (B,D,H,W,3), float32, and occlusion map (B,1,H,W) in [0, 1].

        compressed (B,4,D,H,W); source and driving keypoints (B,21,3).
        """
        with torch.autocast(compressed.device.type, enabled=False):
            source, driving = source.float(), driving.float()
            shifts, seen = seen_motions(compressed.float(), source, driving)
        out = self.decoder(self.encoder(seen.to(compressed.dtype)))  # (B, 142, D, H, W)
        logits = self.mask(out)
        with torch.autocast(compressed.device.type, enabled=False):
            weights = logits.float().softmax(dim=1).flatten(2)  # (B, 22, D·H·W)
            size = compressed.shape[2:]
            shift = (weights.transpose(1, 2) @ shifts).unflatten(1, size)
            flow = coordinate_grid(size[0], size[1], size[2], compressed.device) + shift
        return flow, self.occlusion(out.flatten(1, 2)).sigmoid()


class FastWarping(nn.Module):
    """Gives what `WarpingModule` does, on features of `FastAppearance`."""

    def __init__(self, warping: WarpingModule) -> None:
        super().__init__()
        self.dense_motion = FastDenseMotion(warping.dense_motion_network)
        self.third, self.fourth = warping.third, warping.fourth

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        """The warped map (B,256,64,64) of the source's features. Uses the poses' keypoints alone."""
        volume = features["volume"]
        flow, occlusion = self.dense_motion(features["compressed"], source.keypoints, driving.keypoints)
        warped = (
            sample_volume(volume.float(), flow, "zeros").to(volume.dtype).flatten(1, 2)
        )  # (B, 512, 64, 64)
        return {"feature": self.fourth(self.third(warped)) * occlusion}


def seen_motions(compressed: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts (B,22,3) of the sparse motions, and what the hourglass sees of them, (B,110,D,H,W).

    compressed (B,4,D,H,W); source and driving keypoints (B,21,3); all float32.
    """
    shifts = F.pad(source - driving, (0, 0, 1, 0))  # the background's is zero
    size = compressed.shape[2:]
    heatmaps = _heatmaps(driving, size) - _heatmaps(source, size)
    heatmaps = F.pad(heatmaps, (0, 0, 0, 0, 0, 0, 1, 0))  # (B, 22, D, H, W)
    moved = _translated(compressed, shifts)  # (B, 22, 4, D, H, W)
    return shifts, torch.cat([heatmaps[:, :, None], moved], dim=2).flatten(1, 2)


def _axes(size: torch.Size, device: torch.device) -> list[Tensor]:
    """Coordinates of the cells along x (W,), y (H,) and z (D,), from -1 to 1, for a size (D,H,W)."""
    return [torch.linspace(-1.0, 1.0, cells, device=device) for cells in reversed(size)]


def _heatmaps(keypoints: Tensor, size: torch.Size) -> Tensor:
    """Gaussians (B,K,D,H,W) around keypoints (B,K,3)."""
    x, y, z = (
        torch.exp(-0.5 * (axis - keypoints[..., index, None]).square() / HEATMAP_VARIANCE)
        for index, axis in enumerate(_axes(size, keypoints.device))
    )
    return z[..., :, None, None] * (y[..., :, None] * x[..., None, :])[:, :, None]


def _translated(volume: Tensor, shifts: Tensor) -> Tensor:
    """The volume (B,C,D,H,W) fetched from every cell's place plus shift k (B,K,3): (B,K,C,D,H,W); zero outside.

    As `sample_volume` does it: cells lie on the border of [-1, 1], and ±1 is looked up half a cell outside.
    """
    x, y, z = (
        _interpolation(axis + shifts[..., index, None])
        for index, axis in enumerate(_axes(volume.shape[2:], volume.device))
    )
    channels, depth, height, width = volume.shape[1:]
    out = volume.reshape(len(volume), 1, -1, width) @ x.transpose(-1, -2)  # (B, K, C·D·H, W)
    out = y[:, :, None] @ out.unflatten(2, (channels * depth, height))  # (B, K, C·D, H, W)
    out = z[:, :, None] @ out.flatten(3).unflatten(2, (channels, depth))  # (B, K, C, D, H·W)
    return out.unflatten(-1, (height, width))


def _interpolation(places: Tensor) -> Tensor:
    """Matrices (...,N,N) that take values at N cells to linearly interpolated ones at places (...,N) in [-1, 1]."""
    cells = places.shape[-1]
    place = ((places + 1) * cells - 1) / 2
    return F.relu(1 - (place[..., None] - torch.arange(cells, device=places.device)).abs())
