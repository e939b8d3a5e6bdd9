"""Metrics of pictures, faces and motion; docs/notes/evaluation-definitions.md has their formulas."""

from __future__ import annotations

from liveportrait.metrics.displacement import Seam, background_region, displacement, shoulder_region
from liveportrait.metrics.faces import (
    centred_cosine,
    expression_distance,
    eye_distance,
    gaze_angles,
    identity_distance,
    landmark_distance,
    rotation_distance,
)
from liveportrait.metrics.images import is_well_exposed, l1, psnr, sharpness, ssim
from liveportrait.metrics.perceptual import frechet_distance
from liveportrait.metrics.temporal import (
    accelerations,
    centred_correlation,
    jitter,
    scale_wobble,
    without_rigid_motion,
)

__all__ = [
    "Seam",
    "accelerations",
    "background_region",
    "centred_correlation",
    "centred_cosine",
    "displacement",
    "expression_distance",
    "eye_distance",
    "frechet_distance",
    "gaze_angles",
    "identity_distance",
    "is_well_exposed",
    "jitter",
    "l1",
    "landmark_distance",
    "psnr",
    "rotation_distance",
    "scale_wobble",
    "sharpness",
    "shoulder_region",
    "ssim",
    "without_rigid_motion",
]
