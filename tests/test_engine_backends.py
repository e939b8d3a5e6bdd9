"""Every back end that can run here is compared with the eager one; compiled artefacts are reused while they are valid.

ONNX Runtime's is in test_engine_export.py, where the graphs are exported.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from back_end_samples import both_variants, check, run
from small_base import SMALL_BASE, small_networks
from torch import Tensor, nn

from liveportrait.engine import Engine, make_backend
from liveportrait.engine.cache import artefact_key, cache_folder, load_or_make
from liveportrait.engine.export import export
from liveportrait.engine.graphs import Rows
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.geometry import sample_volume, sampling_form
from liveportrait.networks.interface import Features, Motion

CASES = [
    ("eager", "base", "bf16"),
    ("openvino", "compact", "fp32"),
    ("openvino", "compact", "bf16"),
    ("openvino", "base", "fp32"),
    ("winograd", "base", "fp32"),
    ("winograd", "base", "bf16"),
    ("winograd", "compact", "fp32"),
]
ON_A_GPU = [
    (name, which, precision)
    for name in ("eager", "cudagraphs", "tensorrt")
    for which in ("base", "compact")
    for precision in ("fp32", "fp16")
    if (name, precision) != ("eager", "fp32")  # the measure itself
]


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of compiled artefacts for this file alone, except for kernels, which all tests share."""
    with suppress(ImportError):
        import liveportrait.engine.winograd  # noqa: F401
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVEPORTRAIT_CACHE", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="module")
def networks() -> dict[str, Networks]:
    return both_variants()


@pytest.mark.parametrize(("name", "which", "precision"), CASES)
def test_a_back_end_matches_the_eager_one(name, which, precision, networks):
    if name == "winograd":
        pytest.importorskip("numba", reason="numba is not installed")
    check(name, precision, networks[which])


