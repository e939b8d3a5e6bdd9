"""Types that several rooms share. Every room may import them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H,W,3) RGB, unless a docstring says otherwise
Array = NDArray[np.float32]

Progress = Callable[[str, int, int | None], None]  # step, done so far, total where it is known


def no_progress(step: str, done: int, total: int | None) -> None:
    """Show nothing."""
