"""Stage one end to end on drawn faces: files on disk, exact resuming, weights that load and render."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_base import build_compact_small
from synthetic_shards import make_shard

from liveportrait import weights
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.networks.geometry import pose_of
from liveportrait.training.checkpoint import TrainingState
from liveportrait.training.stage_one import run as stage_one
from liveportrait.training.stage_one import warm_start
from liveportrait.training.stage_one.config import load_config
from liveportrait.training.stage_one.warm_start import Renderer

CONFIG = """
bf16 = false
checkpoint_seconds = 0.0
[data]
shards = ["*.tar"]
frames_per_clip = 6
hold_out_one_in = 4
mode = "resident"
[motion]
schedule = { samples = 8, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
[[render]]
size = 64
schedule = { samples = 4, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
[[render]]
size = 128
schedule = { samples = 4, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
weights = { magnified = 0.5 }
own_motion = 1.0
"""


@pytest.fixture(scope="module", autouse=True)
def small_runs() -> Iterator[None]:
    """Runs train small networks, and validate little."""
    with pytest.MonkeyPatch.context() as patch:
        build_compact_small(patch)
        patch.setattr(warm_start, "VALIDATION_BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    make_shard(folder / "a.tar", clips=6, pictures=6)
    (folder / "tiny.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return stage_one.run(folder / "tiny.toml", output=str(folder / "out"))


def test_the_run_leaves_curves_samples_and_weights_that_render(folder: Path, trained: Path) -> None:
    out = folder / "out"
    lines = [json.loads(line) for line in (out / "motion.jsonl").read_text().splitlines()]
    assert lines[-1]["samples"] == 8 and np.isfinite(lines[-1]["loss"])
    assert "held_out/pixels" in lines[-1]
    assert (out / "render-1.png").exists() and list((out / "curves").rglob("events*"))
    engine = Engine(weights.load(trained))
    picture = np.full((1, 256, 256, 3), 127, np.uint8)
    pose = pose_of(engine.extract_motion(picture))
    assert engine.render(engine.encode_appearance(picture), pose, pose).shape == (1, 256, 256, 3)


def test_weights_move_and_their_average_follows(folder: Path, trained: Path) -> None:
    stored = load_file(folder / "out" / "render-0.safetensors")
    name = "render.generator.output.weight"
    fresh = Renderer().state_dict()["generator.output.weight"]
    assert not torch.equal(stored[f"module.{name}"], fresh)
    assert not torch.equal(stored[f"module.{name}"], stored[f"average.{name}"])


def test_export_shifts_the_mask(folder: Path, trained: Path) -> None:
    changed = folder / "changed.toml"
    changed.write_text("mask_shift = 0.5\n" + CONFIG)
    (folder / "out" / "weights").rename(folder / "plain")
    shifted = weights.load(stage_one.run(changed, part="export", output=str(folder / "out")))
    shutil.rmtree(folder / "out" / "weights")
    (folder / "plain").rename(folder / "out" / "weights")
    last = load_file(folder / "out" / "render-1.safetensors")
    bias = shifted.generator.state_dict()["output.bias"] - last["average.render.generator.output.bias"]
    assert torch.allclose(bias, torch.tensor([0.0] * 12 + [0.5] * 4), atol=1e-3)


def test_a_last_phase_may_train_g_alone_on_the_average_of_two_ws(folder: Path, trained: Path) -> None:
    out = folder / "finished"
    shutil.copytree(folder / "out", out)
    finish = folder / "finish.toml"
    third = CONFIG[CONFIG.rindex("[[render]]") :] + "earlier_warping = 0.75\nonly_generator = true\n"
    finish.write_text(CONFIG.replace('"resident"', '"loader"') + third)
    stage_one.run(finish, part="render", output=str(out))
    first, second, last = (load_file(out / f"render-{n}.safetensors") for n in range(3))
    for key, value in last.items():
        name = key.removeprefix("average.render.")
        if key.startswith("average.render.warping."):
            mean = 0.75 * first[key] + 0.25 * second[key]
            assert torch.allclose(value, mean, atol=1e-6), name
        elif key.startswith("average.render.appearance."):
            assert torch.equal(value, second[key]), name
    learned = "average.render.generator.output.weight"
    assert not torch.equal(last[learned], second[learned])


@pytest.mark.parametrize(("part", "dies_at", "last"), [("motion", 3, "motion"), ("render", 2, "render-1")])
def test_an_interrupted_run_equals_an_uninterrupted_one(
    folder: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: stage_one.Part,
    dies_at: int,
    last: str,
) -> None:
    """The run dies while writing a later checkpoint; the one before it must be enough."""
    out = folder / f"again-{part}"
    shutil.copytree(folder / "out" / "corpus", out / "corpus")
    if part == "render":
        shutil.copy(folder / "out" / "motion.safetensors", out)
    save = TrainingState.save

    def dies_later(self: TrainingState, path: Path, about: dict[str, object]) -> None:
        if self.step == dies_at:
            raise KeyboardInterrupt
        save(self, path, about)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingState, "save", dies_later)
        stage_one.run(folder / "tiny.toml", part=part, output=str(out))
    stage_one.run(folder / "tiny.toml", part=part, output=str(out))
    whole = load_file(folder / "out" / f"{last}.safetensors")
    resumed = load_file(out / f"{last}.safetensors")
    assert whole.keys() == resumed.keys()
    gap = max(float((whole[k].double() - resumed[k].double()).abs().max()) for k in whole)
    assert gap < 1e-6


def test_rendering_without_a_trained_m_is_refused(folder: Path, trained: Path) -> None:
    out = folder / "no-motion"
    shutil.copytree(folder / "out" / "corpus", out / "corpus")
    with pytest.raises(UserError, match="--part motion"):
        stage_one.run(folder / "tiny.toml", part="render", output=str(out))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sead = 1", "sead"),
        ("[motion]\nschedule = { samples = 0, batch = 2, learning_rate = 1e-3 }", "samples"),
        ("[[render]]\nsize = 100\nschedule = { samples = 1, batch = 1, learning_rate = 1.0 }", "size"),
        ("[[render]]\nsize = 128", "schedule"),
        ("threads = 'two'", "threads"),
        ("threads = ", "TOML"),
    ],
)
def test_a_wrong_configuration_is_an_error_that_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        load_config(path)


def test_missing_shards_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text('[data]\nshards = ["nowhere/*.tar"]')
    with pytest.raises(UserError, match="nowhere"):
        stage_one.run(path, output=str(tmp_path / "out"))


def test_the_shipped_configuration_is_valid() -> None:
    config = load_config(Path(__file__).parents[1] / "configs" / "compact.toml")
    assert config.render[-1].size == 256
