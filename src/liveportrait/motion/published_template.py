"""The published program's template schema: a dict with one small dict of arrays a frame.

Two spellings are in circulation: older files call the rotation `R_d` and the ratio lists `c_d_eyes_lst`
and `c_d_lip_lst`, newer ones `R`, `c_eyes_lst`, `c_lip_lst`. Animal templates bring no ratios. The
canonical keypoints (`kp`) came last, and nothing here depends on them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.motion.groups import PUBLISHED
from liveportrait.motion.template import MAX_FPS, Template, unknown_canonical
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion

_DEFAULT_FPS = 25
_POINTS = (1, NUM_KEYPOINTS, 3)


def from_published(content: Any) -> Template:
    """The template that a published `.pkl` holds; `content` is what `pickled_arrays.loads` returned."""
    if not isinstance(content, dict) or not isinstance(content.get("motion"), list):
        raise UserError("it has no list of motions")
    frames = content["motion"]
    if not frames or not all(isinstance(frame, dict) for frame in frames):
        raise UserError("its list of motions is empty or malformed")
    announced = content.get("n_frames", len(frames))
    if not isinstance(announced, int) or announced != len(frames):
        raise UserError(f"its n_frames is not the number of frames that it holds, {len(frames)}")
    canonical = (
        _stack([frame.get("kp") for frame in frames], _POINTS, "kp")
        if all("kp" in frame for frame in frames)
        else unknown_canonical(len(frames))
    )
    motion = Motion(
        rotation=_stack([frame.get("R", frame.get("R_d")) for frame in frames], (1, 3, 3), "R"),
        translation=_stack([frame.get("t") for frame in frames], (1, 3), "t"),
        scale=_stack([frame.get("scale") for frame in frames], (1, 1), "scale"),
        canonical=canonical,
        expression=_stack([frame.get("exp") for frame in frames], _POINTS, "exp"),
    )
    return Template(
        motion,
        _fps(content.get("output_fps", _DEFAULT_FPS)),
        PUBLISHED.layout,
        eye_ratios=_ratios(content, ("c_eyes_lst", "c_d_eyes_lst"), len(frames), (1, 2)),
        lip_ratios=_ratios(content, ("c_lip_lst", "c_d_lip_lst"), len(frames), (1, 1)),
    )


def to_published(template: Template) -> dict[str, Any]:
    """The published schema (newer spelling) of a template, ready to be pickled.

    That schema keeps whole frames per second only: the rate is rounded.
    """
    motion = template.motion
    arrays = {"scale": motion.scale, "R": motion.rotation, "exp": motion.expression, "t": motion.translation}
    if not motion.canonical.isnan().any():
        arrays |= {"kp": motion.canonical, "x_s": transform_keypoints(motion)}
    content: dict[str, Any] = {
        "n_frames": len(template),
        "output_fps": max(1, round(template.fps)),
        "motion": [
            {name: tensor[index : index + 1].numpy().copy() for name, tensor in arrays.items()}
            for index in range(len(template))
        ],
    }
    for name, ratios in (("c_eyes_lst", template.eye_ratios), ("c_lip_lst", template.lip_ratios)):
        if ratios is not None:
            content[name] = [row[None].numpy().copy() for row in ratios]
    return content


def _stack(values: list[Any], shape: tuple[int, ...], name: str) -> Tensor:
    """(N, *shape[1:]) float32 from one array (1, ...) a frame."""
    for index, value in enumerate(values):
        if not isinstance(value, np.ndarray) or value.shape != shape:
            found = value.shape if isinstance(value, np.ndarray) else type(value).__name__
            raise UserError(f"frame {index} has {found} as {name!r}, it should be an array {shape}")
    return torch.from_numpy(np.concatenate(values).astype(np.float32))


def _ratios(
    content: dict[str, Any], names: tuple[str, str], count: int, shape: tuple[int, int]
) -> Tensor | None:
    values = content.get(names[0], content.get(names[1]))
    if values is None or (isinstance(values, list) and not values):
        return None
    if not isinstance(values, list) or len(values) != count:
        raise UserError(f"{names[0]!r} is not a list with one entry for each of the {count} frames")
    return _stack(values, shape, names[0])


def _fps(value: Any) -> Fraction:
    valid = isinstance(value, int | float) and math.isfinite(value) and 0 < value <= MAX_FPS
    if not valid:
        raise UserError(f"its output_fps is not a number above 0 and up to {MAX_FPS}")
    return Fraction(value).limit_denominator(1001)
