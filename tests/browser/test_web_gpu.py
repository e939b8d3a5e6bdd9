"""With WebGPU every node of every graph runs on the GPU: none moves data back to the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from web_browser import Modules, served_modules
from web_dist import web_graphs, web_packages
from web_networks import face_networks

from liveportrait.apps.web.face_graphs import face_graphs

# Chromium's software adapter, if there is no other one.
FLAGS = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
)
RUNTIME = (
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
PLACED = "All nodes placed on [WebGpuExecutionProvider]"
STAGES = {"portrait", "warp", "paint"}  # of `render`, where there is no WebGPU
PATIENCE = 240_000  # ms
OPEN = """const ort = await load("ort.webgpu.min.mjs");
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "verbose";
    ort.env.debug = true;
    const shared = new Uint8Array(await (await fetch("/shared.weights")).arrayBuffer());
    const externalData = [{path: "shared.weights", data: shared}];
    const options = {executionProviders: ["webgpu"], logSeverityLevel: 0, logVerbosityLevel: 0, externalData};
    const session = await ort.InferenceSession.create(`/${name}.onnx`, options);
"""
RUN = """const {dims, data} = input;
    const results = await session.run({[session.inputNames[0]]: new ort.Tensor("float32", data, dims)});
    return session.outputNames.map((name) => ({dims: [...results[name].dims], data: results[name].data}));
"""


@pytest.fixture(scope="module")
def folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All graphs of the page, and ONNX Runtime."""
    cache = pytestconfig.cache.mkdir("web")
    made = tmp_path_factory.mktemp("gpu")
    for name in RUNTIME:
        shutil.copy(web_packages(cache) / "onnxruntime-web" / "dist" / name, made)
    for path in web_graphs(cache).iterdir():
        if path.stem not in STAGES:
            shutil.copy(path, made)
    for name, data in face_graphs():
        (made / f"{name}.onnx").write_bytes(data)
    (made / "types.js").touch()
    return made


@pytest.fixture(scope="module")
def gpu(launch, folder: Path) -> Iterator[tuple[Modules, list[str]]]:
    """Runs scripts in a browser with WebGPU, and collects its console output."""
    launched = launch(*FLAGS)
    said: list[str] = []
    page = launched.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    try:
        with served_modules(page, folder) as running:
            if not running.run("return Boolean(await navigator.gpu?.requestAdapter());"):
                pytest.skip("Chromium has no WebGPU here")
            yield running, said
    finally:
        launched.close()


def test_every_node_is_placed_on_webgpu(gpu, folder):
    modules, said = gpu
    names = sorted(path.stem for path in folder.glob("*.onnx"))
    assert {"motion", "appearance", "render", "stitching", "expression", "face_landmarks"} <= set(names)
    for name in names:
        said.clear()
        modules.run(OPEN + "await session.release();", name=name)
        assert any(PLACED in line for line in said), (name, [line for line in said if "placed" in line])


@pytest.mark.parametrize("name", ["face_detector", "face_blendshapes"])
def test_webgpu_matches_python(gpu, name):
    shape, scale = {"face_detector": ((1, 128, 128, 3), 1), "face_blendshapes": ((1, 146, 2), 256)}[name]
    given = (scale * np.random.default_rng(0).random(shape)).astype(np.float32)
    modules, _ = gpu
    results = modules.run(OPEN + RUN, name=name, input=given)
    for found, expected in zip(results, face_networks()[name]([given]), strict=True):
        np.testing.assert_allclose(found.reshape(-1), expected.reshape(-1), atol=5e-3, rtol=1e-3)
