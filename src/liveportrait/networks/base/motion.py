"""M, the motion extractor: ConvNeXt V2 (arXiv 2301.00808) with linear heads for the motion."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.geometry import POSE_BINS, decode_pose_bins, rotation_matrix
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion

LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class MotionSizes:
    """Widths and numbers of blocks of the four stages, at strides 4, 8, 16 and 32."""

    channels: tuple[int, int, int, int] = (96, 192, 384, 768)
    blocks: tuple[int, int, int, int] = (3, 3, 9, 3)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """GRN of the ConvNeXt V2 paper (sec. 3.3) on (B,H,W,C): channels compete by their energy."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)  # (B, 1, 1, C)
        share = (energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)
        return self.gamma * (x * share) + self.beta + x


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution, then a pointwise MLP with GRN; (B,C,H,W) in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GlobalResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.dwconv(x).permute(0, 2, 3, 1))  # (B, H, W, C)
        out = self.pwconv2(self.grn(F.gelu(self.pwconv1(out))))
        return x + out.permute(0, 3, 1, 2)


class Detector(nn.Module):
    """The backbone and its heads."""

    def __init__(self, sizes: MotionSizes) -> None:
        super().__init__()
        channels = sizes.channels
        stem = nn.Sequential(nn.Conv2d(3, channels[0], kernel_size=4, stride=4), ChannelNorm(channels[0]))
        self.downsample_layers = nn.ModuleList([stem])
        for width, following in pairwise(channels):
            halve = nn.Conv2d(width, following, kernel_size=2, stride=2)
            self.downsample_layers.append(nn.Sequential(ChannelNorm(width), halve))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(width) for _ in range(count)))
            for width, count in zip(channels, sizes.blocks, strict=True)
        )
        self.norm = nn.LayerNorm(channels[-1], eps=LAYER_NORM_EPS)
        self.fc_kp = nn.Linear(channels[-1], NUM_KEYPOINTS * 3)
        self.fc_scale = nn.Linear(channels[-1], 1)
        self.fc_pitch = nn.Linear(channels[-1], POSE_BINS)
        self.fc_yaw = nn.Linear(channels[-1], POSE_BINS)
        self.fc_roll = nn.Linear(channels[-1], POSE_BINS)
        self.fc_t = nn.Linear(channels[-1], 3)
        self.fc_exp = nn.Linear(channels[-1], NUM_KEYPOINTS * 3)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Code (B,768) of pictures (B,3,256,256), the input of the heads."""
        out = image
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            out = stage(downsample(out))  # (B, 768, 8, 8) in the end
        return self.norm(out.mean(dim=(2, 3)))


class MotionExtractor(nn.Module):
    """Extracts a face's motion from one picture of it."""

    def __init__(self, sizes: MotionSizes) -> None:
        super().__init__()
        self.detector = Detector(sizes)

    def forward(self, image: Tensor) -> Motion:
        """Motion (float32) of pictures (B,3,256,256), RGB in [0, 1]."""
        heads = self.detector
        code = heads(image)  # (B, 768)
        pitch, yaw, roll = (
            decode_pose_bins(head(code).float()) for head in (heads.fc_pitch, heads.fc_yaw, heads.fc_roll)
        )
        return Motion(
            rotation=rotation_matrix(pitch, yaw, roll),  # (B, 3, 3)
            translation=heads.fc_t(code).float(),  # (B, 3)
            scale=heads.fc_scale(code).float(),  # (B, 1)
            canonical=heads.fc_kp(code).float().unflatten(1, (NUM_KEYPOINTS, 3)),  # (B, 21, 3)
            expression=heads.fc_exp(code).float().unflatten(1, (NUM_KEYPOINTS, 3)),  # (B, 21, 3)
        )


def _initialise(module: nn.Module) -> None:
    """ConvNeXt's initial weights: a narrow normal distribution, biases at zero."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
