"""Two Gloo processes, and micro-batches, give the gradients of one process with the joint batch."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_base import SMALL_BASE, build_compact_small, randomise
from synthetic_shards import make_shard
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from liveportrait import weights
from liveportrait.apps.cli import main
from liveportrait.networks import build
from liveportrait.training import distributed
from liveportrait.training.checkpoint import TrainingState, ema_copy
from liveportrait.training.config import Schedule
from liveportrait.training.data.batches import batches, motion_of, pictures_of
from liveportrait.training.data.corpus import Corpus, build_corpus, load_corpus
from liveportrait.training.data.samplers import FrameSampler, PairSampler
from liveportrait.training.distributed import SyncedBatchNorm, synchronise
from liveportrait.training.losses.motion import MotionWeights, motion_losses
from liveportrait.training.phase import Losses, Phase, weighted
from liveportrait.training.stage_one.config import JointSettings, JointWeights, RenderSettings, StageOneConfig
from liveportrait.training.stage_one.joint import JointTrainer
from liveportrait.training.stage_one.joint_model import Pair
from liveportrait.training.stage_one.warm_start import RenderTrainer

CPU = torch.device("cpu")
BATCH = 4
KINDS = ("motion", "render", "joint")
# Relative, for a tensor's gradient in float32. In one process, merely reordering a batch changes some by 3e-3; a wrong
# average, or the statistics of half a batch, would change far more.
TOLERANCE = 5e-3
PLAIN = Schedule(samples=1000, batch=BATCH, learning_rate=1e-3, warmup_steps=1)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    make_shard(folder / "a.tar", clips=4, pictures=2)
    build_corpus([folder / "a.tar"], folder / "corpus", 6, one_in=1000, seed=0)
    return folder / "corpus"


def record_gradients(state: TrainingState) -> dict[str, Tensor]:
    """A dictionary that is filled with the gradients when the optimisers step."""
    seen: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module) -> None:
        for key, parameter in module.named_parameters():
            if parameter.grad is not None:
                seen[f"{name}.{key}"] = parameter.grad.detach().clone().contiguous()

    for name, optimizer in state.optimizers.items():
        module = state.modules[name]
        optimizer.register_step_pre_hook(lambda *_, n=name, m=module: record(n, m))  # type: ignore[misc]
    return seen


def step_of(kind: str, corpus: Corpus, folder: Path, accumulate: int = 1) -> dict[str, Tensor]:
    """The gradients of the first step of a real phase, without random augmentation."""
    schedule = dataclasses.replace(PLAIN, accumulate=accumulate)
    config = StageOneConfig(
        output=str(folder / f"{kind}-{distributed.rank()}of{distributed.world_size()}-{accumulate}"),
        bf16=False,
        checkpoint_seconds=1e9,
        render=(RenderSettings(64, schedule),),
    )
    torch.manual_seed(distributed.rank() if kind == "render" else 0)  # the phase must make the starts equal
    if kind == "motion":
        network = weights.load("compact").motion.requires_grad_(True)  # trained: random ones amplify rounding
        modules: dict[str, nn.Module] = {"motion": network.train()}
    elif kind == "render":
        trainer = RenderTrainer(dataclasses.replace(config, seed=distributed.rank()), 0)
        randomise(trainer.network, seed=distributed.rank())
        modules = {"render": trainer.network}
    else:
        joint = joint_trainer()
    if kind == "joint":
        state = joint.state
    else:
        optimizers = {name: torch.optim.AdamW(m.parameters()) for name, m in modules.items()}
        state = TrainingState(modules, optimizers, {name: ema_copy(m) for name, m in modules.items()})
    phase = Phase(kind, config, schedule, state)
    seen = record_gradients(state)
    sampler = {"motion": FrameSampler(corpus), "render": PairSampler(corpus, 64)}.get(
        kind, PairSampler(corpus, SMALL_BASE.input_size)
    )
    drawn = batches(sampler, phase.rank_slice, seed=3)

    def motion_terms(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        motion, coarse = network.detailed(pictures_of(batch, "picture", CPU))  # type: ignore[operator]
        return motion_losses(motion, coarse, motion_of(batch, "", CPU))

    losses: Losses[dict[str, Tensor]]
    if kind == "motion":
        losses = weighted("motion", motion_terms, MotionWeights())
    elif kind == "render":
        losses = weighted("render", trainer.terms, config.render[0].weights)
    else:
        losses = lambda batch: joint.losses(Pair.of(batch, CPU))  # noqa: E731

    for _ in range(accumulate):
        phase.turn(next(drawn), losses)
    assert phase.state.step == 1 and phase.state.samples == BATCH
    return seen


def joint_trainer() -> JointTrainer:
    """Small F, M, W and G of the published architecture against discriminators, without random transforms."""
    networks = build(SMALL_BASE)
    for module in networks.modules().values():
        randomise(module)
    terms = JointWeights(equivariance=0, identity=0, perceptual_whole=0, perceptual_face=0, perceptual_lips=0)
    settings = JointSettings(PLAIN, size=64, weights=terms, discriminator_channels=8, perceptual="none")
    return JointTrainer(networks, settings, CPU, bf16=False)


def normed(norm: nn.Module, whole: Tensor, part: slice) -> dict[str, Tensor]:
    """Output, gradients and statistics of a batch norm on a part of a batch, under a loss on the joint batch."""
    x = whole[part].clone().requires_grad_()
    out = norm(x)
    (out * torch.linspace(-1, 2, whole.numel()).view_as(whole)[part]).sum().backward()
    assert x.grad is not None
    gradients = {f"{name}.grad": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return {"out": out.detach(), "x.grad": x.grad, **gradients, **norm.state_dict()}


def fresh_norm() -> nn.Module:
    model = nn.Sequential(nn.BatchNorm2d(3))
    randomise(model)
    return model


def work(rank: int, port: int, corpus_folder: Path, folder: Path) -> None:
    """One of two processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    with distributed.processes("cpu") as device:
        assert device == "cpu" and distributed.world_size() == 2
        model = fresh_norm()
        synchronise(model)
        assert isinstance(model[0], SyncedBatchNorm)
        found = normed(model, numbers(), slice(0, 2) if rank == 0 else slice(2, 6))
        save_file({k: v.contiguous() for k, v in found.items()}, folder / f"norm-{rank}.safetensors")
        corpus = load_corpus(corpus_folder)
        for kind in KINDS:
            save_file(step_of(kind, corpus, folder), folder / f"{kind}-{rank}.safetensors")


