"""Modules that must not be imported at start, because importing them takes longer than everything else."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import liveportrait.apps.cli", ("torch", "cv2", "av", "openvino", "pandas")),
        (
            "from liveportrait import Animator; Animator.load('compact', device='cpu')",
            ("torch._dynamo", "torch._inductor", "sympy", "pandas", "matplotlib", "onnx", "onnxruntime"),
        ),
    ],
)
def test_slow_imports_are_deferred(program, absent):
    check = f"{program}; import sys; print([name for name in {absent!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
