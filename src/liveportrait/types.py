"""Types shared by several packages; any of them may import this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H,W,3) RGB unless a docstring says otherwise
Array = NDArray[np.float32]

Progress = Callable[[str, int, int | None], None]  # step, done so far, total if known


class Closeable(ABC):
    """Something to close: by `close`, or at the end of its `with` block."""

    @abstractmethod
    def close(self) -> None:
        """Release what it holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def no_progress(step: str, done: int, total: int | None) -> None:
    """Report nothing."""
