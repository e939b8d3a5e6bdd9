"""Checkpoints in the published format, of random numbers: found, read, converted, fetched, rendered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import randomise

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import BASE, Networks, Pose, build
from liveportrait.networks.base import apply_spectral_norm
from liveportrait.networks.geometry import pose_of
from liveportrait.weights import published

# The module, which the package's function of that name hides.
CATALOGUE = import_module("liveportrait.weights.catalogue")

BASE_FILES = published.BASE_FILES
HUMAN = Path("liveportrait")
STITCHING = HUMAN / "retargeting_models" / published.RETARGETING_FILE


@pytest.fixture(scope="module")
def trained() -> Networks:
    """BASE with random weights, its generator spectrally normed."""
    torch.manual_seed(0)
    networks = build(BASE, retargeting=True)
    apply_spectral_norm(networks.generator)
    for module in networks.modules().values():
        randomise(module)
        module.eval()
    return networks


@pytest.fixture(scope="module")
def repository(trained: Networks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like the published repository, with the human weights."""
    root = tmp_path_factory.mktemp("published")
    (root / HUMAN / "base_models").mkdir(parents=True)
    (root / HUMAN / "retargeting_models").mkdir()
    modules = trained.modules()
    for name, file in BASE_FILES.items():
        torch.save(modules[name].state_dict(), root / HUMAN / "base_models" / file)
    entries = {
        entry: {f"module.{key}": value for key, value in modules[name].state_dict().items()}
        for name, entry in published.RETARGETING_ENTRIES.items()
    }
    torch.save(entries, root / STITCHING)
    yield root
    shutil.rmtree(root)  # half a gigabyte


@pytest.fixture(scope="module")
def converted(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same weights in our layout."""
    folder = tmp_path_factory.mktemp("converted") / "base"
    weights.convert(repository, folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def loaded(converted: Path) -> Networks:
    """The converted weights."""
    return weights.load(converted)


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """The repository again, of links, so that a test can replace single files."""
    for path in repository.rglob("*.pth"):
        link = tmp_path / "copy" / path.relative_to(repository)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path / "copy"


def replace(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a checkpoint."""
    content = torch.load(path, weights_only=True)
    change(content)
    path.unlink()
    torch.save(content, path)


def test_conversion_keeps_every_number_and_folds_spectral_norm(trained: Networks, loaded: Networks) -> None:
    originals = trained.modules()
    for name, module in loaded.modules().items():
        original = originals[name].state_dict()
        for key, value in module.state_dict().items():
            if key in original:
                assert torch.equal(value, original[key]), f"{name}.{key}"
            else:
                layer = trained.generator.get_submodule(key.removesuffix(".weight"))
                # Any input makes the layer divide its weight, as it does when it draws.
                layer(torch.zeros(1, layer.in_channels, 1, 1))
                torch.testing.assert_close(value, layer.weight)


def test_converted_weights_render_a_frame(loaded: Networks) -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 256, 256, generator=generator)
    with torch.inference_mode():
        poses = pose_of(loaded.motion(images))
        source, driving = (Pose(*(part[index : index + 1] for part in poses)) for index in (0, 1))
        assert loaded.stitching is not None
        driving = driving._replace(keypoints=loaded.stitching(source.keypoints, driving.keypoints))
        warped = loaded.warping(loaded.appearance(images[:1]), source, driving)
        image = loaded.generator(warped)
    assert warped["feature"].shape == (1, 256, 64, 64)
    assert image.shape == (1, 3, 512, 512)
    assert image.min() >= 0 and image.max() <= 1 and image.std() > 1e-3


def test_conversion_is_described(repository: Path, converted: Path) -> None:
    before, after = weights.describe(repository), weights.describe(converted)
    assert (before.layout, after.layout) == ("published", "safetensors")
    assert before.parameters == after.parameters
    assert sum(after.parameters.values()) == 130_077_432
    assert after.variant == BASE
    with pytest.raises(UserError, match="needs no conversion"):
        weights.convert(converted, converted.with_name("again"))
    with pytest.raises(UserError, match="exists already"):
        weights.convert(repository, converted)


