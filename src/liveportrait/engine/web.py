"""Graphs for ONNX Runtime in browsers: ONNX files that its WebGPU provider supports completely, at half the size.

That provider has GridSample from operator sets 16 to 19, in two dimensions: one node of set 20 would send each frame
from the GPU to the CPU and back. Weights are stored in float16 followed by casts, which the runtime folds on loading;
all arithmetic is float32. Stored weights are rounded further, to `SIGNIFICANT` bits: the zeros at the end compress, so
that a page loads a tenth less, and pictures differ by less than 0.1 of 255 grey levels.

W with G is also written in stages, for pages that compute G on the CPU with their own kernels: `portrait` runs once per
source, `warp` is W, `paint` the mouth painter; between the last two comes G, whose weights are written separately. All
of it together is equivalent to `render_graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from liveportrait.engine.graphs import Graph, example_features, example_pose
from liveportrait.engine.onnx import export_onnx
from liveportrait.networks import Networks, compact
from liveportrait.networks.compact.painter import CUES, MouthPainter, mouth_patch
from liveportrait.networks.interface import Layers, Pose
from liveportrait.networks.renderer import grey_of_grey, with_detail

OPSET = 19
MIN_SIZE = 64  # numbers: for smaller tensors a cast costs more than it saves
SIGNIFICANT = 9  # bits of a stored weight, of float16's 11
SHARED_WEIGHTS = "shared.weights"  # the file of the weights that several graphs hold
MIN_SHARED = 1024  # bytes of a tensor that is stored there
ALIGNMENT = 16  # bytes
WARPED = ("volume", "hidden", "skip", "image", "image_flow")
MOVED = ("moved_volume", "hidden", "moved_skip", "moved_image", "flow")  # the same as outputs of a graph
POSES = tuple(f"{whose}_{part}" for whose in ("source", "driving") for part in Pose._fields)
FIELDS = len(Pose._fields)


def export_web(graph: Graph) -> bytes:
    """The graph as an ONNX file with operator set 19. Raises UserError if the exporter is missing."""
    data = export_onnx(graph, "decomposed")
    import onnx

    model = onnx.load_model_from_string(data)
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = OPSET
    for node in model.graph.node:
        if node.op_type == "GridSample":
            for attribute in node.attribute:
                if attribute.name == "mode" and attribute.s == b"linear":  # its name since set 20
                    attribute.s = b"bilinear"
    weights = {name for name, tensor in graph.module.named_parameters() if tensor.ndim > 1}
    store_in_half(model, weights)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def share_weights(paths: Sequence[Path]) -> list[Path]:
    """Move weights that several ONNX files hold into `SHARED_WEIGHTS` next to them; returns the files that need it."""
    import onnx

    models = {path: onnx.load(path) for path in paths}
    tensors = [(path, tensor) for path, model in models.items() for tensor in model.graph.initializer]
    holders: dict[bytes, set[Path]] = {}
    for path, tensor in tensors:
        if len(tensor.raw_data) >= MIN_SHARED:
            holders.setdefault(tensor.raw_data, set()).add(path)
    places: dict[bytes, int] = {}
    size = 0
    for data, where in holders.items():
        if len(where) > 1:
            places[data] = size
            size += -(-len(data) // ALIGNMENT) * ALIGNMENT
    changed = set()
    for path, tensor in tensors:
        if (data := tensor.raw_data) in places:
            onnx.external_data_helper.set_external_data(tensor, SHARED_WEIGHTS, places[data], len(data))
            tensor.ClearField("raw_data")
            changed.add(path)
    shared = bytearray(size)
    for data, place in places.items():
        shared[place : place + len(data)] = data
    paths[0].with_name(SHARED_WEIGHTS).write_bytes(shared)
    for path in changed:
        path.write_bytes(models[path].SerializeToString())
    return sorted(changed)


def store_in_half(model: Any, weights: set[str]) -> None:
    """Store weights in float16, each followed by a cast with its name; other constants only if that is lossless.

    Sampling coordinates and biases are constants too: rounding them changes the picture more than rounding all weights.
    """
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        if values.size < MIN_SIZE or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        half = rounded(values) if name in weights else values.astype(np.float16)
        if name not in weights and not np.array_equal(half.astype(np.float32), values):
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # The exporter's type information is no longer right for the weights that were stored.
    stored = {tensor.name.removesuffix(".half") for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in stored]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to `SIGNIFICANT` bits, as float16."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(mantissa * 2**SIGNIFICANT), exponent - SIGNIFICANT).astype(np.float16)


def has_stages(networks: Networks) -> bool:
    """Whether the networks can be exported in stages: they must be compact, with a mouth painter."""
    return isinstance(networks.generator, compact.generator.Generator) and networks.mouth_painter is not None


@torch.no_grad()
def stage_graphs(networks: Networks) -> list[Graph]:
    """The graphs `portrait`, `warp` and `paint`, batch size 1, float32; requires `has_stages`."""
    assert isinstance(networks.mouth_painter, MouthPainter)
    features = example_features(networks)
    source, driving = example_pose(networks), example_pose(networks)
    cues = source.scale.new_zeros(1, CUES)
    seen = _Portrait()
    warp = _Warp(networks.warping, tuple(features))
    inputs = (*features.values(), *source, *driving)
    patch = seen(features["image"], *source)
    warped = dict(zip(WARPED, warp(*inputs), strict=True))
    keep = warped["image"][:, :1].contiguous()
    painted = (patch, features["colour"], warped["image"], keep, torch.zeros_like(warped["image"]))
    return [
        Graph("portrait", seen, (features["image"], *source), ("image", *POSES[:FIELDS]), ("patch",)),
        Graph("warp", warp, inputs, (*features, *POSES), MOVED),
        Graph(
            "paint",
            _Paint(networks.mouth_painter),
            (*painted, *source, *driving, cues),
            ("patch", "colour", "moved_image", "kept", "painting", *POSES, "cues"),
            ("keep", "paint"),
        ),
    ]


def generator_weights(networks: Networks) -> bytes:
    """G's weights as a safetensors file by parameter name, with kernels in float16."""
    state = networks.generator.state_dict()
    return save(
        {
            name: (value.half() if value.ndim > 1 else value.float()).contiguous()
            for name, value in state.items()
        }
    )


class _Portrait(nn.Module):
    """The painter's input from a source: its patch (1,3,64,80)."""

    def forward(self, image: Tensor, *pose: Tensor) -> Tensor:
        return mouth_patch(Pose(*pose)).cut(image)


class _Warp(nn.Module):
    def __init__(self, warping: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.warping, self.names = warping, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        features = dict(zip(self.names, tensors, strict=False))
        poses = tensors[len(self.names) :]
        warped = self.warping(features, Pose(*poses[:FIELDS]), Pose(*poses[FIELDS:]))
        return tuple(warped[name] for name in WARPED)


class _Paint(nn.Module):
    def __init__(self, painter: MouthPainter) -> None:
        super().__init__()
        self.painter = painter

    def forward(
        self, patch: Tensor, colour: Tensor, warped: Tensor, keep: Tensor, paint: Tensor, *told: Tensor
    ) -> tuple[Tensor, Tensor]:
        own, driving, cues = Pose(*told[:FIELDS]), Pose(*told[FIELDS:-1]), told[-1]
        given = with_detail(Layers(keep.new_zeros(1, 1, 1, 2), keep, paint), warped)
        layers = self.painter.paint(patch, warped, given, own, driving, cues)
        return layers.keep, grey_of_grey(layers.paint, colour)
