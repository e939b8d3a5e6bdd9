"""Mypy, run as a test so that it runs in parallel with the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_types():
    command = [sys.executable, "-m", "mypy"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
