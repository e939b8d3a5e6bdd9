"""What a face does: motion transfer, regions of the face, driving options, smoothing, templates."""

from liveportrait.motion.bundled import bundled_templates
from liveportrait.motion.driving import amplify, expression_friendly, hull_volume, move_points, size_ratio
from liveportrait.motion.groups import FACE_MESH, PUBLISHED, REGIONS, KeypointGroups, groups_for
from liveportrait.motion.kalman import nearest_rotation, smooth, smooth_path, smooth_rotations
from liveportrait.motion.landmarks import SeenHeads, SeenKeypoints, motion_from_heads, snap_to_landmarks
from liveportrait.motion.locking import lock_head, lock_scale, lock_shoulders
from liveportrait.motion.smoothing import JitterMeter, MotionSmoother, crop_points, jitter, smooth_motion
from liveportrait.motion.template import Template, concatenate
from liveportrait.motion.template_files import check_template_output, read_template, write_template
from liveportrait.motion.transfer import (
    absolute,
    change_since,
    fix_canonical,
    in_place,
    relative,
    relative_from_photo,
    take_pose,
)

__all__ = [
    "FACE_MESH",
    "PUBLISHED",
    "REGIONS",
    "JitterMeter",
    "KeypointGroups",
    "MotionSmoother",
    "SeenHeads",
    "SeenKeypoints",
    "Template",
    "absolute",
    "amplify",
    "bundled_templates",
    "change_since",
    "check_template_output",
    "concatenate",
    "crop_points",
    "expression_friendly",
    "fix_canonical",
    "groups_for",
    "hull_volume",
    "in_place",
    "jitter",
    "lock_head",
    "lock_scale",
    "lock_shoulders",
    "motion_from_heads",
    "move_points",
    "nearest_rotation",
    "read_template",
    "relative",
    "relative_from_photo",
    "size_ratio",
    "smooth",
    "smooth_motion",
    "smooth_path",
    "smooth_rotations",
    "snap_to_landmarks",
    "take_pose",
    "write_template",
]
