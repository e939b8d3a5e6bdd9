"""A run that is killed in each phase and restarted ends where an uninterrupted one does."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_base import build_compact_small
from synthetic_shards import TRAINING, make_shard
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.training.checkpoint import TrainingState, ema_copy
from liveportrait.training.config import Schedule
from liveportrait.training.phase import Losses, Objective, Phase, compile_networks
from liveportrait.training.stage_one import run as stage_one
from liveportrait.training.stage_one import warm_start
from liveportrait.training.stage_one.config import StageOneConfig

CONFIG = (
    TRAINING.format(samples=12)
    + """
[[render]]
size = 64
schedule = { samples = 24, batch = 4, learning_rate = 1e-3, warmup_steps = 1, accumulate = 2 }
[joint]
size = 64
adversarial_from = 2
discriminator_channels = 8
fixed_statistics = true
identity = "none"
schedule = { samples = 10, batch = 2, learning_rate = 1e-4, warmup_steps = 1 }
weights = { perceptual_whole = 0.0, perceptual_face = 0.0, perceptual_lips = 0.0, labels = 1.0 }
"""
)
PHASES = {"motion": 6, "render-0": 6, "joint": 5}  # and their steps
KILLED_AT = 4  # step


def written(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's metadata about its run."""
    with checkpoint.open("rb") as stored:  # opened once: the run may replace the file at any time
        header = json.loads(stored.read(int.from_bytes(stored.read(8), "little")))
    return json.loads(header["__metadata__"]["state"])


def train_small(config: Path, output: Path) -> None:
    """Stage one with small networks, validated little."""
    with pytest.MonkeyPatch.context() as patch:
        build_compact_small(patch)
        patch.setattr(stage_one, "VALIDATION_BATCHES", 2)
        patch.setattr(warm_start, "VALIDATION_BATCHES", 2)
        stage_one.run(config, output=str(output))


def train_to_the_end_of(phase: str, config: Path, output: Path) -> None:
    """The same, but the phase's checkpoint of the step `KILLED_AT` is never written."""
    save = TrainingState.save

    def save_or_wait(self: TrainingState, path: Path, about: dict[str, object]) -> None:
        if path.stem == phase and self.step == KILLED_AT:
            time.sleep(600)
        save(self, path, about)

    TrainingState.save = save_or_wait  # type: ignore[method-assign]  # of this process alone
    train_small(config, output)


def kill_in(phase: str, config: Path, output: Path) -> None:
    """Train in a process that is killed without warning after the last checkpoint before `KILLED_AT`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["liveportrait.training.stage_one.run"])  # imported once for all
    process = context.Process(target=train_to_the_end_of, args=(phase, config, output))
    process.start()
    assert process.pid
    checkpoint = output / f"{phase}.safetensors"
    try:
        while not (checkpoint.exists() and written(checkpoint)["step"] == KILLED_AT - 1):
            assert process.is_alive()
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_killed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    """All phases of one run, each killed once: with and without micro-batches, with one optimiser and with two."""
    make_shard(tmp_path / "a.tar", clips=4, pictures=4)
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for phase in PHASES:
        kill_in(phase, config, killed)
        assert written(killed / f"{phase}.safetensors")["step"] == KILLED_AT - 1
        assert not (killed / "weights").exists()
    for run in (killed, whole):
        train_small(config, run)
    for phase, steps in PHASES.items():
        found, wanted = (load_file(run / f"{phase}.safetensors") for run in (killed, whole))
        assert found.keys() == wanted.keys()
        gap = max(float((found[key].double() - wanted[key].double()).abs().max()) for key in wanted)
        assert gap < 1e-6, phase
        (ended,), (uninterrupted,) = (
            [json.loads(line) for line in (run / f"{phase}.jsonl").read_text().splitlines()]
            for run in (killed, whole)
        )
        assert ended["step"] == uninterrupted["step"] == steps
        assert ended["loss"] == pytest.approx(uninterrupted["loss"], abs=1e-6)


def phase_of(folder: Path, **schedule: int) -> tuple[Phase, nn.Module]:
    network = nn.Linear(2, 1)
    state = TrainingState(
        {"n": network}, {"n": torch.optim.SGD(network.parameters())}, {"n": ema_copy(network)}
    )
    config = StageOneConfig(output=str(folder), seed=11)
    return Phase(
        "toy", config, Schedule(**{"samples": 40, "batch": 4} | schedule, learning_rate=0.1), state
    ), network


def losses_of(network: nn.Module) -> Losses[Tensor]:
    """The sum of the network's outputs for a batch."""
    return lambda batch: [Objective("n", network(batch).sum(), {})]


def test_a_checkpoint_records_what_wrote_it(tmp_path: Path) -> None:
    phase, network = phase_of(tmp_path)
    phase.data_digest = "abc"
    phase.turn(torch.ones(4, 2), losses_of(network))
    phase.save()
    about = written(phase.checkpoint)
    assert about["seed"] == 11 and about["data"] == "abc" and about["config"]["seed"] == 11
    assert about["made_by"]["torch"] == torch.__version__ and about["made_by"]["liveportrait"]
    assert (about["step"], about["samples"]) == (1, 4)


def test_the_log_is_cut_back_to_the_last_checkpoint(tmp_path: Path) -> None:
    phase, network = phase_of(tmp_path)
    for _ in range(2):
        phase.turn(torch.ones(4, 2), losses_of(network))
    phase.save()
    lines = [json.dumps({"step": step}) for step in (1, 2, 3)]
    (tmp_path / "toy.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')  # cut off by the kill
    assert phase_of(tmp_path)[0].state.step == 2
    assert (tmp_path / "toy.jsonl").read_text() == "\n".join(lines[:2]) + "\n"


def test_losses_of_two_optimisers_do_not_reach_each_others_parameters(tmp_path: Path) -> None:
    maker, judge = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizers = {
        name: torch.optim.SGD(module.parameters()) for name, module in (("maker", maker), ("judge", judge))
    }
    state = TrainingState({"maker": maker, "judge": judge}, dict(optimizers), {})
    schedule = Schedule(samples=40, batch=4, learning_rate=0.1, warmup_steps=1, accumulate=2)
    phase = Phase("two", StageOneConfig(output=str(tmp_path)), schedule, state)
    before = [value.clone() for value in (maker.weight, judge.weight)]
    x = torch.ones(2, 2)
    phase.update("maker", judge(maker(x)).mean())
    phase.advance({})
    assert torch.equal(maker.weight, before[0]) and state.step == 0  # half of a step
    phase.update("maker", judge(maker(x)).mean())
    phase.advance({})
    assert not torch.equal(maker.weight, before[0]) and torch.equal(judge.weight, before[1])
    assert (state.step, state.samples) == (1, 4) and judge.weight.grad is None


def test_a_compiled_network_has_the_same_loss() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3))
    plain = ema_copy(network).train()
    try:
        compile_networks([network], torch.device("cpu"))
    except UserError as error:
        pytest.skip(str(error))
    x = torch.rand(2, 3, 16, 16)
    assert network.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():  # the backward pass would be another compilation
        losses = [float(module(x).square().mean()) for module in (network, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert torch.equal(network[1].running_mean, plain[1].running_mean)  # type: ignore[index]


def test_a_missing_compiler_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: object) -> object:
        raise RuntimeError("No working C++ compiler found\nand a page of hints")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UserError, match=r"C\+\+ compiler.*compile = false") as caught:
        compile_networks([], torch.device("cpu"))
    assert "\n" not in str(caught.value)
