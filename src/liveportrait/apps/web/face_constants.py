"""Numbers that the page's face analysis needs and Python owns, ready for JSON: they are typed nowhere twice."""

from __future__ import annotations

from typing import Any

from liveportrait.animation.options import SourceOptions
from liveportrait.face import analyzer, canonical, choice, crop, detector, mesh, tracker
from liveportrait.networks.interface import CROP_SIDE

Numbers = dict[str, Any]


def face_constants() -> Numbers:
    """What the scripts of `page/face` read."""
    source = SourceOptions()
    return {
        "detector": {
            "side": detector.SIDE,
            "grids": detector.GRIDS,
            "minScore": detector.MIN_SCORE,
            "minScoreTile": detector.MIN_SCORE_TILE,
            "overlap": detector.OVERLAP,
            "smallestSeen": detector.SMALLEST_SEEN,
            "stride": detector.STRIDE,
            "margin": detector.MARGIN,
            "finest": detector.FINEST,
        },
        "mesh": {"side": mesh.SIDE, "room": mesh.ROOM, "eyeCorners": mesh.EYE_CORNERS},
        "analyzer": {
            "presence": analyzer.PRESENCE,
            "smallest": analyzer.SMALLEST,
            "smallestPx": analyzer.SMALLEST_PX,
            "blendshapeLandmarks": analyzer.BLENDSHAPE_LANDMARKS,
        },
        "crop": {
            "size": crop.SIZE,
            "input": CROP_SIDE,
            "outlineGrowth": crop.OUTLINE_GROWTH,
            "shortestAxis": crop.SHORTEST_AXIS,
            "outlinePoints": crop.outline_points().tolist(),
            "eyes": (
                canonical.RIGHT_EYE_CORNERS + canonical.RIGHT_EYE_LIDS,
                canonical.LEFT_EYE_CORNERS + canonical.LEFT_EYE_LIDS,
            ),
            "mouthCorners": canonical.MOUTH_CORNERS,
            "source": {"scale": source.crop_scale, "x": source.crop_x, "y": source.crop_y},
            "driving": choice.DRIVING_CROP._asdict(),
        },
        "tracker": {
            "smallest": tracker.SMALLEST_DRIVER,
            "largestJump": tracker.LARGEST_JUMP,
            "largestGrowth": tracker.LARGEST_GROWTH,
            "far": tracker.FAR,
        },
        "outline": canonical.OVAL,
    }
