"""MediaPipe's canonical face mesh (the mean face), and the indices of its landmarks and of blendshapes."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from liveportrait.face.runtime import FOLDER
from liveportrait.types import Array

# Blendshape indices, in MediaPipe's order of 52.
NEUTRAL = 0
EYE_BLINK = (9, 10)  # left, right
MOUTH_SMILE = (44, 45)
EYE_LOOK = (11, 12, 13, 14, 15, 16, 17, 18)  # where the eyes look: down, in, out and up, left and right
BROWS_DOWN, BROW_INNER_UP, BROWS_OUTER_UP = (1, 2), 3, (4, 5)  # left, right
JAW_OPEN = 25

# Landmark indices. Right and left are the subject's: the right eye is on the left of an unmirrored picture.
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (362, 263)  # from left to right in the picture
RIGHT_EYE_LIDS, LEFT_EYE_LIDS = (159, 145), (386, 374)  # middle of the upper and of the lower lid
MOUTH_CORNERS = (61, 291)
INNER_LIPS = (13, 14)  # middle of the upper and of the lower lip, inner edge
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)  # upper edge
TEMPLES = (127, 356)  # where the outline of the face crosses the line of the eyes

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip  # the mesh's outline, hairline to chin


class CanonicalFace(NamedTuple):
    """The mean face. Axes: x right, y down, z away from the camera; centimetres."""

    vertices: Array  # (468,3), in the order of the landmarks (the ten iris points have none)
    weights: Array  # (468,) for rigid fits: nonzero for the 33 landmarks that expressions move little


@cache
def canonical_face() -> CanonicalFace:
    """Read from `models/canonical_face.npz`, whose axes are MediaPipe's: y up, z towards the camera."""
    with np.load(FOLDER / "canonical_face.npz", allow_pickle=False) as file:
        vertices = file["vertices"] * np.array([1, -1, -1], np.float32)
        return CanonicalFace(vertices, file["weights"])
