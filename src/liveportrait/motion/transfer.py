"""Motion transfer: from a driver's motion to the source's motion and pose.

All functions are pure and batched: the source has batch 1 or N, the driver batch N, the result batch N.
The canonical keypoints are always the source's own, as they are its identity. Poses are kept consistent with their
keypoints, because a warping module may use both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import Region
from liveportrait.motion.framing import neck_in_head
from liveportrait.motion.groups import KeypointGroups
from liveportrait.networks.geometry import nearest_rotation, without_depth
from liveportrait.networks.interface import Motion, Pose

_HEAD_REGIONS = ("all", "pose")
# The base of the neck in the source's crop, relative to the middle of the head (x right, y down, z away; the crop
# reaches from -1 to 1), for keypoints that are no landmarks. The face's box is about 0.87 high there: this is below the
# chin and behind it.
NECK_IN_CROP = (0.0, 0.75, 0.25)
REACH = 0.15  # of a keypoint's expression on points near it, in half sides of the crop
SMILE_KEPT = 0.55  # share of a smile that is kept while speaking: with more, teeth show between closing lips
_BASE = 0.1  # weight of the head's rigid motion: far from all keypoints nothing else moves points


def change_since(driving: Motion, first: Motion, groups: KeypointGroups) -> Motion:
    """The change from `first` (batch 1 or N) to `driving` (batch N), as a Motion to add to another face.

    Rotation R·R_0ᵀ, translation t − t_0, scale s/s_0, expression δ − δ_0. The canonical keypoints are
    the driver's and not used. If keypoints are landmarks, the translation is that of the neck, in units of s_0: how far
    turning about the neck moves the head depends on the head that turns.
    """
    translation = driving.translation - first.translation
    if groups.keypoints_are_landmarks:
        translation = (translation + _lever(driving) - _lever(first)) / first.scale
    return Motion(
        rotation=driving.rotation @ first.rotation.transpose(1, 2),
        translation=translation,
        scale=driving.scale / first.scale,
        canonical=driving.canonical,
        expression=driving.expression - first.expression,
    )


def with_neck(motion: Motion, place: Motion, shift: Tensor | float = 0.0) -> Motion:
    """The motion (batch N) with its neck where `place` (batch 1 or N) has it, plus a shift (N,3) in the crop."""
    translation = place.translation + shift + _lever(place) - _lever(motion)
    return motion._replace(translation=without_depth(translation))


def _lever(motion: Motion) -> Tensor:
    """Where the neck is in the crop (N,3), relative to the translation; for keypoints that are landmarks."""
    return motion.scale * (motion.scale.new_tensor(neck_in_head()) @ motion.rotation)


def fix_canonical(driving: Motion, first: Motion, groups: KeypointGroups) -> Motion:
    """The driver's motion (batch N) expressed with the canonical keypoints of its first frame (batch 1).

    If keypoints are landmarks, they are measured well in every frame, but their division into identity and expression
    fluctuates. With one identity for all frames, all of x is motion: x is unchanged, and δ absorbs (x_c − x_c,0) R.
    Published keypoints are not changed.
    """
    if not groups.keypoints_are_landmarks:
        return driving
    # Canonical keypoints may be unknown (NaN) in templates; then there is nothing to correct.
    excess = torch.nan_to_num(driving.canonical - first.canonical) @ driving.rotation
    canonical = first.expand(driving.batch).canonical
    return driving._replace(canonical=canonical, expression=driving.expression + excess)


def relative(source: Motion, change: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """The source moved by a driver's change (`change_since`), within a region of the face.

    Head pose and position follow in "all" and "pose"; scale in "all" only; expression on all keypoints
    in "all" and "expression", and on the lips' or eyes' keypoints alone in "lips" and "eyes". If keypoints are
    landmarks, the head turns about its own neck, which moves as far as the driver's in units of each one's scale.
    """
    mask = groups.relative_mask(region).to(change.expression.device)
    source = source.expand(change.batch)
    moves_head = region in _HEAD_REGIONS
    moved = Motion(
        rotation=change.rotation @ source.rotation if moves_head else source.rotation,
        translation=without_depth(source.translation),
        scale=source.scale * change.scale if region == "all" else source.scale,
        canonical=source.canonical,
        expression=source.expression + torch.where(mask, change.expression, 0.0),
    )
    if not moves_head:
        return moved
    if groups.keypoints_are_landmarks:
        return with_neck(moved, source, source.scale * change.translation)
    return moved._replace(translation=without_depth(source.translation + change.translation))


def relative_from_photo(
    source: Motion, driving: Motion, region: Region, groups: KeypointGroups, is_still: bool = True
) -> Motion:
    """The source with a driving photo's expression added, since a photo has no first frame to compare with.

    The added expression is δ_d minus the layout's neutral expression. For the eyes of a still source nothing is
    subtracted, as in the published program. Pose, position and scale stay the source's.
    """
    offset = driving.expression
    if region != "eyes" or not is_still:
        offset = offset - groups.neutral_expression().to(offset.device)
    stay = Motion(
        rotation=torch.eye(3, dtype=offset.dtype, device=offset.device).expand_as(driving.rotation),
        translation=torch.zeros_like(driving.translation),
        scale=torch.ones_like(driving.scale),
        canonical=driving.canonical,
        expression=offset,
    )
    return relative(source, stay, region, groups)


def in_place(motion: Motion, source: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """Relative motion for a source that moves by itself: the head stays where the source has it.

    Position (the neck's, if keypoints are landmarks) and scale are the source's own, and only the layout's `absolute`
    coordinates of the expression follow the driver (in the regions "all" and "expression"). Without landmarks this is
    what the published program does.
    """
    mask = groups.absolute_mask(region).to(motion.expression.device)
    source = source.expand(motion.batch)
    moved = motion._replace(
        translation=without_depth(source.translation),
        scale=source.scale,
        expression=torch.where(mask, motion.expression, source.expression),
    )
    return with_neck(moved, source) if groups.keypoints_are_landmarks else moved


def with_mouth(motion: Motion, source: Motion, silent: bool, groups: KeypointGroups) -> Motion:
    """The motion with the source's own mouth, or with `silent` that of a face at rest."""
    own = groups.neutral_expression().to(motion.expression) if silent else source.expression
    mask = groups.mouth_mask().to(motion.expression.device)
    return motion._replace(expression=torch.where(mask, own, motion.expression))


def smiling_mouth(motion: Motion, usual: Tensor | None, groups: KeypointGroups) -> Motion:
    """The motion (batch N) with its mouth at rest except for part of its smile, so that it can form every sound.

    `usual` (N,21,3): the expression without speech, in the head's own frame; None for a still face, whose own
    expression is used. A full smile would leave teeth visible between closing lips, and allow no rounded vowels.
    """
    own = motion.expression @ motion.rotation.transpose(1, 2) if usual is None else usual
    kept = torch.zeros_like(own)
    kept[:, list(groups.smile)] = SMILE_KEPT * own[:, list(groups.smile)]
    rest = with_mouth(motion, motion, True, groups)
    return rest._replace(expression=rest.expression + kept @ motion.rotation)


def take_pose(motion: Motion, driving: Motion, groups: KeypointGroups) -> Motion:
    """The motion with the driver's own head rotation, for driving photos (batch 1 or N)."""
    turned = motion._replace(rotation=driving.expand(motion.batch).rotation)
    return with_neck(turned, motion) if groups.keypoints_are_landmarks else turned


def absolute(source: Motion, driving: Motion, region: Region, groups: KeypointGroups) -> Motion:
    """The source with the driver's own pose, position and expression; the scale stays the source's.

    Expression is replaced on the layout's `absolute` coordinates in "all" and "expression", on the
    lips' or eyes' keypoints in "lips" and "eyes", and nowhere in "pose".
    """
    mask = groups.absolute_mask(region).to(driving.expression.device)
    source = source.expand(driving.batch)
    head = driving if region in _HEAD_REGIONS else source
    return Motion(
        rotation=head.rotation,
        translation=without_depth(head.translation),
        scale=source.scale,
        canonical=source.canonical,
        expression=torch.where(mask, driving.expression, source.expression),
    )


def lock_head(motion: Motion, source: Motion) -> Motion:
    """The motion with the source's own rotation, position and scale: only the expression changes."""
    source = source.expand(motion.batch)
    return motion._replace(rotation=source.rotation, translation=source.translation, scale=source.scale)


def lock_scale(motion: Motion, source: Motion, groups: KeypointGroups) -> Motion:
    """The motion with the source's own scale."""
    sized = motion._replace(scale=source.expand(motion.batch).scale)
    return with_neck(sized, motion) if groups.keypoints_are_landmarks else sized


def lock_shoulders(motion: Motion, source: Motion, groups: KeypointGroups) -> Motion:
    """The motion with its head turning about the base of the neck, which stays where the source has it.

    Rotation and scale are kept; the position follows from the condition that the neck does not move.
    """
    if groups.keypoints_are_landmarks:
        return with_neck(motion, source)
    neck = torch.tensor(NECK_IN_CROP).to(motion.scale)
    own = (neck / source.scale)[:, None] @ source.rotation.transpose(1, 2)  # (N,1,3) in the head's own frame
    turned = motion.scale * (own @ motion.rotation)[:, 0]
    return motion._replace(translation=without_depth(source.translation + (neck - turned)))


def hull_volume(points: Tensor) -> float:
    """Volume of the convex hull of points (K,3); 0 for points in one plane."""
    from scipy.spatial import (  # takes half a second to import, and only one driving option needs it
        ConvexHull,
        QhullError,
    )

    try:
        return float(ConvexHull(points.detach().double().cpu().numpy()).volume)
    except QhullError:
        return 0.0


def size_ratio(source: Pose, first: Pose) -> float:
    """m = √V(x_s) / √V(x_d,0) of two poses (batch 1), V the volume of the keypoints' convex hull.

    1 if the driver's keypoints span no volume.
    """
    volume = hull_volume(first.keypoints[0])
    return (hull_volume(source.keypoints[0]) / volume) ** 0.5 if volume > 0 else 1.0


def expression_friendly(source: Pose, driving: Pose, first: Pose, ratio: float) -> Pose:
    """x_s + m·(x_d − x_d,0): absolute driving keypoints replayed from the source's position.

    `ratio` is m, the `size_ratio` of source and first, which scales the driver's amplitude to the size of the source's
    face. `source` and `first` have batch 1. With relative motion x_d,0 is x_s and m is 1, so this would have no effect.
    """
    return Pose(
        keypoints=source.keypoints + ratio * (driving.keypoints - first.keypoints),
        rotation=driving.rotation @ first.rotation.transpose(1, 2) @ source.rotation,
        translation=source.translation + ratio * (driving.translation - first.translation),
        scale=source.scale * driving.scale / first.scale,
        pin=driving.pin,
    )


def amplify(source: Pose, driving: Pose, multiplier: float) -> Pose:
    """x_s + (x_d − x_s)·multiplier, and the rigid motion likewise: 0 is the source, 1 the driver.

    Position and scale are interpolated linearly; the rotation is the nearest one to the interpolated matrix.
    """
    if multiplier == 1.0:
        return driving

    def blend(start: Tensor, end: Tensor) -> Tensor:
        return start + (end - start) * multiplier

    return Pose(
        keypoints=blend(source.keypoints, driving.keypoints),
        rotation=nearest_rotation(blend(source.rotation, driving.rotation)),
        translation=blend(source.translation, driving.translation),
        scale=blend(source.scale, driving.scale).clamp(min=0.1 * float(source.scale.min())),
        pin=driving.pin,
    )


def move_points(points: Tensor, source: Pose, driving: Pose) -> Tensor:
    """Points (P,3) of the source's face, in the coordinates of its crop, moved to driving poses: (B,P,3).

    They move rigidly with the head, plus, near a keypoint, with its additional movement. `source` has batch B or 1.
    """
    rigid = _move_rigidly(points[None], source, driving)
    beyond = driving.keypoints - _move_rigidly(source.keypoints, source, driving)
    distance = (points[None, :, None, :2] - source.keypoints[:, None, :, :2]).square().sum(-1)
    weight = (-distance / (2 * REACH**2)).exp()  # (B or 1, P, 21)
    return rigid + (weight @ beyond) / (weight.sum(-1, keepdim=True) + _BASE)


def _move_rigidly(points: Tensor, source: Pose, driving: Pose) -> Tensor:
    """Points moved rigidly from the source's pose to the driving poses."""
    own = (points - source.translation[:, None]) / source.scale[:, :, None] @ source.rotation.transpose(1, 2)
    return driving.scale[:, :, None] * (own @ driving.rotation) + driving.translation[:, None]
