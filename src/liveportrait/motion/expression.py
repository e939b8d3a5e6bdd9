"""Transfers expressions between people: adapts a driver's change to the source, at the driver's strength.

Plain landmark differences move another face by the same millimetres, which mean a different expression there. If the
weights have E, mouth and chin instead move as the source's own would for the driver's change of blendshapes. A gain per
part of the face compensates for what the rendering loses; it fades for large changes. Lips open by their ratio of
height to width, and closed ones part.

Changes are in the head's own frame, in units of δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from liveportrait.engine import Engine
from liveportrait.face import Face
from liveportrait.face.crop import CropWindow
from liveportrait.motion.landmarks import SeenKeypoints
from liveportrait.motion.lifting import MESH_ROWS, flattened
from liveportrait.motion.retargeting import lip_ratios, open_lips
from liveportrait.networks import keypoints as k
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion, Pose
from liveportrait.types import Array

SECONDS = 0.06  # standard deviation of the Gaussian that smooths the addition over time
REACH = 3 * SECONDS  # of the Gaussian, to each side
SAME_FACE = 0.45  # distance of embeddings below which they are of one person, who needs no adaptation

_REST = (*k.IRISES, k.NOSE_TIP, k.FOREHEAD)
# Share of E in a keypoint's change: blendshapes describe mouths better, landmarks brows.
SHARE = k.per_keypoint({k.MOUTH: 1.0, (k.CHIN, *k.JAW): 0.6, (*k.BROWS, *k.LIDS, *_REST): 0.0})
# The picture shows 0.6 to 0.8 of the change requested of brows and mouth corners.
GAIN = k.per_keypoint(
    {
        k.BROWS: 1.6, k.MOUTH_CORNERS: 1.35, k.INNER_LIPS + k.OUTER_LIPS: 1.25, k.LIDS: 1.15,
        (k.CHIN, *k.JAW, *_REST): 1.0,
    }
)  # fmt: skip
_MOUTH = torch.tensor([point in k.MOUTH for point in range(NUM_KEYPOINTS)])
E_GAIN = 1.2  # E minimises the mean error, so its predictions are too small
FADES = 0.22  # size of a change at which its gain has fallen to 1/e: more would break the mouth
LIPS_GAIN, LIPS_FADE = 0.15, 0.35  # the same for a change of the lips' ratio
LAG = 0.081  # part of an opening that closed lips do not show, in mouth widths
LAG_FADE = 0.5  # the opening at which the lag has fallen to 1/e
FULL_FROM = 0.035  # change of the ratio from which the lag is fully compensated
CLOSED, OPEN = 0.03, 0.12  # ratios of the source's lips at which the lag is full, and zero


@dataclass(frozen=True, eq=False)
class FaceShape:
    """Measurements of a still face besides its motion."""

    landmarks: Tensor  # (1,111,2) flat, see `lifting.flattened`
    unit: Tensor  # (1,) unit of E's offsets, in half sides of the crop
    scores: Tensor  # (1,52) blendshapes
    identity: Array  # (128,) embedding

    @classmethod
    def of(
        cls, face: Face, scores: Array, identity: Array, window: CropWindow, device: torch.device
    ) -> FaceShape:
        """The shape of a face with its blendshapes (52,) and embedding, in the window of its crop."""
        through = SeenKeypoints.of([face.landmarks]).through(window)
        linear, shift = window.matrix[:, :2], window.matrix[:, 2]
        points = face.landmarks[list(MESH_ROWS), :2] @ linear.T + shift
        flat = flattened(np.asarray(points * (2 / window.size) - 1, np.float32)[None], through.rotation)
        landmarks, unit, own = (
            torch.from_numpy(part).to(device)
            for part in (flat.landmarks, flat.unit, np.asarray(scores, np.float32)[None])
        )
        return cls(landmarks, unit, own, identity)

    def is_of(self, identity: Array | None) -> bool:
        """Whether an embedding (128,) is this person's."""
        return identity is not None and float(np.linalg.norm(identity - self.identity)) < SAME_FACE


