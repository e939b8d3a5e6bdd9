"""Groups of keypoints (lips, eyes, and so on): data, one table per keypoint layout.

The meaning of keypoint 17 is a property of the weights. The published weights' keypoints were learned
without supervision; the compact weights use 21 named points of the face mesh (`networks.keypoints`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from liveportrait.choices import Region
from liveportrait.errors import UserError
from liveportrait.networks import keypoints
from liveportrait.networks.interface import NUM_KEYPOINTS
from liveportrait.networks.variants import Variant

REGIONS: tuple[str, ...] = get_args(Region)

Axes = tuple[tuple[int, str], ...]
Offsets = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class KeypointGroups:
    """The named groups of one keypoint layout."""

    layout: str  # name of the layout, written into motion templates
    lips: tuple[int, ...]
    mouth: tuple[int, ...]  # what moves in speech: lips, and chin and jaw if known
    smile: tuple[int, ...]  # what shows a smile and moves little in speech, if known
    eyes: tuple[int, ...]
    absolute: Axes  # (keypoint, axes) that take the driver's own expression in absolute motion
    neutral: Offsets  # (21,3) expression of a face at rest, subtracted from a driving photo
    keypoints_are_landmarks: (
        bool  # if so, canonical keypoints that differ between frames of one face are noise
    )

    def relative_mask(self, region: Region) -> Tensor:
        """(21,3) bool: the coordinates that relative motion moves by expression."""
        if region in ("all", "expression"):
            return torch.ones(NUM_KEYPOINTS, 3, dtype=torch.bool)
        return self._points_mask(region)

    def absolute_mask(self, region: Region) -> Tensor:
        """(21,3) bool: the coordinates whose expression absolute motion takes from the driver."""
        if region not in ("all", "expression"):
            return self._points_mask(region)
        mask = torch.zeros(NUM_KEYPOINTS, 3, dtype=torch.bool)
        for keypoint, axes in self.absolute:
            for axis in axes:
                mask[keypoint, "xyz".index(axis)] = True
        return mask

    @property
    def of_animals(self) -> KeypointGroups:
        """The groups of an animal's face, all of which follows, as in the published program."""
        return replace(self, absolute=_EVERY_POINT)

    def mouth_mask(self) -> Tensor:
        """(21,1) bool: the keypoints that move in speech."""
        mask = torch.zeros(NUM_KEYPOINTS, 1, dtype=torch.bool)
        mask[list(self.mouth)] = True
        return mask

    def neutral_expression(self) -> Tensor:
        """(1,21,3) float32 expression of a face at rest."""
        return torch.tensor(self.neutral, dtype=torch.float32)[None]

    def _points_mask(self, region: Region) -> Tensor:
        mask = torch.zeros(NUM_KEYPOINTS, 3, dtype=torch.bool)
        points = {"lips": self.lips, "eyes": self.eyes, "pose": ()}[region]
        mask[list(points)] = True
        return mask


_EVERY_POINT: Axes = tuple((keypoint, "xyz") for keypoint in range(NUM_KEYPOINTS))

PUBLISHED = KeypointGroups(
    layout="published",
    lips=keypoints.PUBLISHED_LIPS,
    mouth=keypoints.PUBLISHED_LIPS,
    smile=(),
    eyes=keypoints.PUBLISHED_EYES,
    absolute=keypoints.PUBLISHED_ABSOLUTE,
    neutral=(
        (-9.4524e-05, 2.4222e-04, -4.00974e-05),
        (2.08596e-04, 4.68054e-04, 1.27464e-05),
        (-1.24602e-04, 3.24972e-04, 4.425e-06),
        (1.19652e-04, -4.56624e-04, 5.40852e-05),
        (-2.65254e-04, -7.4598e-05, -1.5528e-05),
        (-3.34884e-05, -1.83036e-04, -3.49404e-06),
        (-4.75428e-07, -4.52466e-07, 1.59498e-06),
        (-5.41296e-04, 2.6328e-03, 7.2486e-06),
        (-1.1694e-05, 5.00502e-06, 9.9888e-06),
        (8.0286e-07, 5.19132e-06, -4.09344e-04),
        (1.66878e-04, -1.98150e-05, -8.85480e-05),
        (-1.51536e-05, 8.2506e-05, 5.94012e-06),
        (-2.61054e-07, 2.7591e-06, 2.21028e-06),
        (-6.6282e-05, -6.8286e-05, -3.45318e-06),
        (-8.3262e-04, -1.79592e-03, -2.59176e-06),
        (6.9714e-06, 3.65514e-05, -1.8978e-06),
        (-4.80876e-06, 7.1148e-06, -1.03236e-05),
        (-6.3684e-04, -1.1661e-03, 5.62314e-05),
        (2.83290e-04, -1.45650e-05, 1.09746e-05),
        (-4.16022e-06, -1.50906e-02, -2.5494e-03),
        (2.22474e-04, 5.62788e-03, 2.72646e-03),
    ),
    keypoints_are_landmarks=False,
)  # fmt: skip

# Expression is measured from a face at rest, so the neutral one is zero.
FACE_MESH = KeypointGroups(
    layout="face-mesh-21",
    lips=keypoints.MOUTH,
    mouth=(*keypoints.MOUTH, keypoints.CHIN, *keypoints.JAW),
    smile=keypoints.MOUTH_CORNERS,
    eyes=keypoints.EYES,
    absolute=_EVERY_POINT,
    neutral=((0.0, 0.0, 0.0),) * NUM_KEYPOINTS,
    keypoints_are_landmarks=True,
)

_GROUPS_OF_ARCHITECTURE = {"base": PUBLISHED, "compact": FACE_MESH}


def groups_for(variant: Variant) -> KeypointGroups:
    """The keypoint groups of a variant's weights."""
    groups = _GROUPS_OF_ARCHITECTURE.get(variant.architecture)
    if groups is None:
        raise UserError(
            f"no keypoint groups are known for the architecture {variant.architecture!r}"
            f" (known: {', '.join(_GROUPS_OF_ARCHITECTURE)})"
        )
    return groups
