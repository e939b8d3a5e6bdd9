"""The training loop that all phases share: rate, accumulation, averages, logs, checkpoints, exact resuming.

A phase is given batches and a function that computes their losses:

    phase, average = network_phase("motion", "motion", network, config, schedule)
    with closing(phase.batches(sampler, seed, corpora.stream)) as batches:
        phase.run(batches, weighted("motion", terms, weights), lambda: figures(average), every=250)

One turn of the loop processes a micro-batch: this process's part of micro-batch `phase.micro` of step `state.step`.
With `schedule.accumulate = k` the optimisers step, and the step count grows, every k turns; `schedule.batch` is the
joint batch of a step, over all micro-batches and processes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from liveportrait.engine.pytorch import require_compiler
from liveportrait.errors import UserError
from liveportrait.training import distributed
from liveportrait.training.checkpoint import TrainingState, ema_copy, made_by, update_ema
from liveportrait.training.config import LossWeights, RunConfig, Schedule
from liveportrait.training.data.batches import Batches, RankSlice
from liveportrait.training.data.corpora import open_batches
from liveportrait.training.data.samplers import ClipSampler
from liveportrait.training.data.stream import ShardStream
from liveportrait.training.distributed import synchronise

LOG_EVERY = 50  # steps
BETAS = (0.9, 0.99)
MAX_GRADIENT_NORM = 1.0  # over the parameters of one optimiser

P = ParamSpec("P")
R = TypeVar("R")
Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)
Terms = dict[str, Tensor]  # unweighted terms of a loss: scalars, means over the micro-batch


class Objective(NamedTuple):
    """The loss that one optimiser minimises in one turn."""

    optimizer: str  # its name in the training state
    loss: Tensor  # scalar, a mean over the micro-batch
    terms: Terms  # for the log


# The objectives of a micro-batch. They may be generated lazily: each is requested after the update of the one before.
Losses = Callable[[Batch], Iterable[Objective]]


def weighted_sum(terms: Terms, weights: LossWeights) -> Tensor:
    """Σ weight·term; a term of weight 0 is only logged."""
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()


def weighted(optimizer: str, terms: Callable[[Batch], Terms], weights: LossWeights) -> Losses[Batch]:
    """The losses of a phase with one optimiser, which minimises the weighted sum of the terms."""

    def losses(batch: Batch) -> list[Objective]:
        found = terms(batch)
        return [Objective(optimizer, weighted_sum(found, weights), found)]

    return losses


def learning_rate(schedule: Schedule, step: int, samples: int) -> float:
    """The rate at a step: linear warm-up over steps, cosine decay over samples."""
    warm = min(1.0, (step + 1) / schedule.warmup_steps)
    done = min(1.0, samples / schedule.samples)
    falling = schedule.final_ratio + (1 - schedule.final_ratio) * 0.5 * (1 + math.cos(math.pi * done))
    return schedule.learning_rate * warm * falling


class Phase:
    """One training run: resumes from its own checkpoint, logs to tensorboard and to a JSON-lines file."""

    def __init__(self, name: str, config: RunConfig, schedule: Schedule, state: TrainingState) -> None:
        """Makes the modules of `state` equal in all processes and synchronises their batch norms."""
        self.name, self.config, self.schedule, self.state = name, config, schedule, state
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / f"{name}.safetensors"
        self.rank_slice = RankSlice(
            schedule.batch, schedule.accumulate, distributed.rank(), distributed.world_size()
        )
        about: dict[str, Any] = {}
        if self.checkpoint.exists():
            about = state.load(self.checkpoint)
            self._truncate_log(state.step)
        distributed.check_same_start(state.step, str(self.folder))
        distributed.broadcast_modules([*state.modules.values(), *state.averages.values()])
        for module in state.modules.values():
            synchronise(module)
        self.data_digest = str(about.get("data", ""))  # of the corpus that batches come from
        self.micro = 0  # index of the micro-batch within the step
        # Tensorboard's; None except in the first process.
        self.writer: Any = _tensorboard_writer(self.folder / "curves" / name, state.samples)
        self._smooth = {name: torch.tensor(value) for name, value in state.history.get("smooth", {}).items()}
        self._started, self._saved = time.monotonic(), time.monotonic()
        self._samples_at_start = state.samples

    @property
    def finished(self) -> bool:
        """Whether all of the schedule's samples have been seen."""
        return self.state.samples >= self.schedule.samples

    def run(
        self,
        batches: Iterator[Batch],
        losses: Losses[Batch],
        validate: Callable[[], Mapping[str, float]],
        every: int,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the end of the schedule, or until `enough` returns True.

        `batches` start at the run's current position; `validate` returns the held-out figures, called every `every`
        steps and at the end.
        """
        while not self.finished and not enough():
            self.turn(next(batches), losses)
            self.log(validate, every)

    def turn(self, batch: Batch, losses: Losses[Batch]) -> None:
        """Process one micro-batch: seed, update for each objective, and count."""
        self.seed()
        terms: Terms = {}
        for objective in losses(batch):
            self.update(objective.optimizer, objective.loss)
            terms = {"loss": objective.loss} | terms | objective.terms
        self.advance(terms)

    def seed(self) -> None:
        """Seed the next turn's random numbers from seed, step and micro-batch alone, so that resuming is exact.

        They are the same in every process, so that all take the same branches: synchronised batch norms wait for
        each other.
        """
        turn = self.state.step * self.schedule.accumulate + self.micro
        torch.manual_seed(self.config.seed * 1_000_003 + turn)

    def batches(self, sampler: ClipSampler, seed: int, stream: ShardStream | None) -> Batches:
        """This process's micro-batches from the run's current position; close them at the end."""
        start = self.state.step * self.schedule.accumulate + self.micro
        digest = sampler.corpus.digest
        if self.data_digest not in ("", digest) and distributed.is_first():
            print(f"{self.name} continues with other data than {self.checkpoint} has seen", file=sys.stderr)
        self.data_digest = digest
        device = torch.device(self.config.device)
        return open_batches(sampler, stream, self.config.data, self.rank_slice, seed, start, device)

    def update(self, optimizer: str, loss: Tensor) -> None:
        """Backward pass and, at the last micro-batch of a step, an update by the named optimiser.

        The loss is a mean over the micro-batch and is divided by the number of micro-batches here. Only the parameters
        of this optimiser get gradients; others in the graph (discriminators under a generator's loss) do not. Before
        the update, gradients are averaged over processes and clipped to norm 1, separately for each optimiser; the
        rate is the schedule's times the group's `lr_scale`.
        """
        chosen = self.state.optimizers[optimizer]
        parameters = [p for group in chosen.param_groups for p in group["params"] if p.requires_grad]
        torch.autograd.backward(loss / self.schedule.accumulate, inputs=parameters)
        if self.micro + 1 < self.schedule.accumulate:
            return
        distributed.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of {self.name}'s {optimizer} is {float(norm)} at step {self.state.step}"
            )
        rate = learning_rate(self.schedule, self.state.step, self.state.samples)
        for group in chosen.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        chosen.step()
        chosen.zero_grad(set_to_none=True)

    def advance(self, terms: Mapping[str, Tensor]) -> None:
        """End a turn: count it, smooth the logged terms and, if a step is complete, update the averages."""
        state = self.state
        for name, term in terms.items():  # stays on the device: reading a number would wait for it
            value = term.detach().float()
            self._smooth[name] = torch.lerp(value, self._smooth.get(name, value).to(value), 0.95)
        self.micro = (self.micro + 1) % self.schedule.accumulate
        if self.micro:
            return
        for name, average in state.averages.items():
            update_ema(average, state.modules[name], state.step, self.config.average_decay)
        state.step += 1
        state.samples += self.schedule.batch

    def log(self, validate: Callable[[], Mapping[str, float]], every: int) -> None:
        """Log the terms every 50 steps, the held-out figures every `every` steps, and save a checkpoint when due.

        Done by the first process, between steps; it logs the terms of its own part of the batches. At the end all
        processes wait for the last checkpoint.
        """
        if self.micro:
            return
        if distributed.is_first():
            self._log(validate, every)
        if self.finished:
            distributed.wait_for_all()

    def _log(self, validate: Callable[[], Mapping[str, float]], every: int) -> None:
        state = self.state
        record: dict[str, Any] = {}
        if state.step % every == 0 or self.finished:
            record = {f"held_out/{name}": round(value, 5) for name, value in validate().items()}
        if state.step % LOG_EVERY == 0 or record:
            pace = (state.samples - self._samples_at_start) / (time.monotonic() - self._started)
            smooth = {name: round(float(value), 5) for name, value in self._smooth.items()}
            record = {"samples_per_s": round(pace, 2)} | smooth | record
            for name, value in record.items():
                self.writer.add_scalar(name, value, state.samples)
            line = json.dumps({"phase": self.name, "step": state.step, "samples": state.samples, **record})
            with (self.folder / f"{self.name}.jsonl").open("a") as stream:
                stream.write(line + "\n")
        if time.monotonic() - self._saved > self.config.checkpoint_seconds or self.finished:
            self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        self.writer.flush()
        self.state.history["smooth"] = {name: float(value) for name, value in self._smooth.items()}
        about = {"phase": self.name, "config": dataclasses.asdict(self.config), "seed": self.config.seed}
        self.state.save(self.checkpoint, {**about, "data": self.data_digest, "made_by": made_by()})
        self._saved = time.monotonic()

    def _truncate_log(self, step: int) -> None:
        """Remove what a killed run logged after its last checkpoint: those steps are about to be repeated."""
        path = self.folder / f"{self.name}.jsonl"
        if not path.exists() or not distributed.is_first():
            return
        complete = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(line for line in complete if json.loads(line)["step"] <= step))
        temporary.replace(path)


def network_phase(
    name: str,
    key: str,
    network: Network,
    config: RunConfig,
    schedule: Schedule,
    groups: Iterable[dict[str, Any]] | None = None,
) -> tuple[Phase, Network]:
    """A phase that trains one network with AdamW, and the network's moving average, which is the phase's result.

    `key` names the network, its optimiser and its average in the checkpoint; `groups` are the optimiser's parameter
    groups, by default all of the network's parameters.
    """
    average = ema_copy(network)
    chosen = network.parameters() if groups is None else groups
    optimizer = torch.optim.AdamW(chosen, betas=BETAS, weight_decay=schedule.weight_decay)
    state = TrainingState({key: network}, {key: optimizer}, {key: average})
    return Phase(name, config, schedule, state), average


def _tensorboard_writer(folder: Path, samples: int) -> Any:
    """Tensorboard's writer in the first process, else None; curves beyond `samples` are purged."""
    if not distributed.is_first():
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
    except ImportError as error:
        raise UserError(
            "training needs tensorboard for its curves: pip install 'liveportrait[train]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=samples)


def compile_function(function: Callable[P, R], device: torch.device) -> Callable[P, R]:
    """The function, compiled when first called. Raises `UserError` as `compile_networks`."""
    require_compiler(device, "compile = true", "set compile = false")
    return torch.compile(function)


def compile_networks(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Have the modules' `forward` compiled when first called, in place; names and parameters stay.

    Raises `UserError` if nothing can be compiled: a CPU needs a C++ compiler, a GPU needs Triton.
    """
    require_compiler(device, "compile = true", "set compile = false")
    for network in networks:
        network.compile()
