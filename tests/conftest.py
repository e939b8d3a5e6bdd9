"""What all tests share: kernels and networks that are compiled once, not once a test."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

LONGEST = (
    "test_types.py",
    "test_guide_commands.py",
    "test_training_scale_resume.py",
    "test_cluster.py",
    "test_engine_export.py",
    "test_page.py",
    "test_web_page.py",
    "test_evaluation_command.py",
    "test_engine_backends.py",
    "test_training_stage_one.py",
    "test_evaluation_is_animate.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Kernels are compiled once for all tests and processes, and apart from the user's, as is their certificate.

    PyTorch's compiler shall believe what the processor says of itself, and not compile a test of it.
    """
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    os.environ.setdefault(
        "RAY_ENABLE_AUTO_CONNECT", "0"
    )  # as `processes.cluster` does, before a test imports Ray
    kept = getattr(config, "cache", None)
    if kept is not None:
        os.environ["LIVEPORTRAIT_CACHE"] = str(Path(kept.mkdir("compiled")))
        os.environ["LIVEPORTRAIT_CREDENTIALS"] = str(Path(kept.mkdir("credentials")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: none of them keeps one process busy when the others have ended."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Networks of faces are compiled once a process. (The program does so for each Animator: they run side by side.)"""
    runtime: Any = sys.modules.get("liveportrait.face.runtime")
    if runtime is not None and not hasattr(runtime.compiled, "cache_info"):
        runtime.compiled = cache(runtime.compiled)
