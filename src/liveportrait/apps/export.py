"""`liveportrait export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from liveportrait.choices import ExportFormat, Precision


@dataclass(frozen=True)
class Export:
    """Write the networks as files for another runtime: appearance, motion, and warping with generator."""

    to: ExportFormat
    """onnx, openvino, or tensorrt (an engine for the GPU of this machine)"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """the folder to make"""
    weights: str = "compact"
    """name of the weights (see `liveportrait weights list`), or a folder"""
    batch: int = 1
    """pictures that go through a graph together"""
    sampling: Literal["auto", "native", "decomposed"] = "auto"
    """how feature volumes are looked up: by 5-D grid sampling, or by 2-D lookups for runtimes without it; auto is
    native where the format has it"""

    precision: Precision = "fp32"
    """of convolutions; fp16 is for graphics processors, by onnx or tensorrt"""

    def run(self) -> None:
        """Export, and print the files."""
        from liveportrait import weights
        from liveportrait.engine import pick_device
        from liveportrait.engine.export import export

        device = pick_device() if self.to == "tensorrt" else "cpu"
        sampling = None if self.sampling == "auto" else self.sampling
        networks = weights.load(self.weights, device)
        for path in export(networks, self.to, self.out, self.batch, sampling, self.precision):
            print(f"wrote {path}")
