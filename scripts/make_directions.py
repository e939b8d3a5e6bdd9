"""Makes the directions of the face-mesh layout: which way keypoints go when a face smiles, winks or looks aside.

    python scripts/make_directions.py runs/stage-one/corpus/train src/liveportrait/weights/compact/directions.json

How keypoints follow blendshape scores is regressed on the training corpus; which scores make a slider, and which
keypoints it may move, is written here. Left and right faces are averaged: what the corpus does more often
on one side is no anatomy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from liveportrait.face.blendshapes import EYE_BLINK, JAW_OPEN
from liveportrait.motion import FACE_MESH
from liveportrait.motion.lifting import MIRROR, expression_effect
from liveportrait.training.corpus import load_corpus

Scores = dict[int | tuple[int, ...], float]

# Keypoints by what they belong to (motion.groups has the list). Left and right as the picture shows them.
LEFT_LIDS, RIGHT_LIDS = (0, 1), (2, 3)
IRISES = (4, 5)
BROWS = (6, 7, 8, 9)
LIPS = (10, 11, 12, 13, 14, 15)
CHIN = (17, 18, 19)

# Rows of MediaPipe's 52 blendshapes that come in pairs: the subject's left, then right.
PAIRS = ((1, 2), (4, 5), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22), (24, 26),
         (28, 29), (30, 31), (33, 39), (34, 35), (36, 37), (44, 45), (46, 47), (48, 49), (50, 51))  # fmt: skip

# Name -> (scores at 1, keypoints that move), the same at -1.
RECIPES: dict[str, tuple[tuple[Scores, tuple[int, ...]], tuple[Scores, tuple[int, ...]] | None]] = {
    "close-left-eye": (({EYE_BLINK[1]: 1.0}, LEFT_LIDS), None),
    "close-right-eye": (({EYE_BLINK[0]: 1.0}, RIGHT_LIDS), None),
    "open-lips": (({JAW_OPEN: 1.0}, LIPS + CHIN), None),
}


def symmetric(effect: np.ndarray) -> np.ndarray:
    """The effect (52,21,3) averaged with that of the mirrored face."""
    swap = np.arange(len(effect))
    for left, right in PAIRS:
        swap[[left, right]] = right, left
    mirrored = effect[swap][:, list(MIRROR)] * np.array([-1, 1, 1], np.float32)
    return (effect + mirrored) / 2


def direction(effect: np.ndarray, scores: Scores, keypoints: tuple[int, ...]) -> dict[str, list[float]]:
    """Offsets of the named keypoints for blendshape scores, rounded to a thousandth of a face's radius."""
    offset = sum(np.atleast_2d(effect[np.atleast_1d(rows)].sum(0)) * score for rows, score in scores.items())
    return {str(k): [round(float(v), 4) for v in np.asarray(offset)[k]] for k in sorted(keypoints)}


def main() -> None:
    """Write the file."""
    corpus, out = load_corpus(Path(sys.argv[1])), Path(sys.argv[2])
    motion = corpus.motion
    local = motion.canonical + motion.expression @ motion.rotation.transpose(0, 2, 1)
    frontal = np.abs(np.linalg.det(motion.rotation[:, :2, :2]))
    effect = symmetric(expression_effect(local, corpus.blendshapes, corpus.clip, frontal).reshape(52, 21, 3))
    directions = {}
    for name, (positive, negative) in RECIPES.items():
        up = direction(effect, *positive)
        down = (
            direction(effect, *negative)
            if negative
            else {k: [-v + 0.0 for v in row] for k, row in up.items()}
        )
        directions[name] = {"positive": up, "negative": down}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in directions.items())
    out.write_text(f'{{"layout": {json.dumps(FACE_MESH.layout)},\n"directions": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
