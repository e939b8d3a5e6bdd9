"""Raw material for preparation: scikit-image's astronaut, shifted and with a moving face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from media_samples import make_video
from skimage.data import astronaut

from liveportrait.data.preparation.options import PrepareOptions

# Clips of half a second, small enough to be made and tracked in a test.
QUICK = PrepareOptions(min_seconds=0.4, max_seconds=2.0, min_face=60)


def scene(shift: float = 0.0, smile: float = 0.0) -> np.ndarray:
    """A picture (300,400,3) with the astronaut `shift` px to the right, her mouth stretched by `smile` px."""
    picture = np.ascontiguousarray(astronaut()[:300, 20:420])
    y, x = np.mgrid[:300, :400].astype(np.float32)
    reach = np.exp(-(((x - 205) / 22) ** 2) - ((y - 145) / 14) ** 2)
    moved = cv2.remap(
        picture,
        x,
        (y + smile * reach * (145 - y) / 14).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    matrix = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    return cv2.warpAffine(moved, matrix, (400, 300), borderMode=cv2.BORDER_REPLICATE)


def talking(frames: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of the astronaut swaying by a few px and moving her mouth; `seed` varies the movement."""
    phase = 1.7 * seed
    return [
        scene(6 * np.sin(0.3 * k + phase), 9 * np.sin((0.9 + 0.2 * seed) * k + phase)) for k in range(frames)
    ]


def write_talking(path: Path, frames: int, seed: int = 0) -> Path:
    """`talking` as a video of 25 frames per second."""
    return make_video(path, talking(frames, seed), rate=25, options={"crf": "14"})
