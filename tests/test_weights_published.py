"""Checkpoints in the published format, with random numbers: found, read, converted, fetched, rendered with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, ClassVar

import pytest
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub.file_download import http_get
from small_base import randomise, small_networks

from liveportrait import weights
from liveportrait.apps.cli import main
from liveportrait.errors import UserError
from liveportrait.networks import BASE, Networks, Pose, build
from liveportrait.networks.base import apply_spectral_norm
from liveportrait.networks.geometry import pose_of
from liveportrait.weights import published

# The module, which is hidden by the package's function of the same name.
CATALOGUE = import_module("liveportrait.weights.catalogue")
DOWNLOAD = import_module("liveportrait.weights.download")

BASE_FILES = published.BASE_FILES
HUMAN = Path("liveportrait")
STITCHING = HUMAN / "retargeting_models" / published.RETARGETING_FILE


@pytest.fixture(scope="module")
def trained() -> Networks:
    """BASE with random weights, with spectral norm in its generator."""
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
    """A copy of the repository made of links, so that a test can replace single files."""
    for path in repository.rglob("*.pth"):
        link = tmp_path / "copy" / path.relative_to(repository)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return tmp_path / "copy"


def replace(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a checkpoint."""
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
                # Any forward pass makes the layer divide its weight, as when rendering.
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


def test_stitching_is_found_if_the_large_files_folder_is_a_link(tmp_path: Path) -> None:
    store, layout = tmp_path / "store", tmp_path / HUMAN
    store.mkdir()
    layout.mkdir()
    for file in BASE_FILES.values():
        (store / file).touch()
    (layout / "base_models").symlink_to(store)
    (tmp_path / STITCHING).parent.mkdir()
    (tmp_path / STITCHING).touch()
    for folder in (tmp_path, layout, layout / "base_models"):
        files = published.locate(folder)
        assert files is not None and files.retargeting == tmp_path / STITCHING
    (tmp_path / STITCHING).unlink()
    beside = tmp_path / "retargeting_models" / published.RETARGETING_FILE  # next to the link's target
    beside.parent.mkdir()
    beside.touch()
    files = published.locate(layout)
    assert files is not None and files.retargeting == beside


def test_missing_stitching_weights_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in BASE_FILES.values():
        (tmp_path / file).touch()
    assert main(["weights", "info", str(tmp_path)]) == 0
    assert "without     stitching, eye retargeting, lip retargeting\n" in capsys.readouterr().out


def test_written_weights_have_the_default_file_mode(tmp_path: Path) -> None:
    weights.save(small_networks(), tmp_path / "ours", weights.Metadata("a test", "MIT"))
    ordinary = (tmp_path / "ours" / "model.json").stat().st_mode
    assert (tmp_path / "ours" / "model.safetensors").stat().st_mode == ordinary


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
        f"{path} does not fit these networks; entries: 1 missing (first.conv.weight), "
        "1 unexpected (third.bias), 1 of the wrong shape (second.bias is 256, should be 512)"
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_reported_in_one_sentence(copy: Path, share: float) -> None:
    path = copy / HUMAN / "base_models" / "appearance_feature_extractor.pth"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        UserError, match=r"appearance_feature_extractor\.pth is (not a checkpoint, or is truncated|empty)"
    ):
        weights.load(copy)


def test_pickles_that_run_code_are_refused(copy: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.mkdir, (tmp_path / "harmed",))  # type: ignore[return-value]

    path = copy / HUMAN / "base_models" / "appearance_feature_extractor.pth"
    path.unlink()
    torch.save({"first.conv.weight": Hostile()}, path)
    with pytest.raises(UserError, match="is not a checkpoint"):
        weights.load(copy)
    assert not (tmp_path / "harmed").exists()


def test_retargeting_entries_are_checked(copy: Path) -> None:
    path = copy / STITCHING
    replace(path, lambda content: content["retarget_eye"].pop("module.mlp.0.weight"))
    files = published.PublishedFiles({}, path)  # this test is not about the large files
    with pytest.raises(UserError, match=r"retarget_eye in .*; entries: 1 missing \(mlp\.0\.weight\)"):
        published.read(files)
    replace(path, lambda content: content.pop("retarget_mouth"))
    replace(path, lambda content: content["retarget_eye"].update({"mlp.0.weight": torch.zeros(256, 66)}))
    with pytest.raises(UserError, match="has no entry 'retarget_mouth'"):
        published.read(files)


