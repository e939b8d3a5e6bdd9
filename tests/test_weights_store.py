"""The program's format of weights: round trips, and a clear message for every kind of error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_base import SMALL_BASE, small_networks

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import COMPACT, Networks, build
from liveportrait.networks.base import apply_spectral_norm
from liveportrait.weights import Metadata

# The module, which is hidden by the package's function of the same name.
CATALOGUE = import_module("liveportrait.weights.catalogue")

METADATA = Metadata("a test", "none", {"steps": 3, "data": ["a", "b"]})


@pytest.fixture(scope="module")
def networks() -> Networks:
    return small_networks()


@pytest.fixture
def folder(networks: Networks, tmp_path: Path) -> Path:
    """A folder with small weights."""
    weights.save(networks, tmp_path / "small", METADATA)
    return tmp_path / "small"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors in a folder and update its sha256."""
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    change_card(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def change_card(folder: Path, **entries: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_weights_survive_the_round_trip(networks: Networks, folder: Path) -> None:
    loaded = weights.load(folder)
    assert loaded.variant == SMALL_BASE
    for name, module in networks.modules().items():
        restored = loaded.modules()[name]
        assert not restored.training
        assert not any(parameter.requires_grad for parameter in restored.parameters())
        for key, value in module.state_dict().items():
            got = restored.state_dict()[key]
            assert got.dtype == value.dtype
            exact = value.ndim < 2 or not value.is_floating_point()
            expected = value if exact else value.half().float()
            assert torch.equal(got, expected), f"{name}.{key}"


def test_values_beyond_half_precision_are_kept(networks: Networks, tmp_path: Path) -> None:
    large = small_networks()
    with torch.no_grad():
        large.generator.fc.weight[0, 0, 0, 0] = 1e6
    weights.save(large, tmp_path / "large", METADATA)
    assert torch.equal(weights.load(tmp_path / "large").generator.fc.weight, large.generator.fc.weight)


def test_missing_networks_stay_missing(tmp_path: Path) -> None:
    weights.save(build(SMALL_BASE), tmp_path / "small", METADATA)
    loaded = weights.load(tmp_path / "small")
    assert loaded.stitching is None and loaded.eye_retargeting is None and loaded.lip_retargeting is None
    assert set(weights.describe(tmp_path / "small").parameters) == {
        "appearance", "motion", "warping", "generator"
    }  # fmt: skip


def test_spectral_norm_is_folded_when_saving(tmp_path: Path) -> None:
    trained = small_networks()
    apply_spectral_norm(trained.generator)
    trained.generator.eval()
    weights.save(trained, tmp_path / "small", METADATA, dtype=torch.float32)
    warped = {"feature": torch.randn(1, 12, 8, 8)}
    with torch.inference_mode():
        expected = trained.generator(warped)
        drawn = weights.load(tmp_path / "small").generator(warped)
    torch.testing.assert_close(drawn, expected, atol=1e-6, rtol=1e-5)


def test_compact_networks_can_be_stored_too(tmp_path: Path) -> None:
    networks = build(COMPACT, retargeting=True)
    weights.save(networks, tmp_path / "compact", METADATA, dtype=torch.float32)
    loaded = weights.load(tmp_path / "compact")
    assert loaded.variant == COMPACT
    for name, module in networks.modules().items():
        restored = dict(loaded.modules()[name].named_buffers()) | loaded.modules()[name].state_dict()
        for key, value in (dict(module.named_buffers()) | module.state_dict()).items():
            assert torch.equal(restored[key], value), f"{name}.{key}"


def test_description_lists_what_is_there(networks: Networks, folder: Path) -> None:
    description = weights.describe(str(folder))
    assert description.layout == "safetensors" and description.folder == folder
    assert description.variant == SMALL_BASE and description.metadata == METADATA
    assert description.size == (folder / "model.safetensors").stat().st_size
    assert description.parameters["stitching"] == 45_249
    assert description.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_saving_never_overwrites(networks: Networks, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="small exists already"):
        weights.save(networks, folder, METADATA)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(UserError, match="no such folder"):
        weights.save(networks, folder / "missing" / "small", METADATA)


def test_failed_saving_leaves_nothing_behind(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        weights.save(networks, tmp_path / "small", Metadata("a test", "none", {"steps": object()}))
    assert not list(tmp_path.iterdir())


def test_changed_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged or was changed"):
        weights.load(folder)


def test_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        weights.load(folder)
    change_card(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(UserError, match=r"cannot read the weights .*model\.safetensors"):
        weights.load(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"cannot read the weights .*model\.safetensors"):
        weights.load(folder)


def test_entries_that_do_not_fit_are_named(folder: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["motion.detector.fc_t.bias"] = torch.zeros(4)
        state["generator.fc.bias"] = torch.zeros(16, dtype=torch.int64)
        state["motion.surplus"] = torch.zeros(1)
        for key in [key for key in state if key.startswith("stitching.mlp.")]:
            del state[key]

    rewrite(folder, change)
    with pytest.raises(UserError) as caught:
        weights.load(folder)
    message = str(caught.value)
    assert str(folder / "model.safetensors") in message
    assert (
        "8 missing (stitching.mlp.0.weight, stitching.mlp.0.bias, stitching.mlp.2.weight, and 5 more)"
        in message
    )
    assert "1 unexpected (motion.surplus)" in message
    assert "motion.detector.fc_t.bias is 4, should be 3" in message
    assert "generator.fc.bias holds torch.int64, should hold torch.float32" in message


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": "something"}, "its format is 'something'"),
        ({"version": 2}, "update liveportrait"),
        ({"variant": {"architecture": "huge"}}, "its architecture is 'huge', not one of base, compact"),
        ({"variant": {"architecture": "base", "name": "x", "input_size": "y"}}, "'y' should be of type int"),
        ({"networks": ["appearance", "motion", "warping"]}, "'generator' is not listed"),
        ({"networks": ["appearance", "motion", "warping", "generator", "ears"]}, "no network 'ears'"),
    ],
)
def test_damaged_cards_are_refused(folder: Path, entries: dict[str, Any], message: str) -> None:
    change_card(folder, **entries)
    with pytest.raises(UserError, match=message) as caught:
        weights.load(folder)
    assert "model.json" in str(caught.value)


@pytest.mark.parametrize(
    ("part", "sizes"),
    [
        ("appearance", {"widths": 3}),
        ("generator", {"input_channels": 7}),
        ("motion", {"channels": [8, -8, 16, 16]}),
        ("warping", {"output_channels": "many"}),
    ],
)
def test_impossible_sizes_are_refused(folder: Path, part: str, sizes: dict[str, Any]) -> None:
    variant = json.loads((folder / "model.json").read_text())["variant"]
    variant["sizes"][part] |= sizes
    change_card(folder, variant=variant)
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        weights.load(folder)


def test_an_earlier_card_has_another_name_for_the_border(folder: Path) -> None:
    variant = json.loads((folder / "model.json").read_text())["variant"]
    for border in (True, False):
        variant["continues_border"] = border
        variant.pop("replicate_border", None)
        change_card(folder, variant=variant)
        assert weights.load(folder).variant.replicate_border == border


def test_card_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text("weights")
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        weights.describe(folder)
    (folder / "model.json").write_text("[]")
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        weights.describe(folder)


def test_missing_names_and_paths_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEPORTRAIT_WEIGHTS", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"no weights 'base-humam'.*compact, base-human, base-animal"):
        weights.load("base-humam")
    with pytest.raises(UserError, match="contains no weights"):
        weights.load(tmp_path)
    with pytest.raises(UserError, match="there is no device 'toaster'"):
        weights.load("base-human", device="toaster")
    with pytest.raises(UserError, match="no weights called 'base-humam'"):
        weights.fetch("base-humam")


def test_loading_never_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("used the network")

    monkeypatch.setenv("LIVEPORTRAIT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(CATALOGUE, "download", refuse)
    for name in ("base-human", "base-animal"):
        with pytest.raises(UserError, match=f"run `liveportrait weights fetch {name}`"):
            weights.load(name)
        description = weights.describe(name)
        assert description.layout == "not fetched" and description.folder == tmp_path / name
        assert sum(description.parameters.values()) == 130_077_432
    assert not list(tmp_path.iterdir())
