"""F, M, W and G with fixed weights: gradients pass through the rendering to the keypoints only."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.motion import SeenKeypoints, groups_for, snap_to_landmarks
from liveportrait.motion.groups import KeypointGroups
from liveportrait.networks import Networks, Variant
from liveportrait.networks.compact.warping import WarpingModule
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import CROP_SIDE, Features, Motion, Pose

BATCH = 16

Record = TypeVar("Record", Motion, Pose)


class FrozenNetworks:
    """The networks in evaluation mode, without gradients for their weights; with `bf16`, under bfloat16 autocast."""

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
            motion: Motion = self.networks.motion(self._fitting(pictures))
        return motion.map(Tensor.float)

    def motions(self, frames: NDArray[np.uint8], rows: NDArray[np.int64]) -> Motion:
        """M of the given rows of frames (N,256,256,3)."""
        batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
        return Motion.cat(self.motion(to_pictures(frames[batch], self.device)) for batch in batches)

    def tracked_motion(self, pictures: Tensor, seen: SeenKeypoints, tracked: Tensor) -> Motion:
        """M of sources (B,3,256,256). If keypoints are landmarks, the `seen` ones (px of 256) replace M's for sources
        marked `tracked` (B,), because in use a source's face is usually tracked.
        """
        motion = self.motion(pictures)
        if not self.groups.keypoints_are_landmarks:
            return motion
        return choose_by_row(tracked, snap_to_landmarks(motion, seen, CROP_SIDE), motion)

    def features(self, pictures: Tensor) -> Features:
        """F of sources (B,3,256,256)."""
        with torch.no_grad(), self._precision():
            features: Features = self.networks.appearance(self._fitting(pictures))
        return features

    def source(self, pictures: Tensor) -> tuple[Features, Motion, Pose]:
        """F and M of sources (B,3,256,256), and their pose."""
        motion = self.motion(pictures)
        return self.features(pictures), motion, pose_of(motion)

    def context(self, pictures: Tensor, size: int) -> Tensor:
        """The features (B,c,h,w) of sources (B,3,256,256) that W's flow depends on, at another size. COMPACT only."""
        self._compact_warping()
        small = torch.nn.functional.interpolate(pictures, size=(size, size), mode="area")
        with torch.no_grad(), self._precision():
            context: Tensor = self.networks.appearance(small)["context"]
        return context

    def flow(self, context: Tensor, source: Pose, driving: Pose) -> Tensor:
        """W's flow (B,h,w,2) in [-1, 1] from `context`, without warping anything. COMPACT only."""
        with self._precision():
            return self._compact_warping().flow(context, source, driving).float()

    def render(self, features: Features, source: Pose, driving: Pose) -> tuple[Tensor, Tensor | None]:
        """G's pictures (B,3,S,S) and W's flow (B,h,w,2), which is None if the variant has none."""
        with self._precision():
            warped = self.networks.warping(features, source, driving)
            picture = self.networks.generator(warped)
        return picture.float(), warped["flow"].float() if "flow" in warped else None

    def _compact_warping(self) -> WarpingModule:
        if not isinstance(self.networks.warping, WarpingModule):
            raise UserError("only compact weights expose their flow: remove [stitching.flow]")
        return self.networks.warping

    def _fitting(self, pictures: Tensor) -> Tensor:
        size = self.variant.input_size
        if pictures.shape[-1] == size:
            return pictures
        return torch.nn.functional.interpolate(pictures, size=(size, size), mode="area")

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def to_pictures(frames: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Pictures (B,3,S,S), float in [0, 1], from frames (B,S,S,3)."""
    return torch.from_numpy(np.array(frames)).to(device).permute(0, 3, 1, 2).float().div(255)


def repeated(values: Features, count: int) -> Features:
    """Every row repeated `count` times, the rows of one source next to each other."""
    return {name: value.repeat_interleave(count, dim=0) for name, value in values.items()}


def repeated_rows(record: Record, count: int) -> Record:
    """Every row repeated `count` times, the rows of one source next to each other."""
    return record.map(lambda part: part.repeat_interleave(count, dim=0))


def choose_by_row(rows: Tensor, motion: Motion, other: Motion) -> Motion:
    """`motion` in the rows (B,) that are True, `other` in the rest."""
    parts = zip(motion, other, strict=True)
    return Motion(*(torch.where(rows.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in parts))
