"""The motion of crops: what M sees, and where the tracker saw the keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from liveportrait.engine import Engine
from liveportrait.face.crop import CropWindow
from liveportrait.motion import SeenKeypoints, groups_for, snap_to_landmarks
from liveportrait.networks.interface import Motion


def extract_motion(
    engine: Engine,
    tiles: NDArray[np.uint8],
    seen: SeenKeypoints | None,
    window: CropWindow | Sequence[CropWindow] | None,
) -> Motion:
    """Motions of crops (B,S,S,3) as the engine finds them, with keypoints where the tracker saw them.

    `seen`: of the B frames that the crops were cut from, all with one window or each with its own; None where
    nothing was tracked. Weights whose keypoints are no landmarks keep what the engine found.
    """
    motion = engine.extract_motion(tiles)
    if seen is None or window is None or not groups_for(engine.variant).keypoints_are_landmarks:
        return motion
    if isinstance(window, CropWindow):
        return snap_to_landmarks(motion, seen.through(window), window.size)
    rows = [seen[row : row + 1].through(own) for row, own in enumerate(window)]
    return snap_to_landmarks(motion, joined(rows), window[0].size)


def joined(parts: Sequence[SeenKeypoints]) -> SeenKeypoints:
    """Several frames' keypoints as one."""
    return SeenKeypoints(
        np.concatenate([part.points for part in parts]), np.concatenate([part.rotation for part in parts])
    )
