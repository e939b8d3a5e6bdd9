"""F, M, W and G as one trainable module that uses only `networks.interface`.

`CompactJointModel` also exposes M's heatmaps, W's flow, and G's painting and mask, for further losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.motion.groups import groups_for
from liveportrait.networks import Networks
from liveportrait.networks.base import apply_spectral_norm
from liveportrait.networks.compact.generator import Generator, blend
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion, Warped
from liveportrait.networks.keypoints import PUBLISHED_LANDMARKS
from liveportrait.training.data.batches import motion_of, pictures_of
from liveportrait.training.losses.transforms import Transform

PATCH_JITTER = 0.08  # of the compact M while training, as in the warm start
# Pairs of a keypoint and the landmark that guides it. BASE: the paper's N = 10 from eyes and lips. From scratch any
# keypoints would do; these are the lip and eye keypoints of the published layout.
GUIDES: dict[str, tuple[tuple[int, int], ...]] = {
    "base": tuple(PUBLISHED_LANDMARKS.items()),
    "compact": tuple((point, point) for point in range(NUM_KEYPOINTS)),
}


@dataclass(frozen=True)
class Pair:
    """Two pictures (B,3,S,S) of one face, RGB in [0, 1] at M's size, and what is known about them."""

    source: Tensor
    driving: Tensor
    source_label: Motion | None = None
    driving_label: Motion | None = None
    transform: Transform | None = None  # if given, driving = transform.pictures(source)

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, batch: dict[str, Tensor], device: torch.device) -> Pair:
        """A batch of `PairSampler` with its labels."""
        return cls(
            source=pictures_of(batch, "source_picture", device),
            driving=pictures_of(batch, "driving_picture", device),
            source_label=motion_of(batch, "source_", device),
            driving_label=motion_of(batch, "driving_", device),
        )


@dataclass
class Scene:
    """M's motions of a pair, and the rendered picture."""

    source: Motion
    driving: Motion
    moved: Motion | None  # of the driving picture under a known transform
    picture: Tensor  # (B,3,size,size) in [0, 1]
    parts: dict[str, Tensor] = field(default_factory=dict)  # specific to a variant, for its own losses


class JointModel(nn.Module):
    """F, M, W and G of any variant."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.variant = networks.variant
        self.appearance, self.motion = networks.appearance, networks.motion
        self.warping, self.generator = networks.warping, networks.generator
        pairs = GUIDES[self.variant.architecture]
        self.guided, self.guides = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
        self.lips = groups_for(self.variant).lips

    def forward(
        self,
        source: Tensor,
        driving: Tensor,
        moved: Tensor | None,
        size: int,
        known: Transform | None = None,
    ) -> Scene:
        """The source rendered with the driving picture's motion; pictures (B,3,S,S) at M's size.

        That motion is M's reading or, with `known`, the source's motion under that transform.

        `size`: side of the pictures that F sees and that are returned. A larger generator output (BASE: 512 from 256)
        is averaged down to it: unless the pictures are larger, there is no ground truth for the finer pixels.
        """
        seen = [source, driving] if moved is None else [source, driving, moved]
        motion, parts = self.read(torch.cat(seen))
        count = len(source)
        motions = [motion.rows(slice(number * count, (number + 1) * count)) for number in range(len(seen))]
        features = self.appearance(resized(source, size))
        with torch.autocast(source.device.type, enabled=False):  # otherwise `@` would run in bfloat16
            driver = motions[1] if known is None else known.motion(motions[0])
            poses = pose_of(motions[0]), pose_of(driver)
        warped = self.warping(features, *poses)
        picture, painted = self.paint(warped)
        return Scene(
            motions[0],
            motions[1],
            motions[2] if moved is not None else None,
            resized(picture.float(), size),
            parts | painted,
        )

    def read(self, pictures: Tensor) -> tuple[Motion, dict[str, Tensor]]:
        """Motion of pictures, and M's further outputs."""
        return self.motion(pictures), {}

    def paint(self, warped: Warped) -> tuple[Tensor, dict[str, Tensor]]:
        """G's picture, and the layers it is made of."""
        return self.generator(warped), {}

    def networks(self) -> Networks:
        """The four networks, for saving."""
        return Networks(self.variant, self.appearance, self.motion, self.warping, self.generator)

    def fix_statistics(self) -> None:
        """Make batch norms use and keep their present statistics, while everything else trains."""
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def resized(pictures: Tensor, size: int) -> Tensor:
    """Pictures (B,3,S,S) at another size: averaged when shrinking, bilinear when enlarging."""
    side = pictures.shape[-1]
    if side == size:
        return pictures
    mode = "area" if size < side else "bilinear"
    return F.interpolate(pictures, size=(size, size), mode=mode)


def at(points: Tensor, rows: Sequence[int]) -> Tensor:
    """Some of the keypoints (B,K,3)."""
    return points[:, list(rows)]


class CompactJointModel(JointModel):
    """The compact networks; keeps the intermediate outputs that the losses of the warm start need."""

    motion: MotionExtractor
    generator: Generator

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def read(self, pictures: Tensor) -> tuple[Motion, dict[str, Tensor]]:
        motion, coarse = self.motion.detailed(pictures, PATCH_JITTER if self.training else 0.0)
        return motion, {"coarse": coarse}

    def paint(self, warped: Warped) -> tuple[Tensor, dict[str, Tensor]]:
        painting, logits = self.generator.layers(warped)
        picture = blend(warped["image"], painting, logits)
        return picture, {"painting": painting, "logits": logits, **warped}


def joint_model(networks: Networks, from_scratch: bool = False) -> JointModel:
    """The module that trains these networks, with the outputs for a variant's own losses if it has any.

    From scratch, BASE's generator gets spectral norm as the published one did; saving folds it in.
    """
    if networks.variant.architecture == "compact":
        return CompactJointModel(networks)
    if from_scratch:
        apply_spectral_norm(networks.generator)
    return JointModel(networks)
