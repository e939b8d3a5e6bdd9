"""From a driver's motion to the motion that the source should take.

All functions are pure and batched: the source has batch 1 or N, the driver batch N, the result batch N.
The canonical keypoints are always the source's own: they are its identity.
"""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import Region
from liveportrait.motion.groups import KeypointGroups
from liveportrait.networks.interface import Motion

_HEAD_REGIONS = ("all", "pose")


def change_since(driving: Motion, first: Motion) -> Motion:
    """What changed between `first` (batch 1) and `driving` (batch N), as a Motion to add to another face.

    Rotation R·R_0ᵀ, translation t − t_0, scale s/s_0, expression δ − δ_0. The canonical keypoints are
    the driver's and take no part.
    """
    return Motion(
        rotation=driving.rotation @ first.rotation.transpose(1, 2),
        translation=driving.translation - first.translation,
        scale=driving.scale / first.scale,
        canonical=driving.canonical,
        expression=driving.expression - first.expression,
    )


def fix_canonical(driving: Motion, first: Motion, groups: KeypointGroups) -> Motion:
    """The driver's motion (batch N) told with the canonical keypoints of its first frame (batch 1).

    Where keypoints are landmarks they are measured well in every frame, but how a frame divides them into
    identity and expression fluctuates. With one identity for the whole driver all of x counts as motion:
    x stays as it is, δ takes up (x_c − x_c,0) R. Published keypoints are left as they are.
    """
    if not groups.keypoints_are_landmarks:
        return driving
    # Templates may not know the canonical keypoints (NaN); then there is nothing to set right.
    excess = torch.nan_to_num(driving.canonical - first.canonical) @ driving.rotation
    canonical = _repeat(first.canonical, len(excess))
    return driving._replace(canonical=canonical, expression=driving.expression + excess)


def relative(source: Motion, change: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """The source moved by a driver's change (`change_since`), within a region of the face.

    Head pose and position follow in "all" and "pose"; scale in "all" only; expression on all keypoints
    in "all" and "expression", and on the lips' or eyes' keypoints alone in "lips" and "eyes".
    """
    mask = groups.relative_mask(region).to(change.expression.device)
    count = change.expression.shape[0]
    moves_head = region in _HEAD_REGIONS
    rotation = change.rotation @ source.rotation if moves_head else _repeat(source.rotation, count)
    translation = _repeat(source.translation, count)
    if moves_head:
        translation = translation + change.translation
    scale = source.scale * change.scale if region == "all" else _repeat(source.scale, count)
    return Motion(
        rotation=rotation,
        translation=_without_depth(translation),
        scale=scale,
        canonical=_repeat(source.canonical, count),
        expression=source.expression + torch.where(mask, change.expression, 0.0),
    )


def relative_from_photo(source: Motion, driving: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """The source with a driving photo's expression added: a photo has no first frame to compare with.

    The expression added is δ_d minus the layout's neutral expression (the eyes region subtracts
    nothing, as in the published program). Pose, position and scale stay the source's.
    """
    offset = driving.expression
    if region != "eyes":
        offset = offset - groups.neutral_expression().to(offset.device)
    count = offset.shape[0]
    stay = Motion(
        rotation=_repeat(torch.eye(3, dtype=offset.dtype, device=offset.device)[None], count),
        translation=torch.zeros_like(driving.translation),
        scale=torch.ones_like(driving.scale),
        canonical=driving.canonical,
        expression=offset,
    )
    return relative(source, stay, region, groups)


def in_place(motion: Motion, source: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """What relative motion changes in a source that moves by itself: it goes where the source goes.

    Position and scale are the source's own, and of the expression only the layout's `absolute` coordinates follow
    the driver (in the regions "all" and "expression"), as in the published program.
    """
    mask = groups.absolute_mask(region).to(motion.expression.device)
    count = motion.expression.shape[0]
    return motion._replace(
        translation=_without_depth(_repeat(source.translation, count)),
        scale=_repeat(source.scale, count),
        expression=torch.where(mask, motion.expression, source.expression),
    )


def take_pose(motion: Motion, driving: Motion) -> Motion:
    """The motion with the driver's own head rotation: what a driving photo shows of its pose (batch 1 or N)."""
    return motion._replace(rotation=_repeat(driving.rotation, motion.rotation.shape[0]))


def absolute(source: Motion, driving: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """The source with the driver's own pose, position and expression; the scale stays the source's.

    Expression is replaced on the layout's `absolute` coordinates in "all" and "expression", on the
    lips' or eyes' keypoints in "lips" and "eyes", and nowhere in "pose".
    """
    mask = groups.absolute_mask(region).to(driving.expression.device)
    count = driving.expression.shape[0]
    head = driving if region in _HEAD_REGIONS else source
    return Motion(
        rotation=_repeat(head.rotation, count),
        translation=_without_depth(_repeat(head.translation, count)),
        scale=_repeat(source.scale, count),
        canonical=_repeat(source.canonical, count),
        expression=torch.where(mask, driving.expression, source.expression),
    )


def _repeat(value: Tensor, count: int) -> Tensor:
    return value.expand(count, *value.shape[1:])


def _without_depth(translation: Tensor) -> Tensor:
    return torch.cat([translation[:, :2], torch.zeros_like(translation[:, 2:])], dim=1)
