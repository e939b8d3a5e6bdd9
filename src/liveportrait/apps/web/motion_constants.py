"""Constants of motion and compositing for the page's scripts, ready for JSON, so that Python alone defines them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from torch import Tensor

from liveportrait.animation.edit_options import SLIDERS
from liveportrait.animation.options import TransferOptions
from liveportrait.choices import Region
from liveportrait.face import composition, paste
from liveportrait.face.choice import DRIVING_SCALE
from liveportrait.marking import payload, tile, watermark
from liveportrait.motion import expression, framing, response, retargeting
from liveportrait.motion.directions import LIDS, LIPS, face_mesh_directions
from liveportrait.motion.groups import FACE_MESH
from liveportrait.motion.templates import files
from liveportrait.motion.templates.template import MAX_FPS
from liveportrait.networks import keypoints
from liveportrait.networks.expression import SCORES
from liveportrait.networks.interface import HALF_SIDE, NUM_KEYPOINTS

Numbers = dict[str, Any]


def motion_constants() -> Numbers:
    """The constants of `page/motion` and `page/animation`; keypoints are those of the compact weights."""
    regions = get_args(Region)
    return {
        "groups": {
            "layout": FACE_MESH.layout,
            "eyes": FACE_MESH.eyes,
            "mouth": FACE_MESH.mouth,
            "neutral": _flat(FACE_MESH.neutral_expression()),
            "relative": {region: _flat(FACE_MESH.relative_mask(region)) for region in regions},
            "absolute": {region: _flat(FACE_MESH.absolute_mask(region)) for region in regions},
        },
        "directions": {
            name: {"positive": _flat(direction.positive), "negative": _flat(direction.negative)}
            for name, direction in face_mesh_directions().items()
        },
        "framing": {
            "neck": framing.NECK,
            "neckInHead": framing.neck_in_head(),
            "unit": framing.IN_CROP,
            "farthest": framing.THIRD * framing.FACE * framing.IN_CROP,
            "smallest": framing.SMALLEST,
            "largest": framing.LARGEST,
            "free": framing.FREE,
            "drivingScale": DRIVING_SCALE,
        },
        "expression": {
            "seconds": expression.SECONDS,
            "reach": expression.REACH,
            "share": expression.SHARE,
            "gain": expression.GAIN,
            "ofE": expression.E_GAIN,
            "fades": expression.FADES,
            "lipsGain": expression.LIPS_GAIN,
            "lipsFade": expression.LIPS_FADE,
            "lag": expression.LAG,
            "lagFade": expression.LAG_FADE,
            "fullFrom": expression.FULL_FROM,
            "closed": expression.CLOSED,
            "open": expression.OPEN,
            "sameFace": expression.SAME_FACE,
            "mouth": keypoints.MOUTH,
            "mouthCorners": keypoints.MOUTH_CORNERS,
        },
        "response": {
            "wide": response.WIDE,
            "widest": response.WIDEST,
            "lag": response.LAG,
            "parted": response.PARTED,
            "fullFrom": response.FULL_FROM,
            "closed": response.CLOSED,
            "open": response.OPEN,
            "near": response.NEAR,
            "eyes": response.EYES,
            "eyesAsked": response.EYES_ASKED,
        },
        "retargeting": {
            "directions": (*LIDS, LIPS),
            "edges": retargeting.EDGES,
            "irises": (keypoints.RIGHT_IRIS, keypoints.LEFT_IRIS),
            "mouthCorners": keypoints.MOUTH_CORNERS,
            "eyeWidth": retargeting.EYE_WIDTH,
            "guess": retargeting.GUESS,
            "lipsOpen": retargeting.LIPS_OPEN,
            "shut": retargeting.SHUT,
            "opened": retargeting.OPENED,
        },
        "sliders": {name: limits._asdict() for name, limits in SLIDERS.items()},
        "options": _camel(asdict(TransferOptions())),
        "templates": {
            "format": files.FORMAT,
            "version": files.VERSION,
            "maxFps": MAX_FPS,
            "required": files.REQUIRED,
            "shapes": {
                "rotation": (3, 3),
                "translation": (3,),
                "scale": (1,),
                "expression": (NUM_KEYPOINTS, 3),
                "canonical": (NUM_KEYPOINTS, 3),
                "eye_ratios": (2,),
                "lip_ratios": (1,),
                "blendshapes": (SCORES,),
            },
        },
        "composition": {
            "halfSide": HALF_SIDE,
            "still": composition.STILL,
            "kept": composition.KEPT,
        },
        "paste": {
            "edge": paste.EDGE,
            "same": paste.SAME,
            "maskSide": paste.MASK_SIDE,
            "head": paste.HEAD,
            "raised": paste.RAISED,
            "feather": paste.FEATHER,
            "top": paste.TOP,
            "chin": paste.CHIN,
        },
        "watermark": watermark_constants(),
    }


def watermark_constants() -> Numbers:
    """What `page/animation/watermark.js` makes the mark of; waves are those that docs/reference/watermark.md draws."""
    pilot, carrying = tile.places()
    return {
        "version": payload.VERSION,
        "works": payload.WORKS,
        "polynomial": payload.POLYNOMIAL,
        "start": payload.START,
        "memory": payload.MEMORY,
        "generators": payload.GENERATORS,
        "side": tile.SIDE,
        "pilot": [
            [*place, int(wave.real), int(wave.imag)]
            for place, wave in zip(pilot.tolist(), tile.pilot(), strict=True)
        ],
        "places": carrying.tolist(),
        "faintest": watermark.MIN_STRENGTH,
        "strongest": watermark.MAX_STRENGTH,
        "busy": watermark.BUSY_GAIN,
        "around": watermark.NEIGHBOURHOOD,
        "largest": watermark.MAX_RMS,
    }


def _flat(tensor: Tensor) -> list[float]:
    values: list[float] = tensor.flatten().tolist()
    return values


def _camel(options: Numbers) -> Numbers:
    """The names as scripts spell them."""
    return {
        first + "".join(word.capitalize() for word in rest): _camel(value)
        if isinstance(value, dict)
        else value
        for name, value in options.items()
        for first, *rest in [name.split("_")]
    }
