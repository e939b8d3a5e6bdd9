"""What the nodes use of ComfyUI (progress, interruption, folders), with fallbacks for running without it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

Audio = dict[str, Any]  # waveform (1,C,T) float32 and sample_rate


def plain_tensors() -> AbstractContextManager[object]:
    """Leave inference mode, in which ComfyUI runs nodes: its tensors cannot be changed by other threads, and a portrait
    uses several."""
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.no_grad())
    return stack


def stop_if_asked() -> None:
    """Raise ComfyUI's own exception if the user has stopped the run."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except ImportError:
        return
    throw_exception_if_processing_interrupted()


class Progress:
    """ComfyUI's progress bar on the node as a progress function; it restarts with each step."""

    def __init__(self) -> None:
        try:
            from comfy.utils import ProgressBar
        except ImportError:
            self._bar = None
        else:
            self._bar = ProgressBar(1)

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Show the progress of a step. Raises ComfyUI's exception if the user has stopped the run."""
        stop_if_asked()
        if self._bar is not None and total:
            self._bar.update_absolute(done, total)


def folder(kind: str) -> Path:
    """ComfyUI's input or output folder; without ComfyUI, the working directory."""
    try:
        import folder_paths
    except ImportError:
        return Path.cwd()
    return Path(
        folder_paths.get_input_directory() if kind == "input" else folder_paths.get_output_directory()
    )


def to_arrays(images: torch.Tensor) -> np.ndarray:
    """IMAGE (B,H,W,3 or 4), float in [0, 1], to pictures (B,H,W,3) uint8 RGB."""
    return (images[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def to_image(frame: np.ndarray) -> torch.Tensor:
    """A picture (H,W,C) uint8 to (H,W,C) float in [0, 1]."""
    return torch.from_numpy(frame).float() / 255


def cut(audio: Audio | None, seconds: float) -> Audio | None:
    """AUDIO, cut to at most `seconds`."""
    if audio is None:
        return None
    rate = audio["sample_rate"]
    return {"waveform": audio["waveform"][..., : round(seconds * rate)], "sample_rate": rate}
