"""The indices of the two layouts of 21 keypoints; no other file has them.

In the compact layout every keypoint is a landmark, a point of the 478-point face mesh (the lower lid, say), and has a
name. "Right" is the subject's right, on the picture's left. The published weights' keypoints were learned without
supervision and have no names; what is known about them is at the end of this file.
"""

from __future__ import annotations

from collections.abc import Mapping

RIGHT_UPPER_LID, RIGHT_LOWER_LID, LEFT_UPPER_LID, LEFT_LOWER_LID = 0, 1, 2, 3
RIGHT_IRIS, LEFT_IRIS = 4, 5
RIGHT_INNER_BROW, LEFT_INNER_BROW, RIGHT_OUTER_BROW, LEFT_OUTER_BROW = 6, 7, 8, 9
RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER = 10, 11
UPPER_INNER_LIP, LOWER_INNER_LIP, LOWER_OUTER_LIP, UPPER_OUTER_LIP = 12, 13, 14, 15
NOSE_TIP, CHIN = 16, 17
RIGHT_JAW, LEFT_JAW = 18, 19
FOREHEAD = 20

# Face mesh index (irises: their centres) and mirror image of each keypoint, in order.
MESH = (159, 145, 386, 374, 468, 473, 107, 336, 70, 300, 61, 291, 13, 14, 17, 0, 4, 152, 172, 397, 10)
MIRROR = (2, 3, 0, 1, 5, 4, 7, 6, 9, 8, 11, 10, 12, 13, 14, 15, 16, 17, 19, 18, 20)

# Pairs are upper and lower, or right and left.
RIGHT_LIDS = (RIGHT_UPPER_LID, RIGHT_LOWER_LID)
LEFT_LIDS = (LEFT_UPPER_LID, LEFT_LOWER_LID)
LIDS = RIGHT_LIDS + LEFT_LIDS
IRISES = (RIGHT_IRIS, LEFT_IRIS)
RIGHT_EYE = (*RIGHT_LIDS, RIGHT_IRIS)
LEFT_EYE = (*LEFT_LIDS, LEFT_IRIS)
EYES = LIDS + IRISES
INNER_BROWS = (RIGHT_INNER_BROW, LEFT_INNER_BROW)
OUTER_BROWS = (RIGHT_OUTER_BROW, LEFT_OUTER_BROW)
BROWS = INNER_BROWS + OUTER_BROWS
MOUTH_CORNERS = (RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER)
INNER_LIPS = (UPPER_INNER_LIP, LOWER_INNER_LIP)
OUTER_LIPS = (LOWER_OUTER_LIP, UPPER_OUTER_LIP)
MOUTH = MOUTH_CORNERS + INNER_LIPS + OUTER_LIPS
JAW = (RIGHT_JAW, LEFT_JAW)

# The published layout, as the published program groups it.
PUBLISHED_LIPS = (6, 12, 14, 17, 19, 20)
PUBLISHED_EYES = (11, 13, 15, 16, 18)
# Keypoints and axes that take the driver's own expression in absolute motion.
PUBLISHED_ABSOLUTE = (
    *((keypoint, "xyz") for keypoint in (1, 2, 6, *range(11, 21))),
    (3, "y"), (4, "y"), (5, "z"), (8, "z"), (9, "yz"),
)  # fmt: skip
# The landmark nearest to each of its lip and eye keypoints (ours), so that these groups hold for retrained weights.
PUBLISHED_LANDMARKS = {
    11: RIGHT_UPPER_LID, 13: RIGHT_LOWER_LID, 15: LEFT_UPPER_LID, 16: LEFT_LOWER_LID,
    6: RIGHT_MOUTH_CORNER, 12: LEFT_MOUTH_CORNER, 14: UPPER_INNER_LIP, 17: LOWER_INNER_LIP,
    19: LOWER_OUTER_LIP, 20: UPPER_OUTER_LIP,
}  # fmt: skip


def per_keypoint(values: Mapping[tuple[int, ...], float]) -> tuple[float, ...]:
    """One number per landmark (21), in order, from numbers by group. Each landmark must be in exactly one group."""
    of = {keypoint: value for group, value in values.items() for keypoint in group}
    if sorted(of) != list(range(len(MESH))) or sum(map(len, values)) != len(of):
        raise ValueError("the groups must hold every keypoint once")
    return tuple(of[keypoint] for keypoint in range(len(MESH)))