class Hub(BaseHTTPRequestHandler):
    """A hub with one repository of small files that fit no network."""

    repository = "KwaiVGI/LivePortrait"
    commit = "0123456789abcdef0123456789abcdef01234567"
    files: ClassVar[dict[str, bytes]] = {}
    spoilt: ClassVar[set[str]] = set()
    asked: ClassVar[list[tuple[str, str, str | None]]] = []

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(None)

    def answer(self, body: bytes | None) -> None:
        owner, name, _, revision, file = self.path[1:].split("/", 4)
        self.asked.append((self.command, f"{owner}/{name}", self.headers.get("Range")))
        if f"{owner}/{name}" != self.repository:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        assert revision in ("main", self.commit)
        whole = self.files[file]
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        content = whole[start:]
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{hashlib.sha256(whole).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if body is None:
            if file in self.spoilt:
                content = bytes(len(content))
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a hub; its files are small, so `published.read` is replaced."""
    names = [STITCHING, *(HUMAN / "base_models" / file for file in BASE_FILES.values())]
    Hub.files = {name.as_posix(): name.name.encode() * 1000 for name in names}
    Hub.spoilt, Hub.asked = set(), []
    monkeypatch.setenv("LIVEPORTRAIT_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_constants, "HF_HUB_DISABLE_XET", True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def read_as(networks: Networks, found: dict[str, bytes]) -> Callable[[published.PublishedFiles], Networks]:
    """A stand-in for `published.read` that records the files' contents."""

    def read(files: published.PublishedFiles) -> Networks:
        assert files.retargeting is not None
        for path in (*files.base.values(), files.retargeting):
            found[path.name] = path.read_bytes()
        return networks

    return read


def test_fetching_tries_both_names_of_the_owner_and_cleans_up(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, bytes] = {}
    monkeypatch.setattr(published, "read", read_as(small_networks(), found))
    folder = weights.fetch("base-human", endpoint=hub + "/")
    assert folder == tmp_path / "cache" / "base-human"
    assert [path.name for path in folder.parent.iterdir()] == ["base-human"]  # nothing else is left
    assert Hub.asked[0][:2] == ("HEAD", "KlingTeam/LivePortrait")
    assert found == {name.rpartition("/")[2]: content for name, content in Hub.files.items()}
    card = json.loads((folder / "model.json").read_text())
    assert card["origin"] == f"{hub}/KwaiVGI/LivePortrait, commit {Hub.commit}"
    assert "huggingface.co/KlingTeam/LivePortrait" in card["licence"]

    Hub.asked.clear()
    assert weights.fetch("base-human") == folder and not Hub.asked  # existing weights are left alone
    assert weights.describe("base-human").layout == "safetensors"


def test_a_file_with_a_wrong_hash_is_refused_and_the_rest_is_kept(
    hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, bytes] = {}
    monkeypatch.setattr(published, "read", read_as(small_networks(), found))
    Hub.spoilt.add("liveportrait/base_models/warping_module.pth")
    with pytest.raises(UserError, match=r"warping_module\.pth arrived damaged"):
        weights.fetch("base-human", endpoint=hub)
    assert not found
    Hub.spoilt.clear()
    Hub.asked.clear()
    weights.fetch("base-human", endpoint=hub)
    whole = [command for command, *_ in Hub.asked if command == "GET"]
    assert len(whole) == 2  # the damaged one, and the one after it
    assert found["warping_module.pth"] == Hub.files["liveportrait/base_models/warping_module.pth"]


def test_an_interrupted_file_is_resumed(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, bytes] = {}
    monkeypatch.setattr(published, "read", read_as(small_networks(), found))
    whole = Hub.files["liveportrait/base_models/warping_module.pth"]

    def interrupted(url: str, out: BinaryIO, **options: object) -> None:
        if not url.endswith("warping_module.pth"):
            http_get(url, out, **options)  # type: ignore[arg-type]
            return
        out.write(whole[:7000])
        raise KeyboardInterrupt

    monkeypatch.setattr(DOWNLOAD, "http_get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.fetch("base-human", endpoint=hub)
    monkeypatch.setattr(DOWNLOAD, "http_get", http_get)
    Hub.asked.clear()
    weights.fetch("base-human", endpoint=hub)
    ranges = [part for command, _, part in Hub.asked if command == "GET"]
    assert ranges == ["bytes=7000-", None]  # the rest of the first file, and the next file
    assert found["warping_module.pth"] == whole


def test_fetching_from_a_folder_needs_no_network(
    repository: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEPORTRAIT_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setattr(CATALOGUE, "download", None)
    assert main(["weights", "fetch", "base-human", "--folder", str(repository)]) == 0
    folder = tmp_path / "cache" / "base-human"
    card = json.loads((folder / "model.json").read_text())
    assert card["sha256"] == json.loads((converted / "model.json").read_text())["sha256"]
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"no .*base_models_v1\.1.appearance.*: copy the published files"):
        weights.fetch("base-animal", source=repository)


def test_a_failed_download_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **options: object) -> str:
        raise CATALOGUE.HTTPError("no route to host")

    monkeypatch.setattr(CATALOGUE, "download", download)
    with pytest.raises(
        UserError, match=r"could not fetch .*no route to host.* fetch base-animal.*--endpoint"
    ):
        weights.fetch("base-animal", tmp_path / "animal")
    assert not (tmp_path / "animal").exists()
