"""The ComfyUI nodes, called as ComfyUI does: through their tables, in inference mode, with its hooks."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from animation_samples import driving_frames, portrait

from liveportrait import UserError

FOLDER = Path(__file__).parents[1] / "integrations/comfyui"
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")


class Stopped(Exception):
    """ComfyUI's exception when the user stops a run."""


class Host:
    """The parts of ComfyUI that the nodes use."""

    def __init__(self, folder: Path) -> None:
        self.progress: list[tuple[int, int]] = []
        self.stop_after: int | None = None
        self.nodes: dict[str, type] = {}
        self.folder = folder

    def modules(self) -> dict[str, types.ModuleType]:
        host = self

        class ProgressBar:
            def __init__(self, total: int) -> None:
                self.total = total

            def update_absolute(self, value: int, total: int) -> None:
                host.progress.append((value, total))

        def throw() -> None:
            if host.stop_after is not None and len(host.progress) >= host.stop_after:
                raise Stopped

        made = {
            name: types.ModuleType(name)
            for name in ("comfy", "comfy.utils", "comfy.model_management", "folder_paths")
        }
        made["comfy.utils"].ProgressBar = ProgressBar
        made["comfy.model_management"].throw_exception_if_processing_interrupted = throw
        made["folder_paths"].get_input_directory = made["folder_paths"].get_output_directory = lambda: str(
            host.folder
        )
        return made

    def widgets(self, cls: type) -> dict[str, tuple[Any, dict]]:
        """The inputs that are set on the node itself, in their displayed order."""
        inputs = cls.INPUT_TYPES()
        both = {**inputs["required"], **inputs.get("optional", {})}
        return {name: each for name, each in both.items() if isinstance(each[0], list) or each[0] in WIDGETS}

    def call(self, node: str, /, **given: Any) -> tuple:
        """Run a node with values for its connected inputs; widgets that are not given have their defaults."""
        cls = self.nodes[node]
        inputs = cls.INPUT_TYPES()
        known = {**inputs["required"], **inputs.get("optional", {})}
        for widget, (kind, settings) in self.widgets(cls).items():
            value = given.setdefault(widget, settings.get("default", kind[0]))
            if isinstance(kind, list):
                assert value in kind
            elif kind in ("INT", "FLOAT"):
                assert settings["min"] <= value <= settings["max"]
        assert set(inputs["required"]) <= set(given) <= set(known)
        if hasattr(cls, "VALIDATE_INPUTS"):
            assert cls.VALIDATE_INPUTS(**given) is True
        with torch.inference_mode():
            result = getattr(cls(), cls.FUNCTION)(**given)
        result = result["result"] if isinstance(result, dict) else result
        assert isinstance(result, tuple) and len(result) == len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES)
        return result


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory):
    host = Host(tmp_path_factory.mktemp("comfyui"))
    with pytest.MonkeyPatch.context() as patch:
        for name, module in host.modules().items():
            patch.setitem(sys.modules, name, module)
        # ComfyUI loads a folder of nodes as a package with its own name.
        spec = importlib.util.spec_from_file_location("nodes_of_comfyui", FOLDER / "__init__.py")
        package = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "nodes_of_comfyui", package)
        spec.loader.exec_module(package)
        host.nodes = package.NODE_CLASS_MAPPINGS
        assert set(package.NODE_DISPLAY_NAME_MAPPINGS) == set(host.nodes)
        yield host
        for name in [name for name in sys.modules if name.startswith("nodes_of_comfyui.")]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def networks(host: Host):
    return host.call("LivePortraitLoad", device="cpu")[0]


@pytest.fixture(scope="module")
def face() -> torch.Tensor:
    return torch.from_numpy(portrait()).float()[None] / 255


@pytest.fixture(scope="module")
def opened(host: Host, networks, face):
    return host.call("LivePortraitOpen", networks=networks, images=face)[0]


def test_every_node_describes_itself(host):
    for name, cls in host.nodes.items():
        assert name.startswith("LivePortrait") and cls.CATEGORY == "LivePortrait"
        assert callable(getattr(cls, cls.FUNCTION))
        assert all(isinstance(kind, str) for kind in cls.RETURN_TYPES)
    settings = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    assert {"PublisherId", "DisplayName"} <= set(settings["tool"]["comfy"])


