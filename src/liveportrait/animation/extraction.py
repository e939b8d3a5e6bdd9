"""The motion of crops: what M sees, and where the tracker saw the keypoints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from liveportrait.engine import Engine
from liveportrait.face.crop import CropWindow
from liveportrait.motion import SeenKeypoints, agree, groups_for
from liveportrait.networks.interface import Motion


def extract_motion(
    engine: Engine, tiles: NDArray[np.uint8], seen: SeenKeypoints | None, window: CropWindow | None
) -> Motion:
    """Motions of crops (B,S,S,3) as the engine finds them, with keypoints where the tracker saw them.

    `seen`: of the frames the crops were cut from with `window`; None where nothing was tracked. Weights
    whose keypoints are no landmarks keep what the engine found.
    """
    motion = engine.extract_motion(tiles)
    if seen is None or window is None or not groups_for(engine.variant).measured:
        return motion
    return agree(motion, seen.through(window), window.size)
