"""Constants of the face analysis for the page's scripts, ready for JSON, so that Python alone defines them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from liveportrait.animation.options import SourceOptions
from liveportrait.face import analyzer, canonical, choice, crop, detector, measures, mesh, scenes, tracker
from liveportrait.media import cuts
from liveportrait.motion import framing, gliding
from liveportrait.networks import keypoints
from liveportrait.networks.compact import painter
from liveportrait.networks.interface import CROP_SIDE

Numbers = dict[str, Any]


def face_constants() -> Numbers:
    """The constants that the scripts of `page/face` read."""
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
            "presence": analyzer.MIN_PRESENCE,
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
        "cuts": {
            "memory": cuts.MEMORY,
            "sampled": cuts.SAMPLED,
            "small": cuts.SMALL,
            "regionSide": cuts.REGION_SIDE,
            "wholeFrame": asdict(cuts.WHOLE_FRAME),
            "faceRegion": asdict(cuts.FACE_REGION),
        },
        "scenes": {
            "smallerJump": scenes.SMALLER_JUMP,
            "smallerGrowth": scenes.SMALLER_GROWTH,
            "region": scenes.REGION,
        },
        "gliding": {
            "cutoff": gliding.CUTOFF,
            "lazy": gliding.LAZY._asdict(),
            "goesBack": gliding.RETURN,
            "face": framing.FACE,
        },
        "cues": {
            "around": [
                keypoints.MESH[keypoint] for keypoint in (*keypoints.MOUTH_CORNERS, *keypoints.OUTER_LIPS)
            ],
            "mouth": [keypoints.MESH[keypoint] for keypoint in keypoints.MOUTH],
            "halfWidth": measures.MOUTH_HALF_WIDTH,
            "width": painter.WIDTH,
            "height": painter.HEIGHT,
            "luma": painter.LUMA,
            "parted": painter.PARTED,
        },
        "outline": canonical.OVAL,
    }