def test_a_portrait_is_animated_by_images_and_by_their_saved_motion(host, networks, opened, face):
    driving = torch.stack([torch.from_numpy(frame) for frame in driving_frames(3)]).float() / 255
    sound = {"waveform": torch.zeros(1, 2, 16000), "sample_rate": 16000}
    images, fps, audio = host.call(
        "LivePortraitAnimate", portrait=opened, driving=driving, fps=30.0, audio=sound
    )
    assert images.shape == (3, *face.shape[1:]) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1 and (images[2] - images[0]).abs().mean() > 0.003
    assert fps == 30 and audio["waveform"].shape == (1, 2, 1600)
    assert host.progress[-1] == (3, 3)
    host.call("LivePortraitSaveMotion", networks=networks, driving=driving, name="kept", fps=30.0)
    cls = host.nodes["LivePortraitLoadMotion"]
    assert "kept.safetensors" in cls.INPUT_TYPES()["required"]["name"][0]
    before = cls.IS_CHANGED("kept.safetensors")
    motion, rate = host.call("LivePortraitLoadMotion", name="kept.safetensors")
    again, *_ = host.call("LivePortraitAnimate", portrait=opened, motion_template=motion, max_frames=2)
    assert rate == 30 and len(again) == 2 and (again - images[:2]).abs().mean() < 0.02
    (host.folder / "kept.safetensors").touch()
    assert cls.IS_CHANGED("kept.safetensors") != before
    assert cls.VALIDATE_INPUTS("../kept.safetensors") is not True
    lazy = host.nodes["LivePortraitAnimate"]().check_lazy_status
    assert lazy(driving=None) == ["driving"] and lazy(driving=None, motion_template=motion) == []
    with pytest.raises(UserError, match="nothing drives"):
        host.call("LivePortraitAnimate", portrait=opened)
    with pytest.raises(UserError, match="without a folder"):
        host.call("LivePortraitSaveMotion", networks=networks, driving=driving, name="../kept")


def test_sliders_edit_and_leave_openings_alone(host, opened, face):
    (rest,) = host.call("LivePortraitEdit", portrait=opened)
    (closed,) = host.call("LivePortraitEdit", portrait=opened, eye_opening=0.0)
    assert rest.shape == closed.shape == face.shape
    assert (rest - closed).abs().max() > 0.1


def test_a_stopped_run_ends_within_frames(host, opened):
    motion, _ = host.call("LivePortraitLoadMotion", name="blink")
    host.progress.clear()
    host.stop_after = 1
    try:
        with pytest.raises(Stopped):
            host.call("LivePortraitAnimate", portrait=opened, motion_template=motion)
        assert host.progress == [(host.progress[0][0], 50)]
    finally:
        host.stop_after = None


def test_the_example_workflow_runs(host, networks, face):
    workflow = json.loads((FOLDER / "example_workflows/animate.json").read_text())
    made: dict[int, tuple] = {}
    saved = []
    links = {number: (origin, slot) for number, origin, slot, *_ in workflow["links"]}
    for node in sorted(workflow["nodes"], key=lambda node: node["order"]):
        given = {
            each["name"]: made[links[each["link"]][0]][links[each["link"]][1]]
            for each in node["inputs"]
            if each["link"]
        }
        if node["type"] == "LoadImage":
            made[node["id"]] = (face, None)
        elif node["type"] == "SaveAnimatedWEBP":
            saved.append(given["images"])
        else:
            cls = host.nodes[node["type"]]
            names = list(host.widgets(cls))
            assert len(names) == len(node["widgets_values"])
            given |= zip(names, node["widgets_values"], strict=True)
            if "max_frames" in given:
                given["max_frames"] = 1
            assert [output["type"] for output in node["outputs"]] == list(cls.RETURN_TYPES)
            made[node["id"]] = host.call(node["type"], **given)
    assert [len(images) for images in saved] == [1]
