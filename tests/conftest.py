"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Kernels are compiled once for all tests and processes, not once a file, and apart from the user's own."""
    cache = getattr(config, "cache", None)
    if cache is not None:
        folder = Path(cache.mkdir("compiled"))
        pytest.MonkeyPatch().setenv("LIVEPORTRAIT_CACHE", str(folder))
