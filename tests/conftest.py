"""Shared by all tests: kernels and networks are compiled once instead of once per test."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

LONGEST = (
    "test_cluster.py",
    "test_types.py",
    "test_web_page.py",
    "test_page.py",
    "test_guide_commands.py",
    "test_engine_export.py",
    "test_engine_backends.py",
    "test_evaluation_command.py",
    "test_evaluation_is_animate.py",
    "test_engine_winograd.py",
    "test_training_joint.py",
    "test_training_scale_resume.py",
    "test_training_scale_processes.py",
    "test_training_stage_two.py",
    "test_training_stage_one.py",
    "test_hostile.py",
    "test_speech.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Compile kernels once for all tests and processes, in a cache of their own; likewise the signing certificate.

    PyTorch's compiler trusts the processor's flags instead of compiling a test for them.
    """
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    # As `processes.cluster` does, before a test imports Ray
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    kept = getattr(config, "cache", None)
    if kept is not None:
        os.environ["LIVEPORTRAIT_CACHE"] = str(Path(kept.mkdir("compiled")))
        os.environ["LIVEPORTRAIT_CREDENTIALS"] = str(Path(kept.mkdir("credentials")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that none is left running alone at the end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Compile the face networks once per process. (The program does so per Animator, since they run concurrently.)"""
    runtime: Any = sys.modules.get("liveportrait.face.runtime")
    if runtime is not None and not hasattr(runtime.compiled, "cache_info"):
        runtime.compiled = cache(runtime.compiled)
