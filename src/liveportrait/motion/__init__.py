"""What a face does: motion transfer, regions of the face, driving options, smoothing, templates."""

from liveportrait.motion.bundled import bundled_templates
from liveportrait.motion.driving import amplify, expression_friendly, hull_volume, size_ratio
from liveportrait.motion.groups import FACE_MESH, PUBLISHED, REGIONS, KeypointGroups, groups_for
from liveportrait.motion.landmarks import SeenKeypoints, agree
from liveportrait.motion.smoothing import nearest_rotation, smooth, smooth_rotations
from liveportrait.motion.template import Template, concatenate
from liveportrait.motion.template_files import check_template_output, read_template, write_template
from liveportrait.motion.transfer import absolute, change_since, relative, relative_from_photo, steady

__all__ = [
    "FACE_MESH",
    "PUBLISHED",
    "REGIONS",
    "KeypointGroups",
    "SeenKeypoints",
    "Template",
    "absolute",
    "agree",
    "amplify",
    "bundled_templates",
    "change_since",
    "check_template_output",
    "concatenate",
    "expression_friendly",
    "groups_for",
    "hull_volume",
    "nearest_rotation",
    "read_template",
    "relative",
    "relative_from_photo",
    "size_ratio",
    "smooth",
    "smooth_rotations",
    "steady",
    "write_template",
]
