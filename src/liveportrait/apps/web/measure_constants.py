"""Constants of the face measures for the page's scripts, ready for JSON, so that Python alone defines them."""

from __future__ import annotations

from typing import Any

from liveportrait.animation.driver.reference import SCORED_EVERY
from liveportrait.face import canonical, measures
from liveportrait.motion import lifting
from liveportrait.networks import keypoints


def measure_constants() -> dict[str, Any]:
    """The constants that `page/face/measures.js` and `page/motion/{landmarks,lifting}.js` read."""
    vertices, weights = canonical.canonical_face()
    rigid = [row for row in range(len(weights)) if weights[row] > 0]
    return {
        # Of the rigid fit: landmarks that count, where they lie on the mean face, and how much they count.
        "fit": {
            "rows": rigid,
            "vertices": vertices[rigid].flatten().tolist(),
            "weights": weights[rigid].tolist(),
        },
        "eyes": [
            {"lids": canonical.RIGHT_EYE_LIDS, "corners": canonical.RIGHT_EYE_CORNERS},
            {"lids": canonical.LEFT_EYE_LIDS, "corners": canonical.LEFT_EYE_CORNERS},
        ],
        "lips": {"lids": canonical.INNER_LIPS, "corners": canonical.MOUTH_CORNERS},
        "epsilon": measures.EPSILON,
        "scores": {
            "leftOut": (canonical.NEUTRAL, *canonical.EYE_LOOK),
            "twice": canonical.EYE_BLINK,
            "lips": measures.LIP_WEIGHT,
            "difference": measures.DIFFERENCE,
            "every": SCORED_EVERY,
        },
        "keypoints": keypoints.MESH,
        "rigidCentre": lifting.rigid_centre().tolist(),
        "lifting": {
            "rows": lifting.MESH_ROWS,
            "rigid": lifting.RIGID,
            "mean": lifting.mean_landmarks().flatten().tolist(),
        },
    }
