"""Directions in which keypoints move when a face smiles, looks aside or closes an eye: data, one table per layout.

A direction is an offset (21,3) of the keypoints in the head's own frame at slider value 1. It is added to the
expression after the head's rotation: δ + value · direction @ R. The compact weights' directions were regressed on the
training corpus (scripts/make_directions.py) and are stored next to the weights.

Those of the published layout are the published program's slider table. Its entries are (keypoint, axis, offset of the
expression at slider value 1), in that program's own units times the range of its slider; see `motion.editing` for the
meaning of value 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.motion.groups import FACE_MESH
from liveportrait.networks.interface import NUM_KEYPOINTS
from liveportrait.weights import directions_file

# Closing one eye (left or right in the picture; not sliders), and opening the lips.
LIDS = ("close-left-eye", "close-right-eye")
LIPS = "lips"


Entries = tuple[tuple[int, str, float], ...]

_WINK, _BROW, _GAZE_X, _GAZE_Y, _POUT, _GRIN = 39.0, 30.0, 30.0, 63.0, 0.09, 15.0
_PURSE, _UNPURSE, _OPEN, _CLOSE = 15.0, 20.0, 120.0, 90.0

_SMILE: Entries = (
    (20, "y", -0.01), (14, "y", -0.02), (17, "y", 0.0065), (17, "z", 0.003),
    (13, "y", -0.00275), (16, "y", -0.00275), (3, "y", -0.0035), (7, "y", -0.0035),
)  # fmt: skip
_GAZE_UP: Entries = (
    (11, "y", -0.0005), (15, "y", -0.0005), (13, "y", -0.00015), (16, "y", -0.00015),
)  # fmt: skip
_PURSED: Entries = ((14, "y", 0.001), (3, "y", -0.0005), (7, "y", -0.0005), (17, "z", -0.0005))
_OPENED: Entries = ((19, "y", 0.001), (19, "z", 0.0001), (17, "y", -0.0001))


def _times(factor: float, entries: Entries) -> Entries:
    return tuple((keypoint, axis, factor * offset) for keypoint, axis, offset in entries)


# name -> offsets at 1, offsets at -1
TABLE: dict[str, tuple[Entries, Entries]] = {
    "smile": (_SMILE, _times(-1, _SMILE)),
    "wink": (
        _times(_WINK, ((11, "y", 0.001), (13, "y", -0.0003), (17, "x", 0.0003), (17, "y", 0.0003),
                       (3, "y", -0.0003))),
        (),
    ),
    "eyebrow": (
        _times(_BROW, ((1, "y", 0.001), (2, "y", -0.001))),
        _times(-_BROW, ((1, "x", -0.001), (2, "x", 0.001), (1, "y", 0.0003), (2, "y", -0.0003))),
    ),
    "gaze_x": (
        _times(_GAZE_X, ((11, "x", 0.0007), (15, "x", 0.001))),
        _times(-_GAZE_X, ((11, "x", 0.001), (15, "x", 0.0007))),
    ),
    "gaze_y": (_times(_GAZE_Y, _GAZE_UP), _times(-_GAZE_Y, _GAZE_UP)),
    "pout": (((19, "x", _POUT),), ((19, "x", -_POUT),)),
    "purse": (_times(_PURSE, _PURSED), _times(-_UNPURSE, _PURSED)),
    "grin": (_times(_GRIN, ((20, "z", -0.001), (20, "y", -0.001), (14, "y", -0.001))), ()),
    "lips": (_times(_OPEN, _OPENED), _times(-_CLOSE, _OPENED)),
    "move_x": (((5, "x", -1.0),), ((5, "x", 1.0),)),
    "move_y": (((5, "y", 1.0),), ((5, "y", -1.0),)),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Direction:
    """Offsets of the keypoints for a slider at 1 and at −1, which need not be opposites."""

    positive: Tensor  # (21,3)
    negative: Tensor  # (21,3)

    def at(self, value: Tensor) -> Tensor:
        """The offsets (B,21,3) for values (B,) of the slider."""
        amount = value[:, None, None]
        forward = amount.clamp(min=0) * self.positive.to(value)
        return forward + (-amount).clamp(min=0) * self.negative.to(value)


@cache
def face_mesh_directions() -> dict[str, Direction]:
    """The directions of the face-mesh layout by name. Raises `UserError` if the file is missing or damaged."""
    path = directions_file()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["layout"] != FACE_MESH.layout:
            raise ValueError(f"it is for the layout {content['layout']!r}")
        return {
            name: Direction(*(_dense(part[sign]) for sign in ("positive", "negative")))
            for name, part in content["directions"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"cannot read the directions {path}: {error}: install the program again") from error


@cache
def published_directions() -> dict[str, Direction]:
    """The table as offsets (21,3), by slider name."""
    directions = {}
    for name, parts in TABLE.items():
        dense = torch.zeros(2, NUM_KEYPOINTS, 3)
        for sign, entries in enumerate(parts):
            for keypoint, axis, offset in entries:
                dense[sign, keypoint, "xyz".index(axis)] += offset
        directions[name] = Direction(*dense.unbind())
    return directions


def _dense(sparse: dict[str, list[float]]) -> Tensor:
    """Offsets (21,3) from those of the keypoints that move, by number."""
    dense = torch.zeros(NUM_KEYPOINTS, 3)
    for keypoint, offset in sparse.items():
        dense[int(keypoint)] = torch.tensor(offset)
    return dense
