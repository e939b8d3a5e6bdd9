"""`liveportrait weights` (list, info, fetch, convert) and `export`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitSubcommandPrefixes, Positional, arg, subcommand

from liveportrait.choices import ExportFormat, Precision


@dataclass(frozen=True)
class ListWeights:
    """List the weights that have a name."""

    def run(self) -> None:
        """Print one line for each."""
        from liveportrait import weights

        for found in weights.catalogue():
            size = f"{found.size / 1e6:.0f} MB" if found.size else found.layout
            print(f"{found.name:12}  {size:>11}  {found.summary}")


@dataclass(frozen=True)
class WeightsInfo:
    """Describe one set of weights."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """a name from the list, or a folder"""

    def run(self) -> None:
        """Print it."""
        from liveportrait import weights

        found = weights.describe(self.name)
        variant = found.variant
        total = sum(found.parameters.values())
        networks = ", ".join(f"{name} {number:,}" for name, number in found.parameters.items())
        rows = {
            "name": found.name,
            "summary": found.summary,
            "layout": found.layout,
            "folder": found.folder,
            "variant": f"{variant.name}, {variant.input_size} px in, {variant.output_size} px out",
            "parameters": f"{total:,} ({networks})",
            "without": ", ".join(found.missing),
            "size": f"{found.size:,} bytes",
            "sha256": found.sha256,
            "origin": found.metadata.origin,
            "licence": found.metadata.licence,
        }
        for label, value in rows.items():
            if value:
                print(f"{label:10}  {value}")


@dataclass(frozen=True)
class FetchWeights:
    """Download published weights and convert them."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """a name from the list"""
    folder: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """a folder with the published files, copied from another machine; nothing is downloaded"""
    endpoint: str = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    """address of the Hugging Face Hub or a mirror"""

    def run(self) -> None:
        """Fetch, and print the folder."""
        from liveportrait.weights import fetch

        print(fetch(self.name, source=self.folder, endpoint=self.endpoint))


@dataclass(frozen=True)
class ConvertWeights:
    """Convert weights in the published layout to this program's own."""

    source: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """folder in the published layout"""
    destination: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """folder to create"""

    def run(self) -> None:
        """Convert, and print the folder."""
        from liveportrait import weights

        found = weights.convert(self.source, self.destination)
        if found.missing:
            print(
                f"note: no {weights.RETARGETING_FILE} next to them: converted without {', '.join(found.missing)}",
                file=sys.stderr,
            )
        print(found.folder)


@dataclass(frozen=True)
class Weights:
    """List, describe, fetch and convert weights."""

    action: OmitSubcommandPrefixes[
        Annotated[ListWeights, subcommand("list")]
        | Annotated[WeightsInfo, subcommand("info")]
        | Annotated[FetchWeights, subcommand("fetch")]
        | Annotated[ConvertWeights, subcommand("convert")]
    ]

    def run(self) -> None:
        """Run the action."""
        self.action.run()


@dataclass(frozen=True)
class Export:
    """Export the networks for another runtime: appearance, motion, and warping with generator."""

    to: ExportFormat
    """onnx, openvino, tensorrt (an engine for this machine's GPU), or web (ONNX for browsers, with the small
    networks)"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """the folder to create"""
    weights: str = "compact"
    """name of the weights (see `liveportrait weights list`), or a folder"""
    batch: int = 1
    """batch size of the graphs"""
    sampling: Literal["auto", "native", "decomposed"] = "auto"
    """how feature volumes are sampled: native, by 5-D grid sampling; decomposed, by 2-D sampling, for runtimes
    without it; auto is native where the format supports it"""

    precision: Precision = "fp32"
    """precision of convolutions; fp16 is for GPUs, with onnx or tensorrt"""

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
