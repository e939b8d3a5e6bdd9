"""Portrait editing: changes a motion by sliders, on either keypoint layout, before stitching.

A slider means the same on both layouts, and its offsets come from the layout's directions. The published ones are
added to δ unchanged; those of the face mesh are offsets in the head's frame and turn with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from liveportrait.motion.directions import (
    LIDS,
    LIPS,
    Direction,
    face_mesh_directions,
    published_directions,
)
from liveportrait.motion.groups import KeypointGroups
from liveportrait.motion.retargeting import amount_to_close
from liveportrait.motion.transfer import with_neck
from liveportrait.networks.geometry import euler_degrees, pose_of, rotation_matrix
from liveportrait.networks.interface import Motion

Values = Mapping[str, Tensor]


def edit(motion: Motion, values: Values, groups: KeypointGroups) -> Motion:
    """The motion (batch B) with sliders at values (B,) by name; other sliders are at rest.

    Sliders: `neutral` (0..1, how much of the expression is removed first), `silent` (0..1, the same for what moves in
    speech; also closes the lips), those of `directions_for`, `pitch`, `yaw` and `roll` (degrees added), `move_x` and
    `move_y` (right and up, half sides of the crop), `move_z` (factor of the scale).
    """
    edited = _turned(motion, values, groups)
    edited = _with_expression(edited, values, groups)
    scale = edited.scale * values["move_z"][:, None] if "move_z" in values else edited.scale
    translation = edited.translation
    if groups.keypoints_are_landmarks:
        zero = torch.zeros_like(translation[:, 0])
        shift = torch.stack([values.get("move_x", zero), -values.get("move_y", zero), zero], dim=1)
        translation = translation + shift
    return edited._replace(scale=scale, translation=translation)


def directions_for(groups: KeypointGroups) -> dict[str, Direction]:
    """The directions of a keypoint layout, by slider."""
    return face_mesh_directions() if groups.keypoints_are_landmarks else published_directions()


def copy_expression(motion: Motion, other: Motion, amount: Tensor, groups: KeypointGroups) -> Motion:
    """The motion (batch B) with `amount` (B, 0..1) of its expression replaced by another face's (batch 1).

    On the face mesh, where δ depends on head pose, the expression is rotated from one head to the other.
    """
    expression = other.expression
    if groups.keypoints_are_landmarks:
        expression = expression @ other.rotation.transpose(1, 2) @ motion.rotation
    taken = torch.lerp(motion.expression, expression.expand_as(motion.expression), amount[:, None, None])
    return motion._replace(expression=taken)


def _turned(motion: Motion, values: Values, groups: KeypointGroups) -> Motion:
    """Add degrees to the head pose. A face-mesh head turns about its neck, and its expression with it."""
    if not any(name in values for name in ("pitch", "yaw", "roll")):
        return motion
    angles = euler_degrees(motion.rotation)
    added = (values.get(name, torch.zeros_like(angles[0])) for name in ("pitch", "yaw", "roll"))
    rotation = rotation_matrix(*(angle + more for angle, more in zip(angles, added, strict=True)))
    turned = motion._replace(rotation=rotation)
    if not groups.keypoints_are_landmarks:
        return turned
    local = motion.expression @ motion.rotation.transpose(1, 2)
    return with_neck(turned._replace(expression=local @ rotation), motion)


def _with_expression(motion: Motion, values: Values, groups: KeypointGroups) -> Motion:
    expression = motion.expression
    if "neutral" in values:
        expression = _rested(expression, values["neutral"], groups)
    if "silent" in values:
        quiet = _rested(expression, values["silent"], groups)
        expression = quiet.where(groups.mouth_mask().to(expression.device), expression)
    offset = torch.zeros_like(expression)
    for name, direction in directions_for(groups).items():
        if name in values:
            offset = offset + direction.at(values[name])
    if not groups.keypoints_are_landmarks:
        return motion._replace(expression=expression + offset)
    motion = motion._replace(expression=expression + offset @ motion.rotation)
    return motion._replace(expression=motion.expression + _closing(motion, values) @ motion.rotation)


def _rested(expression: Tensor, amount: Tensor, groups: KeypointGroups) -> Tensor:
    """Expressions (B,21,3) interpolated by amounts (B,) towards that of a face at rest."""
    rest = groups.neutral_expression().to(expression)
    return torch.lerp(expression, rest.expand_as(expression), amount[:, None, None])


def _closing(motion: Motion, values: Values) -> Tensor:
    """Head-frame offsets that close the right eye for `wink`, and the lips for `lips` below 0 and for `silent`.

    They close fully however open they are.
    """
    pose, directions = pose_of(motion), face_mesh_directions()
    offset = torch.zeros_like(motion.expression)
    for slider, name, sign in (("wink", LIDS[1], 1), ("lips", LIPS, -1), ("silent", LIPS, 1)):
        if slider in values:
            part = (sign * values[slider]).clamp(0, 1) * amount_to_close(pose, name)
            offset = offset + part[:, None, None] * directions[name].positive.to(offset)
    return offset
