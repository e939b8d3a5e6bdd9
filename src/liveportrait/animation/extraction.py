"""The motion of crops: as M sees it, with keypoints where the tracker saw them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.engine import Engine
from liveportrait.face.crop import CropWindow
from liveportrait.motion import SeenKeypoints, groups_for, snap_to_landmarks
from liveportrait.networks.interface import Motion


def extract_motion(
    engine: Engine,
    crops: NDArray[np.uint8],
    seen: SeenKeypoints | None,
    windows: Sequence[CropWindow],
    rows: Sequence[int] | None = None,
) -> Motion:
    """Motions of crops (B,S,S,3) as the engine finds them, with keypoints where the tracker saw them.

    `seen`: the keypoints of those frames in which the face was seen, b of them, each with the window that its crop was
    cut through, all of one size; `rows` (b) says which of the B they are, None all. None where nothing was tracked.
    Weights whose keypoints are no landmarks keep what the engine found.
    """
    motion = engine.extract_motion(crops)
    if seen is None or not windows or not groups_for(engine.variant).keypoints_are_landmarks:
        return motion
    through = [seen[row : row + 1].through(window) for row, window in enumerate(windows)]
    points = SeenKeypoints.joined(through)
    if rows is None:
        return snap_to_landmarks(motion, points, windows[0].size)
    chosen = torch.tensor(list(rows), device=engine.device)
    snapped = snap_to_landmarks(motion.rows(chosen), points, windows[0].size)
    return Motion(*(whole.index_copy(0, chosen, part) for whole, part in zip(motion, snapped, strict=True)))
