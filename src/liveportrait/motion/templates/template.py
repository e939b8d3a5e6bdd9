"""A motion template: the motion of a face, frame by frame, to be replayed on any portrait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.motion.groups import FACE_MESH, PUBLISHED, KeypointGroups
from liveportrait.motion.transfer import change_since, relative
from liveportrait.networks.expression import SCORES
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion

MAX_FPS = 1000


@dataclass(frozen=True, eq=False)
class Template:
    """A Motion of N frames with its frame rate.

    `motion.canonical` is NaN if the file has none: replaying never uses it. Raises `UserError` if shapes disagree,
    numbers are not finite, a scale is not positive or a rotation is not a rotation matrix.
    """

    motion: Motion  # batch axis = frames, float32
    fps: Fraction
    layout: str  # name of the keypoint layout (KeypointGroups.layout)
    eye_ratios: Tensor | None = None  # (N,2) opening of the left and right eye
    lip_ratios: Tensor | None = None  # (N,1) opening of the lips
    blendshapes: Tensor | None = None  # (N,52) scores in MediaPipe's order

    def __post_init__(self) -> None:
        count = self.motion.rotation.shape[0] if self.motion.rotation.ndim else 0
        if count == 0:
            raise UserError("the motion template has no frames")
        if not 0 < self.fps <= MAX_FPS:
            raise UserError(f"the motion template has {self.fps} frames per second, not 0 to {MAX_FPS}")
        tensors: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
            "rotation": (self.motion.rotation, (3, 3)),
            "translation": (self.motion.translation, (3,)),
            "scale": (self.motion.scale, (1,)),
            "expression": (self.motion.expression, (NUM_KEYPOINTS, 3)),
            "canonical": (self.motion.canonical, (NUM_KEYPOINTS, 3)),
            "eye_ratios": (self.eye_ratios, (2,)),
            "lip_ratios": (self.lip_ratios, (1,)),
            "blendshapes": (self.blendshapes, (SCORES,)),
        }
        for name, (tensor, shape) in tensors.items():
            if tensor is None:
                continue
            if tuple(tensor.shape) != (count, *shape) or tensor.dtype != torch.float32:
                raise UserError(
                    f"the motion template's {name} is {tensor.dtype} {tuple(tensor.shape)},"
                    f" it should be torch.float32 {(count, *shape)}"
                )
            known_absent = name == "canonical" and bool(tensor.isnan().all())
            if not known_absent and not tensor.isfinite().all():
                frame = int((~tensor.flatten(1).isfinite().all(1)).nonzero()[0])
                raise UserError(
                    f"the motion template's {name} holds numbers that are not finite in frame {frame}"
                )
        if (self.motion.scale <= 0).any():
            raise UserError("the motion template has a frame whose scale is not positive")
        rotation = self.motion.rotation
        if ((rotation @ rotation.transpose(1, 2) - torch.eye(3)).abs() > 1e-2).any():
            raise UserError("the motion template has a frame whose rotation is not a rotation matrix")

    def __len__(self) -> int:
        return self.motion.batch

    def frame(self, index: int) -> Motion:
        """The motion of one frame, batch 1."""
        return self.motion.rows([index])

    def require_layout(self, groups: KeypointGroups, name: str = "the motion template") -> None:
        """Raise `UserError` if the template's keypoint layout differs from that of `groups`."""
        if self.layout != groups.layout:
            raise UserError(
                f"{name} was made with the keypoint layout {self.layout!r}, but the weights"
                f" use {groups.layout!r}: make it again from its video with these weights"
            )


def unknown_canonical(count: int) -> Tensor:
    """The canonical keypoints (count,21,3) of a template that has none: NaN, so that any use is noticed."""
    return torch.full((count, NUM_KEYPOINTS, 3), torch.nan)


def concatenate(templates: Sequence[Template]) -> Template:
    """One template that plays several in a row, each of them from the first frame of the first one.

    It is for relative motion: every part starts from the source's own pose and expression.
    Raises `ValueError` if frame rates or layouts differ.
    """
    first = templates[0]
    if any(t.fps != first.fps or t.layout != first.layout for t in templates):
        raise ValueError("templates with different frame rates or layouts cannot be joined")
    groups, home = FACE_MESH if first.layout == FACE_MESH.layout else PUBLISHED, first.frame(0)
    changes = (change_since(template.motion, template.frame(0), groups) for template in templates)
    joined = Motion.cat(relative(home, change, "all", groups) for change in changes)
    return Template(joined._replace(canonical=unknown_canonical(joined.batch)), first.fps, first.layout)
