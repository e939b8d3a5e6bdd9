"""Make the slider directions of the face-mesh layout: how keypoints move when a face smiles, winks or looks aside.

    python scripts/make_directions.py runs/stage-one/corpus/train src/liveportrait/weights/compact/directions.json

How keypoints follow blendshape scores is regressed on the training corpus; which scores make up a slider, and which
keypoints it may move, is defined here. Each effect is averaged with its mirror image, since what the corpus shows more
often on one side is not anatomy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from liveportrait.face.canonical import EYE_BLINK, JAW_OPEN
from liveportrait.motion import FACE_MESH
from liveportrait.motion.lifting import expression_effect
from liveportrait.networks.keypoints import (
    BROWS,
    CHIN,
    IRISES,
    JAW,
    LEFT_LIDS,
    LIDS,
    MIRROR,
    MOUTH,
    RIGHT_LIDS,
)
from liveportrait.training.data.corpus import load_corpus

Scores = dict[int | tuple[int, ...], float]

# Indices into MediaPipe's 52 blendshapes; in pairs, the subject's left comes first.
BROW_UP, BROW_DOWN = (3, 4, 5), (1, 2)
LOOK_LEFT, LOOK_RIGHT = (13, 16), (14, 15)  # as seen in the picture
LOOK_UP, LOOK_DOWN = (17, 18), (11, 12)
MOUTH_LEFT, PUCKER = 33, 38
SMILE, STRETCH, UPPER_LIP_UP, LOWER_LIP_DOWN = (44, 45), (46, 47), (48, 49), (34, 35)
PAIRS = ((1, 2), (4, 5), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22), (24, 26),
         (28, 29), (30, 31), (33, 39), (34, 35), (36, 37), (44, 45), (46, 47), (48, 49), (50, 51))  # fmt: skip

Recipe = tuple[Scores, tuple[int, ...], str]  # scores, the keypoints that they move, and along which axes

# Left and right eyes are as seen in the picture.
# Slider -> recipe at 1, recipe at -1 (None: the opposite; empty scores: no effect).
RECIPES: dict[str, tuple[Recipe, Recipe | None]] = {
    "close-left-eye": (({EYE_BLINK[1]: 1.0}, RIGHT_LIDS, "y"), None),
    "close-right-eye": (({EYE_BLINK[0]: 1.0}, LEFT_LIDS, "y"), None),
    "smile": (({SMILE: 1.3}, MOUTH, "xy"), None),
    "wink": (({SMILE[0]: 0.15}, MOUTH, "xy"), ({}, (), "")),
    "eyebrow": (({BROW_UP: 1.0}, BROWS, "y"), ({BROW_DOWN: 1.6}, BROWS, "xy")),
    "gaze_x": (({LOOK_RIGHT: 1.3}, IRISES, "x"), ({LOOK_LEFT: 1.3}, IRISES, "x")),
    "gaze_y": (({LOOK_UP: 1.6}, IRISES + LIDS, "y"), ({LOOK_DOWN: 1.4}, IRISES + LIDS, "y")),
    "pout": (({MOUTH_LEFT: 1.0}, MOUTH, "xy"), None),
    "purse": (({PUCKER: 1.8}, MOUTH, "xy"), ({STRETCH: 1.0}, MOUTH, "x")),
    "grin": (({UPPER_LIP_UP: 1.2, LOWER_LIP_DOWN: 0.3, SMILE: 0.5}, MOUTH, "xy"), ({}, (), "")),
    "lips": (({JAW_OPEN: 1.0}, (*MOUTH, CHIN, *JAW), "xy"), ({}, (), "")),
}


def symmetric(effect: np.ndarray) -> np.ndarray:
    """The effect (52,21,3) averaged with the mirrored face's."""
    swap = np.arange(len(effect))
    for left, right in PAIRS:
        swap[[left, right]] = right, left
    mirrored = effect[swap][:, list(MIRROR)] * np.array([-1, 1, 1], np.float32)
    return (effect + mirrored) / 2


def direction(effect: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Offsets (21,3) of a recipe."""
    scores, keypoints, axes = recipe
    offset = np.zeros((21, 3))
    for rows, score in scores.items():
        offset += effect[np.atleast_1d(rows)].sum(0) * score
    kept = np.zeros_like(offset)
    kept[np.ix_(keypoints, ["xyz".index(axis) for axis in axes])] = 1
    return offset * kept


def sparse(offset: np.ndarray) -> dict[str, list[float]]:
    """The offsets of keypoints that move, by index, rounded to four digits (units of the face's radius)."""
    return {
        str(keypoint): [round(float(value), 4) + 0.0 for value in row]
        for keypoint, row in enumerate(offset)
        if np.abs(row).max() >= 5e-5
    }


def main() -> None:
    """Write the file."""
    corpus, out = load_corpus(Path(sys.argv[1])), Path(sys.argv[2])
    motion = corpus.motion
    local = (motion.canonical + motion.expression @ motion.rotation.transpose(1, 2)).numpy()
    frontal = torch.linalg.det(motion.rotation[:, :2, :2]).abs().numpy()
    effect = symmetric(expression_effect(local, corpus.blendshapes, corpus.clip, frontal).reshape(52, 21, 3))
    directions = {}
    for name, (positive, negative) in RECIPES.items():
        up = direction(effect, positive)
        down = direction(effect, negative) if negative else -up
        directions[name] = {"positive": sparse(up), "negative": sparse(down)}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in directions.items())
    out.write_text(f'{{"layout": {json.dumps(FACE_MESH.layout)},\n"directions": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
