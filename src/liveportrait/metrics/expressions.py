"""Strength of a transferred expression: how much of its driver's movement a result shows.

Correlation does not notice an expression at half the driver's strength; the slope does.
"""

from __future__ import annotations

import numpy as np

from liveportrait.face import canonical as mesh
from liveportrait.face.measures import HeadPose
from liveportrait.types import Array

# Standard deviation over a driver's clip from which a curve counts as moving: of a score, and of a lip gap in cm. Below
# it the slope would only measure the tracker's noise.
MOVING_SCORE = 0.04
MOVING_GAP = 0.08
EXPRESSIONS = tuple(n for n in range(52) if n != mesh.NEUTRAL and n not in mesh.EYE_LOOK)  # all but gaze


def slope(curve: Array, driver: Array) -> float:
    """Least-squares slope of a curve (T,) against its driver's: 1 is the driver's strength; NaN if that is constant."""
    own, other = curve - curve.mean(), driver - driver.mean()
    spread = float((other**2).sum())
    return float((own * other).sum()) / spread if spread > 0 else float("nan")


def correlation(curve: Array, driver: Array) -> float:
    """Pearson correlation of two curves (T,); NaN if one of them is constant."""
    if np.ptp(curve) == 0 or np.ptp(driver) == 0:  # the rounding error of a mean must not count as movement
        return float("nan")
    return float(np.corrcoef(curve, driver)[0, 1])


def moving_blendshapes(driver: Array) -> list[int]:
    """Indices of the blendshapes, except gaze, that move in a driver's scores (T,52); frames with NaN are skipped."""
    known = driver[np.isfinite(driver).all(1)]
    return [n for n in EXPRESSIONS if len(known) > 1 and known[:, n].std() > MOVING_SCORE]


def lip_gap(landmarks: Array, pose: HeadPose) -> float:
    """Gap between the middles of the inner lips, landmarks (478,3) px, along the head's own vertical axis, cm.

    The centimetres are the canonical face's: they do not depend on the face's size, position or rotation.
    """
    upper, lower = mesh.INNER_LIPS
    between = (
        landmarks[lower] - landmarks[upper]
    ) @ pose.rotation.T  # row vectors: this undoes the head's rotation
    return float(between[1] / pose.scale)
