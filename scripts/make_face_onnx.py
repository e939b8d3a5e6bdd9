"""Make the face networks for browsers: the bundled TFLite files as ONNX, weights in float16 where that is lossless.

    python3.11 -m venv convert && convert/bin/pip install tf2onnx==1.17.0 tensorflow-cpu==2.21.0
    python scripts/make_face_onnx.py convert/bin/python src/liveportrait/face/models

The first Python has tf2onnx and TensorFlow, which nothing else here needs. Prints the checksums for models/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from liveportrait.engine.web import store_in_half
from liveportrait.face.runtime import FOLDER

OPSET = 18
# tf2onnx would move transposes through the blendshape network's layer norms, after which the shapes do not fit.
CONVERT = """from tf2onnx import optimizer
from tf2onnx.convert import main
if {keep_transposes}:
    del optimizer._optimizers["optimize_transpose"]
main()
"""


class Network(NamedTuple):
    """A network to convert."""

    file: str  # in the bundle
    inputs: tuple[str, ...]  # new names
    outputs: tuple[str, ...]  # new names of the first outputs; the others are dropped
    keep_transposes: bool = False


NETWORKS = {
    "face_detector": Network("face_detector", ("view",), ("regressors", "logits")),
    "face_landmarks": Network("face_landmarks_detector", ("square",), ("landmarks", "presence")),
    "face_blendshapes": Network("face_blendshapes", ("points",), ("scores",), keep_transposes=True),
}


def converted(network: Network, converter: Path) -> onnx.ModelProto:
    """The network as converted by tf2onnx."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "network.onnx"
        source = FOLDER / f"{network.file}.tflite"
        script = CONVERT.format(keep_transposes=network.keep_transposes)
        options = ["--tflite", str(source), "--output", str(made), "--opset", str(OPSET)]
        subprocess.run([str(converter), "-c", script, *options], check=True)
        return onnx.load(made)


def finished(model: onnx.ModelProto, network: Network) -> bytes:
    """The contents of the final file: batch size 1, plain names, nothing unneeded."""
    graph: Any = model.graph
    renamed = dict(zip((value.name for value in graph.input), network.inputs, strict=True))
    renamed |= {
        value.name: name
        for value, name in zip(graph.output, (*network.outputs, "", ""), strict=False)
        if name
    }
    del graph.output[len(network.outputs) :]
    _drop_unused(graph)
    # TensorFlow's internal names would make up a tenth of the file.
    inner = [tensor.name for tensor in graph.initializer] + [
        name for node in graph.node for name in node.output
    ]
    renamed = {name: f"v{number}" for number, name in enumerate(inner)} | {"": ""} | renamed
    for tensor in graph.initializer:
        tensor.name = renamed[tensor.name]
    for node in graph.node:
        node.name = ""
        node.input[:] = [renamed[name] for name in node.input]
        node.output[:] = [renamed[name] for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = renamed[value.name]
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_param:
            first.dim_value = 1
    del graph.value_info[:]
    for opset in [opset for opset in model.opset_import if opset.domain]:
        model.opset_import.remove(opset)
    store_in_half(model, set())
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _drop_unused(graph: Any) -> None:
    """Remove nodes and weights that only the dropped outputs need."""
    wanted = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
    for parts in (graph.node, graph.initializer):
        kept = [part for part in parts if wanted & set(part.output if parts is graph.node else [part.name])]
        del parts[:]
        parts.extend(kept)


def main() -> None:
    """Convert all networks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("converter", type=Path, help="a Python with tf2onnx and TensorFlow")
    parser.add_argument("folder", type=Path, help="where to write the ONNX files")
    arguments = parser.parse_args()
    for name, network in NETWORKS.items():
        data = finished(converted(network, arguments.converter.absolute()), network)
        (arguments.folder / f"{name}.onnx").write_bytes(data)
        print(f"{name}.onnx  {len(data):,} bytes  {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
