"""Why a frame, a clip or a picture is not used: one word to count by, and the figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.motion import jitter, shape_motion
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.quality import FaceMeasures, Quality
from liveportrait.data.preparation.records import Array

REPEATED = 0.15  # mean difference of brightness, of 255, below which a frame repeats the one before

Reason = tuple[str, str]  # word, figures


def exposure_reason(seen: FaceMeasures, options: PrepareOptions) -> Reason | None:
    """Why a face is lit too badly, or None."""
    if seen.brightness < options.darkest:
        return "dark", f"brightness {seen.brightness:.0f} of 255"
    if seen.brightness > options.brightest:
        return "washed out", f"brightness {seen.brightness:.0f} of 255"
    if seen.contrast < options.min_contrast:
        return "flat", f"contrast {seen.contrast:.0f} of 255"
    return None


def appearance_reason(
    sharpness: float, heights: NDArray[np.float32], scores: NDArray[np.float32], options: PrepareOptions
) -> Reason | None:
    """Why T frames show too little of a face, or None: box heights (T,) px, presence (T,) 0..1."""
    if (height := float(np.median(heights))) < options.min_face:
        return "small face", f"{height:.0f} px high"
    if (presence := float(scores.mean())) < options.min_presence:
        return "covered", f"presence score {presence:.2f}"
    if sharpness < options.min_sharpness:
        return "blurred", f"sharpness {sharpness:.3f}"
    return None


def movement_reason(landmarks: Array, differences: list[float], options: PrepareOptions) -> Reason | None:
    """Why a clip with landmarks (T,478,3) moves too little or too wildly, or None.

    `differences` are the brightness differences (T,) of each frame from the one before.
    """
    repeated = float(np.mean([value < REPEATED for value in differences]))
    if (motion := shape_motion(landmarks)) < options.min_motion:
        return "static", f"shape deviation {motion:.4f}"
    if repeated > options.max_repeated:
        return "repeated frames", f"{repeated:.0%} of the frames"
    if (trembling := jitter(landmarks)) > options.max_jitter:
        return "unstable", f"jitter {trembling:.3f}"
    return None


def quality_reason(found: Quality, options: PrepareOptions) -> Reason | None:
    """Why a score is too low, or None."""
    if found.score >= options.min_quality:
        return None
    return "low quality", (
        f"score {found.score:.2f}: sharpness {found.sharpness:.2f}, size {found.size:.2f}, "
        f"exposure {found.exposure:.2f}, visibility {found.visibility:.2f}"
    )