def numbers() -> Tensor:
    return torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(1)) * 3 + 5


@pytest.fixture(scope="module")
def two(corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["liveportrait.training.stage_one.run"])  # imported once for all
    both = [context.Process(target=work, args=(rank, port, corpus_folder, folder)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    return folder


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Assert that tensors differ by at most TOLERANCE times their norm."""
    assert found.keys() == wanted.keys()
    largest = max(float(value.norm()) for value in wanted.values())
    for name, value in wanted.items():
        gap = float((found[name] - value).norm())
        assert gap <= TOLERANCE * float(value.norm()) + 1e-6 * largest, (name, gap, float(value.norm()))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_give_the_gradients_of_one(
    two: Path, corpus_folder: Path, tmp_path: Path, kind: str
) -> None:
    """M with batch norms; F, W and G; and all four with volumes, batch norms and discriminators."""
    wanted = step_of(kind, load_corpus(corpus_folder), tmp_path)
    assert sum(bool(value.any()) for value in wanted.values()) > 0.9 * len(wanted)
    for rank in range(2):
        assert_same(load_file(two / f"{kind}-{rank}.safetensors"), wanted)


def test_a_synchronised_norm_is_the_norm_of_the_joint_batch(two: Path) -> None:
    wanted = normed(fresh_norm(), numbers(), slice(None))
    parts = [load_file(two / f"norm-{rank}.safetensors") for rank in range(2)]
    for name in ("out", "x.grad"):
        assert torch.allclose(torch.cat([part[name] for part in parts]), wanted[name], atol=1e-5)
    for name in ("0.weight.grad", "0.bias.grad"):  # the processes' sum, as the loss is a sum
        assert torch.allclose(parts[0][name] + parts[1][name], wanted[name], atol=1e-4)
    for name in fresh_norm().state_dict():
        assert (
            torch.allclose(parts[0][name], wanted[name], atol=1e-5)
            and (parts[0][name] == parts[1][name]).all()
        )


def test_micro_batches_give_the_gradients_of_the_joint_batch(corpus_folder: Path, tmp_path: Path) -> None:
    """With the compact F, W and G, which have no batch norm: its statistics would be those of a micro-batch."""
    corpus = load_corpus(corpus_folder)
    assert_same(step_of("render", corpus, tmp_path, accumulate=2), step_of("render", corpus, tmp_path))


CONFIG = """
bf16 = false
checkpoint_seconds = 0.0
[data]
shards = ["*.tar"]
frames_per_clip = 4
hold_out_one_in = 4
mode = "resident"
[motion]
patch_jitter = 0.0
schedule = { samples = 12, batch = 4, learning_rate = 1e-4, warmup_steps = 1 }
"""


def train_motion(config: Path, output: Path) -> None:
    """The part of M, with small networks."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        build_compact_small(patch)
        command = ["train", "stage-one", "--config", str(config), "--part", "motion", "--output", str(output)]
        assert main(command) == 0


def test_torchrun_trains_as_one_process_does(tmp_path: Path) -> None:
    """Two processes that torchrun starts write one log and one checkpoint, and take the path of a single process."""
    make_shard(tmp_path / "a.tar", clips=4, pictures=4)
    config = tmp_path / "tiny.toml"
    config.write_text(CONFIG)
    torchrun = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="forkserver",
    )
    elastic_launch(torchrun, train_motion)(config, tmp_path / "two")
    train_motion(config, tmp_path / "one")
    logged = [
        [json.loads(line) for line in (tmp_path / run / "motion.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    ]
    assert [[line["samples"] for line in lines] for lines in logged] == [[12], [12]]
    assert logged[1][0]["held_out/pixels"] == pytest.approx(logged[0][0]["held_out/pixels"], rel=1e-2)
    one, two = (load_file(tmp_path / run / "motion.safetensors") for run in ("one", "two"))
    moments = [key for key in one if key.startswith("optimizer") and key.endswith("exp_avg")]
    ways = [torch.cat([run[key].flatten() for key in moments]) for run in (one, two)]
    assert torch.cosine_similarity(*ways, dim=0) > 0.99
