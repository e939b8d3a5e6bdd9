"""Opens eyes and lips to a given ratio while keeping the rest of the driver's motion (paper sec. 3.3).

The ratio of an eye or of the lips is height over width in the picture (`face.measures`): about 0.35 for an open eye, 0
for a closed one. Ratios come in threes: the eye on the picture's left, the one on its right, the lips.

The retargeting networks predict how keypoints move. The published program starts from the source's own keypoints
and so loses the driver's motion; here the networks start from the keypoints as moved by the driver, and the ratio
they have there.

If keypoints are landmarks, the height is a distance between them, and another one is reached in closed form by moving
along the direction that closes that eye or opens the lips. This is used for lips, whose width is known, and for eyes if
their network, which has learned how the picture shows a lid's position, is missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from liveportrait.choices import MAX_OPENING, Opening
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.motion.directions import LIDS, LIPS, face_mesh_directions
from liveportrait.motion.groups import KeypointGroups, groups_for
from liveportrait.motion.response import asked_of_eyes, asked_of_lips, lag_of_lips
from liveportrait.networks.interface import Pose
from liveportrait.networks.keypoints import (
    INNER_LIPS,
    LEFT_IRIS,
    LEFT_LIDS,
    MOUTH_CORNERS,
    RIGHT_IRIS,
    RIGHT_LIDS,
)

Targets = tuple[Opening, Opening, Opening]  # left eye, right eye, lips
LIPS_OPEN = 0.03  # ratio from which a source's lips count as open, so that lip normalisation closes them
# Ratio below which eyes count as shut, and the one to which normalisation opens them
SHUT, OPENED = 0.18, 0.39

EDGES = (RIGHT_LIDS, LEFT_LIDS, INNER_LIPS)  # upper and lower edge of what opens, in the order of the ratios
_LIPS_COLUMN = 2
# Width of an eye over the distance of the irises, and the weight of this guess against a measured ratio.
EYE_WIDTH, GUESS = 0.45, 0.05


@dataclass(frozen=True, eq=False)
class Ratios:
    """Measured ratios: left eye, right eye, lips."""

    source: Tensor  # (B or 1, 3)
    driver: Tensor | None = None  # (B,3) of these driving frames; None if not measured
    first: Tensor | None = None  # (B or 1, 3) of the driver's reference frame, for relative motion


def retarget(
    engine: Engine,
    pose: Pose,
    source: Pose,
    ratios: Ratios,
    targets: Targets | Tensor,
    normalize_lips: bool = False,
    usual_eyes: Tensor | None = None,
) -> Pose:
    """The poses (batch B) with the left eye, the right eye and the lips opened to the target ratios, before stitching.

    `source` (batch B or 1) is the source's own pose, at which `ratios.source` was measured. A target is a ratio,
    "driver" for the driver's own, or None to keep what the driver's motion does; in a tensor (B,3) NaN means None.
    With `normalize_lips` lips that are open in the source start closed; with `usual_eyes` (1,2) eyes without a target
    start with that opening. Both are for relative motion.

    Raises `UserError` if the driver's ratios are requested but unknown, or the weights have no module for it.
    """
    if not isinstance(targets, Tensor):
        targets = target_ratios(targets, ratios, len(pose.keypoints))
    measured = groups_for(engine.variant).keypoints_are_landmarks
    if usual_eyes is not None:
        now = _seen(pose, source, ratios) if measured else _estimated(ratios, len(pose.keypoints))
        eyes = (usual_eyes + (now - ratios.source)[:, :2]).clamp(0, MAX_OPENING)
        targets = torch.cat([eyes.where(targets[:, :2].isnan(), targets[:, :2]), targets[:, 2:]], dim=1)
    if not normalize_lips and bool(targets.isnan().all()):
        return pose
    if not measured:
        return _by_networks(engine, pose, source, ratios, targets, normalize_lips)
    shown = asked_of_lips(targets[:, 2], ratios.source[:, 2], lip_ratios(pose))
    if not engine.can_retarget_eyes or bool(targets[:, :2].isnan().all()):
        targets = torch.cat([targets[:, :2], shown[:, None]], dim=1)
        return _by_landmarks(pose, source, ratios, targets, normalize_lips)
    targets = torch.cat([asked_of_eyes(targets[:, :2], ratios.source[:, :2]), shown[:, None]], dim=1)
    lips = targets.clone()
    lips[:, :2] = math.nan
    now = _seen(pose, source, ratios).clamp(min=0)
    pose = _by_landmarks(pose, source, ratios, lips, normalize_lips)
    return pose._replace(keypoints=pose.keypoints + _eyes(engine, pose.keypoints, source, now, targets))


def usual_eyes(ratios: Tensor) -> Tensor:
    """The usual openings (1,2) of the eyes, from ratios (N,3) over time; open ones if they are shut."""
    usual = ratios[:, :2].median(dim=0, keepdim=True).values
    return usual if usual.mean() >= SHUT else torch.full_like(usual, OPENED)


def target_ratios(targets: Targets, ratios: Ratios, count: int) -> Tensor:
    """Targets as numbers (count,3), with NaN for None. Raises `UserError`."""
    columns = []
    for column, target in enumerate(targets):
        if target != "driver":
            value = math.nan if target is None else float(target)
            columns.append(ratios.source.new_full((count,), value))
        elif ratios.driver is not None:
            columns.append(ratios.driver[:, column].clamp(0, MAX_OPENING))
        else:
            raise UserError(
                "how far DRIVING's eyes and lips open is unknown, since its template does not say or its face was not"
                " found: give a number, or drive with the video itself"
            )
    return torch.stack(columns, dim=1)


def _by_landmarks(pose: Pose, source: Pose, ratios: Ratios, targets: Tensor, normalize_lips: bool) -> Pose:
    """Solve each ratio for the amount along its direction: (g + aΔg) = c (w + aΔw)."""
    keypoints = pose.keypoints
    directions = face_mesh_directions()
    if normalize_lips:
        are_open = ratios.source[:, 2] >= LIPS_OPEN
        amount = torch.where(are_open, amount_to_close(source, LIPS), 0.0)
        keypoints = keypoints + amount[:, None, None] * _moved(directions[LIPS].positive, pose)
    has_target = (~targets.isnan()).any(dim=0).tolist()
    for column, name in enumerate((*LIDS, LIPS)):
        if not has_target[column]:
            continue
        towards = _moved(directions[name].positive, pose)
        gap, gap_change = _gap(keypoints, column, pose), _gap(towards, column, pose)
        if name == LIPS:
            width, width_change = _mouth_width(keypoints, towards)
        else:
            widths = eye_widths(source, ratios.source)
            width = widths[:, column] * pose.scale[:, 0] * _across(pose)
            width_change = torch.zeros_like(gap)
        ratio = targets[:, column]
        amount = (ratio * width - gap) / (gap_change - ratio * width_change)
        keypoints = keypoints + torch.nan_to_num(amount)[:, None, None] * towards
    return pose._replace(keypoints=keypoints)


def eye_widths(source: Pose, ratios: Tensor) -> Tensor:
    """Widths (B,2) of the eyes in units of the head, from a source pose and its ratios (B,3).

    There are no keypoints at the corners of the eyes: the width is lid distance over ratio. A closed eye does not show
    its width; the less it is open, the more weight the usual share of the irises' distance has.
    """
    unit = source.scale[:, 0] * _across(source)
    irises = source.keypoints[:, LEFT_IRIS, :2] - source.keypoints[:, RIGHT_IRIS, :2]
    guess = EYE_WIDTH * irises.norm(dim=-1) / unit
    gaps = torch.stack([_gap(source.keypoints, column, source) for column in (0, 1)], dim=1) / unit[:, None]
    return (gaps.clamp(min=0) + GUESS * guess[:, None]) / (ratios[:, :2] + GUESS)


def amount_to_close(pose: Pose, name: str) -> Tensor:
    """The amount (B,) along direction `name` (of LIDS, or LIPS) that closes an eye or the lips; it never opens them."""
    column = (*LIDS, LIPS).index(name)
    towards = _moved(face_mesh_directions()[name].positive, pose)
    amount = _gap(pose.keypoints, column, pose) / -_gap(towards, column, pose)
    return amount.clamp(max=0) if name == LIPS else amount.clamp(min=0)


def lip_ratios(pose: Pose) -> Tensor:
    """The ratios (B,) of lips whose keypoints are landmarks."""
    width, _ = _mouth_width(pose.keypoints, torch.zeros_like(pose.keypoints))
    return _gap(pose.keypoints, _LIPS_COLUMN, pose) / width


def open_lips(pose: Pose, more: Tensor) -> Pose:
    """The pose with its lips, whose keypoints are landmarks, opened by `more` (B,)."""
    towards = _moved(face_mesh_directions()[LIPS].positive, pose)
    width, change = _mouth_width(pose.keypoints, towards)
    target = lip_ratios(pose) + more
    amount = more * width / (_gap(towards, _LIPS_COLUMN, pose) - target * change)
    return pose._replace(keypoints=pose.keypoints + amount[:, None, None] * towards)


def widen_lip_gap(pose: Pose, source: Pose, groups: KeypointGroups) -> Pose:
    """The poses (B) with the lag of opening lips compensated; `source` (B or 1) is the source's own.

    For lips that are moved by a slider, without a target ratio. Published keypoints are not changed: their lag is
    unknown.
    """
    if not groups.keypoints_are_landmarks:
        return pose
    return open_lips(pose, lag_of_lips(lip_ratios(pose), lip_ratios(source)))


def _moved(direction: Tensor, pose: Pose) -> Tensor:
    """A direction (21,3) in the head's frame as movement (B,21,3) in the picture."""
    return pose.scale[:, :, None] * (direction.to(pose.rotation) @ pose.rotation)


