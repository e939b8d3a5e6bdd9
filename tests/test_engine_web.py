"""Graphs for browsers: fully supported by WebGPU, half as large, with the same results as the eager networks."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from back_end_samples import cues, poses
from safetensors.torch import load_file
from torch import Tensor
from web_dist import web_graphs

from liveportrait import weights
from liveportrait.engine import make_backend
from liveportrait.engine.export import GENERATOR, export
from liveportrait.engine.web import SHARED_WEIGHTS
from liveportrait.errors import UserError
from liveportrait.networks import Networks

PICTURE = 75.0  # dB of the layers: rounded weights cost 76, most of it in keep; bf16 costs 68
COORDINATES = 1e-3  # of M and the small networks: what rounding their weights costs


@pytest.fixture(scope="module")
def networks() -> Networks:
    return weights.load("compact", "cpu")


@pytest.fixture(scope="module")
def folder(pytestconfig: pytest.Config) -> Path:
    return web_graphs(pytestconfig.cache.mkdir("web"))


def call(folder: Path, name: str, *tensors: Tensor) -> list[Tensor]:
    """A graph's outputs for its inputs in the order of `graphs.json`."""
    import onnxruntime

    told = json.loads((folder / "graphs.json").read_text())["graphs"][name]
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
    named = dict(zip(told["inputs"], tensors, strict=True))
    made = session.run(None, {port.name: named[port.name].numpy() for port in session.get_inputs()})
    assert [list(array.shape) for array in made] == list(told["outputs"].values())
    return [torch.from_numpy(array) for array in made]


def test_graphs_for_browsers_match_the_eager_back_end(folder, networks):
    eager = make_backend("eager", networks)[0]
    size = networks.variant.input_size
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    source, driving = poses(1, torch.device("cpu"))
    with torch.no_grad():
        features = eager.appearance(pixels)
        motion = eager.motion(pixels)
        layers = eager.render(features, source, driving, cues(1))
    for made, expected in zip(call(folder, "motion", pixels), motion, strict=True):
        torch.testing.assert_close(made, expected, atol=COORDINATES, rtol=0)
    maps = call(folder, "appearance", pixels)
    told = [] if networks.mouth_painter is None else [cues(1)]
    for made, expected in zip(call(folder, "render", *maps, *source, *driving, *told), layers, strict=True):
        assert -10 * torch.log10((made - expected).square().mean()) >= PICTURE


def test_the_small_networks_match_too(folder, networks):
    given = torch.Generator().manual_seed(2)
    told = json.loads((folder / "graphs.json").read_text())["graphs"]
    small = set(networks.modules()) & {"stitching", "eye_retargeting", "lip_retargeting", "expression"}
    assert small and small == set(told) - {"appearance", "motion", "render", "portrait", "warp", "paint"}
    for name in small:
        tensors = [torch.rand(shape, generator=given) * 0.5 for shape in told[name]["inputs"].values()]
        with torch.no_grad():
            expected = networks.modules()[name](*tensors)
        torch.testing.assert_close(call(folder, name, *tensors)[0], expected, atol=2e-3, rtol=1e-3)


def test_the_stages_match_the_full_graph(folder, networks):
    source, driving = poses(1, torch.device("cpu"))
    size = networks.variant.input_size
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        features = networks.appearance(torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear"))
        eager = make_backend("eager", networks)[0].render(features, source, driving, cues(1))
    maps = [features[name] for name in sorted(features)]
    (patch,) = call(folder, "portrait", features["image"], *source)
    volume, hidden, skip, image, flow = call(folder, "warp", *maps, *source, *driving)
    generator = copy.deepcopy(networks.generator)
    generator.load_state_dict(load_file(folder / GENERATOR))
    with torch.no_grad():
        painting, logits = generator.layers(
            {"volume": volume, "hidden": hidden, "skip": skip, "image": image}
        )
    kept = logits.sigmoid()
    told = (patch, features["colour"], image, kept, (1 - kept) * painting, *source, *driving, cues(1))
    keep, paint = call(folder, "paint", *told)
    for made, expected in zip((flow, keep, paint), eager, strict=True):
        assert -10 * torch.log10((made - expected).square().mean()) >= PICTURE


def test_webgpu_supports_every_lookup_and_weights_are_stored_in_float16(folder, networks):
    import onnx

    lookups = 0
    for path in folder.glob("*.onnx"):
        model: Any = onnx.load(path)
        assert {opset.version for opset in model.opset_import if not opset.domain} == {19}
        for node in model.graph.node:
            if node.op_type == "GridSample":
                lookups += 1
                assert {a.s for a in node.attribute if a.name == "mode"} <= {b"bilinear"}
    assert lookups > 0
    parameters = sum(p.numel() for module in networks.modules().values() for p in module.parameters())
    files = [*folder.glob("*.onnx"), folder / SHARED_WEIGHTS]
    assert sum(path.stat().st_size for path in files) < 2.5 * parameters


def test_browsers_have_no_lookups_in_volumes(networks, tmp_path):
    with pytest.raises(UserError, match="choose --sampling decomposed"):
        export(networks, "web", tmp_path / "out", sampling="native")