@dataclass(frozen=True, eq=False)
class Change:
    """A driver's change in B frames since the frame that its expression starts from."""

    expression: Tensor  # (B,21,3)
    lips: Tensor | None  # (B,) of the lips' ratio; None if unknown, or if the lips do not follow
    scores: Tensor | None  # (B,52) of the blendshapes, if known

    def rows(self, index: Tensor) -> Change:
        """The change in some of the frames."""
        lips, scores = (None if part is None else part[index] for part in (self.lips, self.scores))
        return Change(self.expression[index], lips, scores)


class Addition(NamedTuple):
    """The addition to a driver's change in B frames."""

    expression: Tensor  # (B,21,3)
    lips: Tensor  # (B,) to the lips' ratio

    def smoothed(self, weights: Tensor) -> Addition:
        """The addition in b frames, averaged over these with weights (b,B)."""
        return Addition(torch.einsum("bc,ckd->bkd", weights, self.expression), weights @ self.lips)


@dataclass(frozen=True, eq=False)
class OwnExpression:
    """Adapts a driver's changes to one still face."""

    engine: Engine
    shape: FaceShape
    source: Motion  # batch 1
    lips: Tensor  # (1,) ratio of its lips
    mask: Tensor  # (21,3) bool: the coordinates that follow the driver
    strength: float = 1.0
    lag: float = LAG  # of closed lips, in mouth widths

    def addition(self, change: Change) -> Addition:
        """The addition to a change that is already `strength` times the driver's."""
        expression = self.strengthened(self.adapted(change)) - change.expression
        lips = torch.zeros_like(expression[:, 0, 0])
        if change.lips is not None:
            more = LIPS_GAIN * change.lips * (-((change.lips / LIPS_FADE) ** 2)).exp()
            goal = (self.lips + change.lips + more).clamp(min=0)
            fading = (-(((goal - self.lips) / LAG_FADE) ** 2)).exp()
            more = ((goal - self.lips) / FULL_FROM).clamp(0, 1)
            closed = ((OPEN - self.lips) / (OPEN - CLOSED)).clamp(0, 1)
            lips = goal + self.lag * more * closed * fading - self.lips - change.lips
        return Addition(torch.where(self.mask, expression, 0.0), lips)

    def adapted(self, change: Change) -> Tensor:
        """The change (B,21,3) as this face would make it, if the driver's blendshapes are known. Depth is unchanged."""
        if change.scores is None:
            return change.expression
        wanted = (self.shape.scores + change.scores).clamp(0, 1)
        unit = (self.shape.unit / self.source.scale)[..., None]
        own = (
            E_GAIN
            * self.strength
            * unit
            * self.engine.express(self.shape.landmarks, self.shape.scores, wanted)
        )
        share = own.new_tensor(SHARE)[:, None]
        planar = share * own + (1 - share) * change.expression[..., :2]
        return torch.cat([planar, change.expression[..., 2:]], dim=-1)

    @staticmethod
    def strengthened(expression: Tensor) -> Tensor:
        """A change (B,21,3) times the gain of each keypoint, which fades with the size of the change.

        There is no horizontal gain for a mouth that narrows: pursed lips would become a beak.
        """
        size = expression[..., :2].norm(dim=-1, keepdim=True)
        gain = 1 + (expression.new_tensor(GAIN)[:, None] - 1) * (-((size / FADES) ** 2)).exp()
        right, left = k.MOUTH_CORNERS
        narrows = expression[:, left, 0] < expression[:, right, 0]
        across = torch.where(narrows[:, None], gain[..., 0].clamp(max=1), gain[..., 0])
        across = torch.where(_MOUTH.to(across.device), across, gain[..., 0])
        return expression * torch.stack([across, gain[..., 0], gain[..., 0]], dim=-1)

    def posed(self, pose: Pose, change: Change, added: Addition) -> Pose:
        """Poses (B) of the changed expression with the lips opened to the target ratio."""
        if change.lips is None:
            return pose
        ratio = (self.lips + change.lips + added.lips).clamp(min=0)
        return open_lips(pose, ratio - lip_ratios(pose))


def smoothing_weights(times: Tensor, around: Tensor) -> Tensor:
    """Gaussian weights (B,C) of frames at times (C,) s for smoothing at times (B,) s."""
    return (-0.5 * ((times[:, None] - around) / SECONDS) ** 2).exp()