def test_every_level_of_the_published_folders_is_recognised(tmp_path: Path) -> None:
    def put(*paths: Path | str) -> None:
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()

    animals = Path("liveportrait_animals")
    for models in (HUMAN / "base_models", animals / "base_models", animals / "base_models_v1.1"):
        put(*(models / file for file in BASE_FILES.values()))
    put(STITCHING, animals / STITCHING.relative_to(HUMAN))

    def found(folder: Path | str) -> tuple[Path, Path | None]:
        files = published.locate(tmp_path / folder)
        assert files is not None
        return files.base["warping"].parent.resolve(), files.retargeting

    human = (tmp_path / HUMAN / "base_models", tmp_path / STITCHING)
    assert found(".") == found(HUMAN) == found(HUMAN / "base_models") == human
    assert found(animals) == (tmp_path / animals / "base_models_v1.1", tmp_path / STITCHING)
    assert found(animals / "base_models") == (tmp_path / animals / "base_models", tmp_path / STITCHING)
    (tmp_path / STITCHING).unlink()
    assert found(HUMAN)[1] is None
    assert found(animals)[1] == tmp_path / animals / STITCHING.relative_to(HUMAN)
    assert published.locate(tmp_path / "nowhere") is None


def test_missing_file_is_named(copy: Path) -> None:
    (copy / HUMAN / "base_models" / "warping_module.pth").unlink()
    with pytest.raises(UserError, match=r"lack warping_module\.pth"):
        weights.load(copy)


def test_entries_that_do_not_fit_are_named(copy: Path) -> None:
    path = copy / HUMAN / "base_models" / "appearance_feature_extractor.pth"

    def change(state: dict[str, Any]) -> None:
        state["second.bias"] = torch.zeros(256)
        state["third.bias"] = torch.zeros(1)
        del state["first.conv.weight"]

    replace(path, change)
    with pytest.raises(UserError) as caught:
        weights.load(copy)
    assert str(caught.value) == (
        f"{path} does not fit these networks: of its entries 1 missing (first.conv.weight), "
        "1 unexpected (third.bias), 1 of the wrong shape (second.bias is 256, should be 512)"
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_checkpoint_is_one_sentence(copy: Path, share: float) -> None:
    path = copy / HUMAN / "base_models" / "appearance_feature_extractor.pth"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        UserError, match=r"appearance_feature_extractor\.pth is no checkpoint, or is cut short"
    ):
        weights.load(copy)


def test_pickles_that_run_code_are_refused(copy: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.mkdir, (tmp_path / "harmed",))  # type: ignore[return-value]

    path = copy / HUMAN / "base_models" / "appearance_feature_extractor.pth"
    path.unlink()
    torch.save({"first.conv.weight": Hostile()}, path)
    with pytest.raises(UserError, match="is no checkpoint"):
        weights.load(copy)
    assert not (tmp_path / "harmed").exists()


def test_retargeting_entries_are_checked(copy: Path) -> None:
    path = copy / STITCHING
    replace(path, lambda content: content["retarget_eye"].pop("module.mlp.0.weight"))
    files = published.PublishedFiles({}, path)  # the large files are not what this is about
    with pytest.raises(UserError, match=r"retarget_eye in .*: of its entries 1 missing \(mlp\.0\.weight\)"):
        published.read(files)
    replace(path, lambda content: content.pop("retarget_mouth"))
    replace(path, lambda content: content["retarget_eye"].update({"mlp.0.weight": torch.zeros(256, 66)}))
    with pytest.raises(UserError, match="has no entry 'retarget_mouth'"):
        published.read(files)


def test_fetching_downloads_converts_and_cleans_up(
    repository: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repo: str, filename: str, cache_dir: Path, revision: str = "main") -> str:
        asked.append((repo, filename, revision))
        path = cache_dir / "models--KwaiVGI--LivePortrait" / "snapshots" / "0123abc" / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(repository / filename)
        return str(path)

    monkeypatch.setenv("LIVEPORTRAIT_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setattr(CATALOGUE, "hf_hub_download", download)
    folder = weights.fetch("base-human")
    assert folder == tmp_path / "cache" / "base-human"
    assert [path.name for path in folder.parent.iterdir()] == ["base-human"]  # nothing else is left
    assert asked[0] == ("KwaiVGI/LivePortrait", STITCHING.as_posix(), "main")
    assert {revision for _, _, revision in asked[1:]} == {"0123abc"}
    card = json.loads((folder / "model.json").read_text())
    assert "0123abc" in card["origin"] and "huggingface.co/KwaiVGI/LivePortrait" in card["licence"]
    assert card["sha256"] == json.loads((converted / "model.json").read_text())["sha256"]

    asked.clear()
    assert weights.fetch("base-human") == folder and not asked  # what is there is left alone
    assert weights.describe("base-human").layout == "safetensors"
    shutil.rmtree(folder)


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **options: object) -> str:
        raise CATALOGUE.HTTPError("no route to host")

    monkeypatch.setattr(CATALOGUE, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"could not fetch .*no route to host.* fetch base-animal"):
        weights.fetch("base-animal", tmp_path / "animal")
    assert not (tmp_path / "animal").exists()
