"""Graphs for ONNX Runtime in browsers: ONNX files that its WebGPU provider takes whole, and half as large.

That provider has GridSample of operator sets 16 to 19, in two dimensions: one node of set 20 would send each frame
from the GPU to the CPU and back. Weights are stored in float16 behind casts, which the runtime folds when it loads;
all arithmetic is float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from liveportrait.engine.graphs import Graph
from liveportrait.engine.onnx import export_onnx

OPSET = 19
SMALLEST = 64  # numbers; below that a cast costs more than it saves


def export_web(graph: Graph) -> bytes:
    """The graph as an ONNX file of operator set 19. Raises UserError where the exporter is missing."""
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


def store_in_half(model: Any, weights: set[str]) -> None:
    """Weights in float16, each behind a cast that bears its name; other constants where float16 holds them exactly.

    Coordinates of lookups and biases are constants too: rounded, they move the picture more than all weights do.
    """
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        if values.size < SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        half = values.astype(np.float16)
        if name not in weights and not np.array_equal(half.astype(np.float32), values):
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # What the exporter noted of the weights' types no longer holds of their stored forms.
    stored = {tensor.name.removesuffix(".half") for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in stored]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