def _gap(points: Tensor, column: int, pose: Pose) -> Tensor:
    """Signed distance (B,) in the picture from upper to lower edge, along the head's down axis."""
    upper, lower = EDGES[column]
    down = pose.rotation[:, 1, :2]
    down = down / down.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return ((points[:, lower, :2] - points[:, upper, :2]) * down).sum(-1)


def _across(pose: Pose) -> Tensor:
    """Length (B,) in the picture of a unit vector to the head's right."""
    return pose.rotation[:, 0, :2].norm(dim=-1).clamp(min=0.2)


def _mouth_width(points: Tensor, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Width (B,) of the mouth in the picture, and its change along a direction."""
    left, right = MOUTH_CORNERS
    across = points[:, right, :2] - points[:, left, :2]
    width = across.norm(dim=-1).clamp(min=1e-4)
    change = towards[:, right, :2] - towards[:, left, :2]
    return width, (across * change).sum(-1) / width


def _by_networks(
    engine: Engine, pose: Pose, source: Pose, ratios: Ratios, targets: Tensor, normalize_lips: bool
) -> Pose:
    """The pose moved by the networks' offsets, computed for each eye separately."""
    now = _estimated(ratios, len(pose.keypoints)).clamp(min=0)
    keypoints = pose.keypoints
    if normalize_lips:
        lips = ratios.source[:, 2:]
        closing = engine.retarget_lips(source.keypoints, torch.cat([lips, torch.zeros_like(lips)], dim=1))
        keypoints = keypoints + torch.where(lips[..., None] >= LIPS_OPEN, closing, torch.zeros_like(closing))
        now = torch.cat([now[:, :2], (now[:, 2:] - lips.where(lips >= LIPS_OPEN, 0.0)).clamp(min=0)], dim=1)
    moved = keypoints + _eyes(engine, keypoints, source, now, targets)
    if not targets[:, 2].isnan().all():
        moved = moved + engine.retarget_lips(keypoints, torch.stack([now[:, 2], targets[:, 2]], dim=1))
    return pose._replace(keypoints=moved)


def _eyes(engine: Engine, keypoints: Tensor, source: Pose, now: Tensor, targets: Tensor) -> Tensor:
    """The network's offsets (B,21,3) for both eyes, from the ratios `now` (B,3)."""
    offset = torch.zeros_like(keypoints)
    for column in (0, 1):
        if not targets[:, column].isnan().all():
            ratios = torch.cat([now[:, :2], targets[:, column : column + 1]], dim=1)
            share = _side(source, column, groups_for(engine.variant).eyes)
            offset = offset + share * engine.retarget_eyes(keypoints, ratios)
    return offset


def _estimated(ratios: Ratios, count: int) -> Tensor:
    """The ratios (count,3) after the driver's motion: the source's plus the change of the driver's."""
    now = ratios.source.expand(count, 3)
    if ratios.driver is None:
        return now
    return ratios.driver if ratios.first is None else now + ratios.driver - ratios.first


def _seen(pose: Pose, source: Pose, ratios: Ratios) -> Tensor:
    """The ratios (B,3) of landmark keypoints: the source's plus the change of the ratios between keypoints."""
    widths = eye_widths(source, ratios.source)

    def between_keypoints(by: Pose) -> Tensor:
        eyes = [
            _gap(by.keypoints, column, by) / (widths[:, column] * by.scale[:, 0] * _across(by))
            for column in (0, 1)
        ]
        mouth = _mouth_width(by.keypoints, torch.zeros_like(by.keypoints))[0]
        return torch.stack([*eyes, _gap(by.keypoints, 2, by) / mouth], dim=1)

    return ratios.source + between_keypoints(pose) - between_keypoints(source)


def _side(source: Pose, column: int, points: tuple[int, ...]) -> Tensor:
    """The weight (B,21,1) of each keypoint for an eye: 1 on its side of the face, half in the middle.

    `points`: the keypoints of the eyes, which give the width of the face.
    """
    eyes = list(points)
    local = source.keypoints @ source.rotation.transpose(1, 2)  # upright, so that x tells the sides apart
    across = local[..., 0] - local[..., 0].mean(dim=1, keepdim=True)
    reach = across[:, eyes].abs().amax(dim=1, keepdim=True).clamp(min=1e-4)
    right = (0.5 + across / reach).clamp(0, 1)[..., None]
    return right if column else 1 - right
