"""What a face does: motion transfer, regions of the face, driving options, smoothing, templates."""

from liveportrait.motion.driving import DrivingOption, amplify, expression_friendly, hull_volume
from liveportrait.motion.groups import FACE_MESH, PUBLISHED, REGIONS, KeypointGroups, Region, groups_for
from liveportrait.motion.smoothing import nearest_rotation, smooth, smooth_rotations
from liveportrait.motion.template import Template, concatenate
from liveportrait.motion.template_files import read_template, template_bytes
from liveportrait.motion.transfer import absolute, change_since, relative, relative_from_photo

__all__ = [
    "FACE_MESH",
    "PUBLISHED",
    "REGIONS",
    "DrivingOption",
    "KeypointGroups",
    "Region",
    "Template",
    "absolute",
    "amplify",
    "change_since",
    "concatenate",
    "expression_friendly",
    "groups_for",
    "hull_volume",
    "nearest_rotation",
    "read_template",
    "relative",
    "relative_from_photo",
    "smooth",
    "smooth_rotations",
    "template_bytes",
]
