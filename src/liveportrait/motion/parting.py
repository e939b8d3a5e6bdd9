"""Closed lips that part when they are asked to: keypoints go a little farther, where they are landmarks.

In the picture, lips that the source holds closed stay together until their keypoints are some 0.06 mouth widths apart,
and then lag behind by as much. Asked for openings of 0.1, 0.2 and 0.3, six closed mouths of held-out people came to
0.03, 0.14 and 0.23, ten open ones to 0.10, 0.19 and 0.28.

It is meant for openings that are asked for alone. A driver moves chin, corners and cheeks with its lips, and those make
up for it: driven by their own clips, faces came out 2 % worse in blendshapes with this than without.
"""

from __future__ import annotations

from liveportrait.motion.groups import KeypointGroups
from liveportrait.motion.retargeting import lip_openings, opened_by
from liveportrait.networks.interface import Pose

LAG = 0.06  # what closed lips keep of an opening, in mouth widths
FULL_FROM = 0.035  # wanted openings from which on all of it is made up for
CLOSED, OPEN = 0.03, 0.12  # openings of the source at which lips lag in full and no longer


def parted(pose: Pose, source: Pose, groups: KeypointGroups) -> Pose:
    """The poses (B) with lips that open so far that the picture shows it; `source` (B or 1) is the source's own.

    Of the published keypoints nobody knows that, and they stay.
    """
    if not groups.measured:
        return pose
    own = lip_openings(source)
    more = ((lip_openings(pose) - own) / FULL_FROM).clamp(0, 1)
    closed = ((OPEN - own) / (OPEN - CLOSED)).clamp(0, 1)
    return opened_by(pose, LAG * more * closed)
