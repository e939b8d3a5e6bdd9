"""Which device the networks run on."""

from __future__ import annotations

import torch


def pick_device(name: str = "auto") -> str:
    """A device's name as PyTorch spells it; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
