"""F, M, W and G with fixed weights: rendering through which gradients reach the keypoints alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.motion import SeenKeypoints, agree, groups_for
from liveportrait.motion.groups import KeypointGroups
from liveportrait.networks import Networks, Variant
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Motion, Pose

BATCH = 16


class FrozenNetworks:
    """Evaluation mode, no gradients of their own; convolutions in bfloat16 where wanted."""

    def __init__(self, networks: Networks, device: torch.device, bf16: bool) -> None:
        self.networks, self.device, self.bf16 = networks, device, bf16
        for module in networks.modules().values():
            module.to(device).eval().requires_grad_(False)

    @property
    def groups(self) -> KeypointGroups:
        """The keypoint groups of the variant."""
        return groups_for(self.networks.variant)

    @property
    def variant(self) -> Variant:
        """The variant of the networks."""
        return self.networks.variant

    def motion(self, pictures: Tensor) -> Motion:
        """M of pictures (B,3,256,256), float32."""
        with torch.no_grad(), self._precision():
            return Motion(*(part.float() for part in self.networks.motion(self._fitting(pictures))))

    def motions(self, frames: NDArray[np.uint8], rows: NDArray[np.int64]) -> Motion:
        """M of some of the frames (N,256,256,3)."""
        parts = [
            self.motion(to_pictures(frames[rows[start : start + BATCH]], self.device))
            for start in range(0, len(rows), BATCH)
        ]
        return Motion(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def source(
        self, pictures: Tensor, seen: SeenKeypoints | None = None, tracked: Tensor | None = None
    ) -> tuple[Features, Motion, Pose]:
        """F and M of sources (B,3,256,256), and their pose.

        Where keypoints are landmarks, those `seen` (px of 256) are taken for the sources marked `tracked` (B,):
        in use, a source's face has been tracked as a rule.
        """
        motion = self.motion(pictures)
        if seen is not None and tracked is not None and self.groups.measured:
            agreed = agree(motion, seen, 256)
            motion = Motion(
                *(
                    torch.where(tracked.view(-1, *[1] * (a.ndim - 1)), b, a)
                    for a, b in zip(motion, agreed, strict=True)
                )
            )
        with torch.no_grad(), self._precision():
            return self.networks.appearance(self._fitting(pictures)), motion, pose_of(motion)

    def flow(self, features: Features, source: Pose, driving: Pose) -> Tensor | None:
        """W's flow (B,h,w,2) in [-1, 1], without G; None where the variant tells none."""
        with self._precision():
            warped = self.networks.warping(features, source, driving)
        return warped["flow"].float() if "flow" in warped else None

    def render(self, features: Features, source: Pose, driving: Pose) -> tuple[Tensor, Tensor | None]:
        """G's pictures (B,3,S,S) and W's flow (B,h,w,2), None where the variant tells none."""
        with self._precision():
            warped = self.networks.warping(features, source, driving)
            picture = self.networks.generator(warped)
        return picture.float(), warped["flow"].float() if "flow" in warped else None

    def _fitting(self, pictures: Tensor) -> Tensor:
        size = self.variant.input_size
        if pictures.shape[-1] == size:
            return pictures
        return torch.nn.functional.interpolate(pictures, size=(size, size), mode="area")

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def to_pictures(frames: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Pictures (B,3,S,S) float in [0, 1] of frames (B,S,S,3)."""
    return torch.from_numpy(np.array(frames)).to(device).permute(0, 3, 1, 2).float().div(255)


def repeated(values: Features, count: int) -> Features:
    """Every row `count` times, rows of one source side by side."""
    return {name: value.repeat_interleave(count, dim=0) for name, value in values.items()}


def repeated_pose(pose: Pose, count: int) -> Pose:
    """Every row `count` times, rows of one source side by side."""
    return Pose(*(part.repeat_interleave(count, dim=0) for part in pose))
