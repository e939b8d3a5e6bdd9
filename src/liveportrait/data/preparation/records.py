"""What preparation passes from step to step: windows, clips, and notes of what was dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.quality import Quality

Array = NDArray[np.float32]
Labels = dict[str, NDArray[Any]]  # arrays as they are stored in KEY.npz


class Window(NamedTuple):
    """A square of the input, whole px."""

    x: int
    y: int
    side: int

    def to_crop(self, points: Array, size: int) -> Array:
        """Points (...,3) px of the input as px of the crop of `size` px; pixel centres lie at whole numbers."""
        scale = np.float32(size / self.side)
        moved = (points[..., :2] + np.float32(0.5) - np.array([self.x, self.y], np.float32)) * scale
        return np.concatenate([moved - np.float32(0.5), points[..., 2:] * scale], axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one input that become one sample; a picture has one frame."""

    start: int  # first frame, counted at the clips' rate
    window: Window
    labels: Labels  # empty: unlabelled
    quality: Quality
    embedding: Array | None  # (128,) mean of the face's; None: unlabelled
    frames: int


@dataclass(frozen=True)
class Dropped:
    """A part of an input that no sample shows."""

    reason: str  # one of a few words, to count by
    detail: str  # figures, for people
    start_s: float | None = None  # None: the input as a whole
    end_s: float | None = None
