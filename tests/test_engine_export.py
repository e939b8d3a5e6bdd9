"""Exported graphs run in their runtimes, are described, and give the same results as the eager back end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from back_end_samples import HALF_PSNR, TOLERANCE, both_variants, check, cues, poses
from torch import Tensor

from liveportrait.apps.cli import main
from liveportrait.engine import make_backend
from liveportrait.engine.export import export
from liveportrait.engine.graphs import Graph
from liveportrait.engine.onnx import export_onnx
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.geometry import Form
from liveportrait.networks.interface import Layers, Motion
from liveportrait.networks.renderer import compose


@pytest.fixture(scope="module")
def networks() -> dict[str, Networks]:
    return both_variants()


@pytest.fixture(scope="module", autouse=True)
def exported_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exporting COMPACT's graphs takes half a minute, so equal ones are exported only once. The cache is empty."""
    made: dict[tuple[object, ...], bytes] = {}

    def export_once(graph: Graph, form: Form) -> bytes:
        state = [
            (name, value.dtype, float(value.double().sum()))
            for name, value in graph.module.state_dict().items()
        ]
        key = (graph.name, form, *state, *(tensor.shape for tensor in graph.inputs))
        if key not in made:
            made[key] = export_onnx(graph, form)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVEPORTRAIT_CACHE", str(tmp_path_factory.mktemp("compiled")))
        patch.setattr("liveportrait.engine.onnx.export_onnx", export_once)
        yield


def test_onnx_runtime_matches_the_eager_back_end(networks):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="the ONNX exporter is not installed")
    check("onnx", "fp32", networks["compact"])


@pytest.mark.parametrize(("which", "precision", "batch"), [("base", "fp16", 2), ("compact", "fp32", 1)])
def test_exported_onnx_runs_and_is_described(which, precision, batch, networks, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="the ONNX exporter is not installed")
    given = networks[which]
    files = export(given, "onnx", tmp_path / "out", batch=batch, precision=precision)
    assert [path.name for path in files] == ["appearance.onnx", "graphs.json", "motion.onnx", "render.onnx"]
    told = json.loads((tmp_path / "out" / "graphs.json").read_text())
    assert (told["sampling"], told["batch"], told["precision"]) == ("native", batch, precision)
    size = given.variant.output_size
    outputs = told["graphs"]["render"]["outputs"]
    assert list(outputs) == list(Layers._fields) and outputs["paint"] == [batch, 3, size, size]

    def call(name: str, tensors: list[Tensor]) -> list[np.ndarray]:
        path = tmp_path / "out" / f"{name}.onnx"
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert {port.type for port in (*session.get_inputs(), *session.get_outputs())} == {"tensor(float)"}
        named = dict(zip(told["graphs"][name]["inputs"], tensors, strict=True))
        return session.run(None, {port.name: named[port.name].numpy() for port in session.get_inputs()})

    pixels, posed, expected = exported_frame(given, batch)
    made = call("appearance", [pixels])
    features = dict(zip(told["graphs"]["appearance"]["outputs"], map(torch.from_numpy, made), strict=True))
    layers = call("render", [*features.values(), *posed])
    difference = compose(Layers(*map(torch.from_numpy, layers)), features) - expected
    if precision == "fp32":
        assert difference.abs().max() < TOLERANCE
    else:
        assert difference.abs().max() > TOLERANCE / 10  # it is another precision
        assert -10 * torch.log10(difference.square().mean()) >= HALF_PSNR


def exported_frame(networks: Networks, batch: int) -> tuple[Tensor, list[Tensor], Tensor]:
    """Pixels, the parts of both poses, cues, and the picture that the eager back end renders from them."""
    eager = make_backend("eager", networks)[0]
    size = networks.variant.input_size
    pixels = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(4))
    source, driving = poses(batch, torch.device("cpu"))
    with torch.no_grad():
        features = eager.appearance(pixels)
        picture = compose(eager.render(features, source, driving, cues(batch)), features)
    told = [] if networks.mouth_painter is None else [cues(batch)]
    return pixels, [*source, *driving, *told], picture


def test_exported_openvino_runs_and_names_its_inputs_and_outputs(networks, tmp_path):
    from liveportrait.face.runtime import import_openvino

    export(networks["base"], "openvino", tmp_path / "out", batch=2)
    names = json.loads((tmp_path / "out" / "graphs.json").read_text())["graphs"]["render"]["inputs"]
    core = import_openvino().Core()
    graphs = {
        name: core.compile_model(tmp_path / "out" / f"{name}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for name in ("appearance", "motion", "render")
    }
    assert [port.get_any_name() for port in graphs["motion"].outputs] == list(Motion._fields)

    pixels, posed, expected = exported_frame(networks["base"], 2)
    made = graphs["appearance"]({"pixels": pixels.numpy()})
    tensors = dict(zip(names, [*(made[port] for port in graphs["appearance"].outputs), *posed], strict=True))
    used = {port.get_any_name() for port in graphs["render"].inputs}
    made = graphs["render"]({name: np.asarray(tensors[name]) for name in used})
    outputs = zip(Layers._fields, graphs["render"].outputs, strict=True)
    assert all(name in port.get_names() for name, port in outputs)
    picture = made["paint"]  # BASE paints everything
    torch.testing.assert_close(torch.from_numpy(picture), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": "tflite"}, "'tflite'"),
        ({"to": "onnx", "batch": 0}, "0 pictures"),
        ({"to": "openvino", "sampling": "native"}, "decomposed"),
    ],
)
def test_settings_that_cannot_be_exported_are_refused(
    settings: dict[str, Any], message: str, networks, tmp_path
):
    with pytest.raises(UserError, match=message):
        export(networks["base"], folder=tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    assert main(["export", "--to", "onnx", "-o", str(tmp_path / "taken")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_failing_export_leaves_nothing_behind(networks, tmp_path, monkeypatch):
    def fail(*_: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr("liveportrait.engine.onnx.export_onnx", fail)
    with pytest.raises(UserError, match="no space left"):
        export(networks["base"], "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