class Reading(nn.Module):
    """An M that compiles quickly."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, image: Tensor) -> Motion:
        mean = self.gain * image.mean((2, 3))  # (B,3)
        points = mean[:, None].expand(-1, 21, 3)
        return Motion(mean[:, None].expand(-1, 3, 3), mean, mean[:, :1], points, points.sin())


class Shifting(nn.Module):
    """A W that compiles quickly."""

    def forward(self, *given: Any) -> Any:
        if len(given) == 1:
            return given[0]["map"].sigmoid()
        features, source, driving = given
        return {
            "map": features["volume"]
            + (driving.keypoints - source.keypoints).mean((1, 2))[:, None, None, None]
        }


class Keeping(nn.Module):
    def forward(self, image: Tensor) -> Features:
        return {"volume": image}


def test_torch_compile_matches_the_eager_back_end():
    small = Networks(SMALL_BASE, Keeping(), Reading(), Shifting(), Shifting())
    try:
        backend, _ = make_backend("compile", small)
    except UserError as error:
        pytest.skip(str(error))
    expected_motion, _, expected = run(make_backend("eager", small)[0], small)
    motion, _, picture = run(backend, small)
    torch.testing.assert_close(picture, expected)
    for part, wanted in zip(motion, expected_motion, strict=True):
        torch.testing.assert_close(part, wanted)


@pytest.mark.parametrize(("name", "which", "precision"), ON_A_GPU)
def test_a_gpu_back_end_matches_the_eager_one(name, which, precision, networks):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if name == "tensorrt":
        pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    moved = small_networks() if which == "base" else networks[which]
    for module in moved.modules().values():
        module.to("cuda")
    try:
        check(name, precision, moved)
    finally:
        for module in moved.modules().values():
            module.to("cpu")


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_both_forms_of_volume_sampling_agree(padding):
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 3, 4, 5, 6, generator=generator)
    grid = 1.6 * (2 * torch.rand(2, 2, 7, 8, 3, generator=generator) - 1)  # some of it outside
    grid[0, 0, 0, :3] = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    with sampling_form("native"):
        expected = sample_volume(volume, grid, padding)
    with sampling_form("decomposed"):
        decomposed = sample_volume(volume, grid, padding)
    assert expected.shape == (2, 3, 2, 7, 8)
    torch.testing.assert_close(decomposed, expected, atol=1e-5, rtol=0)


def test_rows_are_split_into_fixed_batches_and_the_last_is_padded():
    seen = []

    def double(tensors: Any) -> list[Tensor]:
        seen.append(len(tensors[0]))
        return [2 * tensors[0], tensors[0] + tensors[1]]

    rows = torch.arange(10.0).view(5, 2)
    doubled, summed = Rows(double, batch=2)([rows, rows])
    assert seen == [2, 2, 2]
    assert torch.equal(doubled, 2 * rows) and torch.equal(summed, 2 * rows)


def test_the_key_of_an_artefact_depends_on_its_inputs(networks):
    key = artefact_key(networks["base"], "openvino", 1)
    assert key == artefact_key(small_networks(), "openvino", 1)
    assert key != artefact_key(networks["base"], "openvino", 2)
    changed = small_networks()
    with torch.no_grad():
        next(changed.generator.parameters()).flatten()[0] += 1e-3
    assert key != artefact_key(changed, "openvino", 1)


def test_an_artefact_is_built_once_and_rebuilt_if_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("LIVEPORTRAIT_CACHE", str(tmp_path / "cache"))
    made = []

    def make() -> bytes:
        made.append(1)
        return b"graph" * 10

    assert load_or_make("a", make) == (b"graph" * 10, True)
    assert load_or_make("a", make) == (b"graph" * 10, False)
    path = cache_folder() / "a"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"x" + whole[41:]):
        path.write_bytes(damaged)
        assert load_or_make("a", make) == (b"graph" * 10, True)
    assert len(made) == 4 and [file.name for file in cache_folder().iterdir()] == ["a"]


def test_an_unwritable_cache_is_not_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LIVEPORTRAIT_CACHE", str(tmp_path / "file" / "cache"))
    assert load_or_make("a", lambda: b"graph") == (b"graph", True)


def test_openvino_rebuilds_damaged_artefacts_only(networks, tmp_path, monkeypatch):
    base = networks["base"]
    *_, expected = run(make_backend("openvino", base)[0], base)
    monkeypatch.setenv("LIVEPORTRAIT_CACHE", str(shutil.copytree(cache_folder(), tmp_path / "copy")))
    motions = [path for path in cache_folder().iterdir() if "motion" in path.name]  # of other networks too
    untouched = {path: path.stat().st_mtime_ns for path in cache_folder().iterdir() if path not in motions}
    assert untouched
    for motion in motions:
        motion.write_bytes(motion.read_bytes()[:1000])
    *_, again = run(make_backend("openvino", base)[0], base)
    assert torch.equal(again, expected)
    assert sum(motion.stat().st_size > 1000 for motion in motions) == 1
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}


def test_importing_openvino_does_not_load_telemetry():
    code = (
        "import sys; from liveportrait.face.runtime import import_openvino; import_openvino().Core(); "
        "from openvino.frontend.pytorch import fx_decoder; print('openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_engine_reports_its_back_end_and_the_reason(networks):
    asked = Engine(networks["base"])
    assert (asked.backend, asked.precision, asked.reason) == ("eager", "fp32", "as requested")
    chosen = Engine(networks["compact"], "auto", backend="auto")
    assert chosen.backend in ("eager", "winograd") and chosen.precision in ("fp32", "bf16")
    assert "measured" in chosen.reason and f"; {chosen.precision}: " in chosen.reason


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("fast", "fp32", "no back end 'fast'"),
        ("cudagraphs", "fp32", "NVIDIA GPU"),
        ("tensorrt", "fp32", "NVIDIA GPU"),
        ("openvino", "fp16", "precision 'fp16'"),
        ("onnx", "bf16", "precision 'bf16'"),
        ("eager", "fp16", "on a CPU has no precision 'fp16': choose fp32 or bf16"),
    ],
)
def test_unsupported_choices_are_reported_in_one_sentence(name, precision, message, networks):
    with pytest.raises(UserError, match=message) as raised:
        make_backend(name, networks["base"], precision)
    assert "\n" not in str(raised.value)


def test_a_missing_runtime_is_reported_with_the_remedy(networks, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"liveportrait\[onnx\]"):
        make_backend("onnx", networks["base"])
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UserError, match="TensorRT is not installed"):
        export(networks["base"], "tensorrt", Path("never"))
