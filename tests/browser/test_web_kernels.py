"""The page's kernels of G match the eager network, with and without fused multiply-add."""

from __future__ import annotations

import copy
import hashlib
import json

import numpy as np
import pytest
import torch
from web_browser import PAGE

from liveportrait import weights
from liveportrait.apps.web.build import packed
from liveportrait.engine.web import generator_weights

KERNELS = PAGE / "kernels"
NEAR = 2e-5  # of shares and colours in 0..1
RUN = """
const {Generator} = await load("kernels/generator.js");
const {readWeights} = await load("kernels/weights.js");
const {kernelsFile} = await load("kernels/stages.js");
if (kind === "fused" && !kernelsFile().includes(kind)) return null;
const module = await WebAssembly.compile(await (await fetch(`/kernels/generator-${kind}.wasm`)).arrayBuffer());
const generator = await Generator.load(module, readWeights(file));
generator.run(other); // what the last frame left in the maps is no part of the next
return generator.run(warped);
"""


def test_the_kernels_were_compiled_from_their_source():
    told = json.loads((KERNELS / "kernels.json").read_text())["sha256"]
    assert set(told) == {"generator.c", "generator-plain.wasm", "generator-fused.wasm"}
    for name, expected in told.items():
        found = hashlib.sha256((KERNELS / name).read_bytes()).hexdigest()
        assert found == expected, f"{name} has changed: run scripts/make_web_kernels.py"


@pytest.fixture(scope="module")
def generator() -> torch.nn.Module:
    """G with weights that float16 holds exactly."""
    made = copy.deepcopy(weights.load("compact", "cpu").generator)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(value.half() if value.ndim > 1 else value)
    return made


def warped(seed: int, side: int = 16) -> dict[str, torch.Tensor]:
    """Plausible outputs of W."""
    numbers = torch.Generator().manual_seed(seed)
    shapes = {"volume": (64, side), "hidden": (40, side), "skip": (16, 2 * side), "image": (3, 4 * side)}
    return {
        name: torch.rand(1, count, size, size, generator=numbers) for name, (count, size) in shapes.items()
    }


@pytest.mark.parametrize("kind", ["plain", "fused"])
def test_the_kernels_match_the_eager_network(web, generator, kind):
    given = warped(0)
    with torch.no_grad():
        painting, logits = generator.layers(given)
    keep = logits.sigmoid()
    networks = weights.load("compact", "cpu")
    made = web.run(
        RUN,
        kind=kind,
        file=np.frombuffer(generator_weights(networks), np.uint8),
        warped=[value.numpy() for value in given.values()],
        other=[value.numpy() for value in warped(1).values()],
    )
    if made is None:
        pytest.skip("this browser has no relaxed SIMD")
    for found, expected in zip(made, (keep, (1 - keep) * painting), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=NEAR)


@pytest.mark.parametrize("count", [0, 1, 2, 1001])
def test_weights_survive_packing(web, count):
    data = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    script = """const {unpacked} = await load("packing.js");
        return [await unpacked("a.packed", sent), await unpacked("a.wasm", sent)];"""
    sent = np.frombuffer(packed(data.tobytes()), np.uint8)
    made = web.run(script, sent=sent)
    np.testing.assert_array_equal(made[0], data)
    np.testing.assert_array_equal(made[1], sent)
