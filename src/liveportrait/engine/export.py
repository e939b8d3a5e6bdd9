"""Exporting networks for other runtimes: F, M, and W with G as one graph each, with a description."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import torch

from liveportrait.choices import ExportFormat, Precision
from liveportrait.engine.backend import require_precision, to_half
from liveportrait.engine.graphs import (
    Graph,
    appearance_graph,
    motion_graph,
    openvino_layout,
    render_graph,
    small_graphs,
)
from liveportrait.engine.rewrites import optimised
from liveportrait.engine.web import (
    SHARED_WEIGHTS,
    export_web,
    generator_weights,
    has_stages,
    share_weights,
    stage_graphs,
)
from liveportrait.errors import UserError
from liveportrait.folders import unfinished_beside
from liveportrait.networks import Networks
from liveportrait.networks.geometry import Form

DESCRIPTION = "graphs.json"
GENERATOR = "generator.safetensors"  # G's weights, for pages with their own kernels
MAKERS = (appearance_graph, motion_graph, render_graph)
PRECISIONS: dict[ExportFormat, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16"),
    "openvino": ("fp32",),  # its plug-ins choose the precision when they compile
    "tensorrt": ("fp32", "fp16"),
    "web": ("fp32",),  # its weights are stored in 16 bits, its arithmetic is not
}


def export(
    networks: Networks,
    to: ExportFormat,
    folder: str | Path,
    batch: int = 1,
    sampling: Form | None = None,
    precision: Precision = "fp32",
) -> list[Path]:
    """Writes appearance, motion and render as graphs of that batch size into a new folder; returns its files.

    `sampling` is how volumes are sampled; None is native if the format supports it. `precision` is that of
    convolutions. `graphs.json` lists each graph's inputs and outputs with shapes: all are float32, pictures RGB in
    [0, 1]. For browsers, the small networks and the stages of `web.stage_graphs` are written too, as far as present.
    The folder appears complete or not at all. Raises UserError if it exists, a package is missing, or a setting is not
    supported.
    """
    if to not in get_args(ExportFormat):
        raise UserError(f"cannot export to {to!r}: choose one of {', '.join(get_args(ExportFormat))}")
    if batch < 1:
        raise UserError(f"cannot export graphs of {batch} pictures: give at least 1")
    require_precision(f"the export to {to}", precision, PRECISIONS[to])
    if to in ("openvino", "web") and sampling == "native":
        runtime = "OpenVINO has" if to == "openvino" else "browsers have"
        raise UserError(f"{runtime} no 5-D grid sampling: choose --sampling decomposed")
    folder = Path(folder)
    if not folder.parent.is_dir():
        raise UserError(f"cannot write to {folder}: there is no folder {folder.parent}")
    if folder.exists():
        raise UserError(f"{folder} exists already: choose another name or remove it")

    write, form = _writer(to, sampling)
    fast = to_half(openvino_layout(optimised(networks)), precision)
    staged = optimised(networks) if to == "web" and has_stages(networks) else None
    try:
        with unfinished_beside(folder) as partial:
            partial.mkdir()
            described = {}
            graphs = [make(fast, batch, precision) for make in MAKERS]
            if to == "web":
                graphs += small_graphs(fast, batch)
            if staged:
                graphs += stage_graphs(staged)
                _write(partial / GENERATOR, generator_weights(networks))
            for graph in graphs:
                write(graph, partial)
                described[graph.name] = _describe(graph)
            if staged:
                for path in share_weights(sorted(partial.glob("*.onnx"))):
                    described[path.stem]["weights"] = SHARED_WEIGHTS
            facts = {
                "variant": networks.variant.name,
                "format": to,
                "batch": batch,
                "precision": precision,
                "sampling": form,
                "versions": {"liveportrait": version("liveportrait"), "torch": torch.__version__},
                "graphs": described,
            }
            (partial / DESCRIPTION).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            partial.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error}") from error
    return sorted(folder.iterdir())


def _writer(to: ExportFormat, sampling: Form | None) -> tuple[Callable[[Graph, Path], None], Form]:
    """A function that writes a graph into a folder in that format, and the form of 5-D sampling it uses."""
    if to == "openvino":
        from liveportrait.engine.openvino import save_graph

        return save_graph, "decomposed"
    if to == "tensorrt":
        from liveportrait.engine.tensorrt import build_engine, import_tensorrt, sampling_for

        form = sampling or sampling_for(import_tensorrt().__version__)
        return lambda graph, into: _write(into / f"{graph.name}.plan", build_engine(graph, form)), form
    if to == "web":
        return lambda graph, into: _write(into / f"{graph.name}.onnx", export_web(graph)), "decomposed"
    from liveportrait.engine.onnx import export_onnx

    onnx_form: Form = sampling or "native"
    return lambda graph, into: _write(into / f"{graph.name}.onnx", export_onnx(graph, onnx_form)), onnx_form


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _describe(graph: Graph) -> dict[str, object]:
    with torch.no_grad():
        made = graph.module(*graph.inputs)
        made = (made,) if isinstance(made, torch.Tensor) else made
    return {
        "inputs": {n: list(t.shape) for n, t in zip(graph.input_names, graph.inputs, strict=True)},
        "outputs": {n: list(t.shape) for n, t in zip(graph.output_names, made, strict=True)},
    }
