"""Which way keypoints go when a face smiles, looks aside or closes an eye: data, one table for each layout.

A direction is an offset (21,3) of the keypoints in the head's own frame for the value 1 of its slider. It
becomes expression after the head's rotation: δ + value · direction @ R. The compact weights' directions are
regressed on the training corpus (scripts/make_directions.py) and lie beside the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.motion.groups import FACE_MESH
from liveportrait.networks.interface import NUM_KEYPOINTS

DIRECTIONS_FILE = Path(weights.__file__).parent / "compact" / "directions.json"
# What closes one eye (left and right as the picture shows them; no sliders), and what opens the lips.
LIDS = ("close-left-eye", "close-right-eye")
LIPS = "lips"


@dataclass(frozen=True, eq=False)
class Direction:
    """Offsets of the keypoints for a slider at 1 and at −1, where the face need not do the opposite."""

    positive: Tensor  # (21,3)
    negative: Tensor  # (21,3)

    def at(self, value: Tensor) -> Tensor:
        """The offsets (B,21,3) for values (B,) of the slider."""
        amount = value[:, None, None]
        return amount.clamp(min=0) * self.positive.to(value) + (-amount).clamp(min=0) * self.negative.to(
            value
        )


@cache
def face_mesh_directions() -> dict[str, Direction]:
    """The directions of the face-mesh layout by name. Raises `UserError` where the file is missing or damaged."""
    try:
        content = json.loads(DIRECTIONS_FILE.read_text(encoding="utf-8"))
        if content["layout"] != FACE_MESH.layout:
            raise ValueError(f"it is for the layout {content['layout']!r}")
        return {
            name: Direction(*(_dense(part[sign]) for sign in ("positive", "negative")))
            for name, part in content["directions"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"cannot read the directions {DIRECTIONS_FILE}: {error}: install the program again"
        ) from error


def _dense(sparse: dict[str, list[float]]) -> Tensor:
    """Offsets (21,3) from those of the keypoints that move, by number."""
    dense = torch.zeros(NUM_KEYPOINTS, 3)
    for keypoint, offset in sparse.items():
        dense[int(keypoint)] = torch.tensor(offset)
    return dense
