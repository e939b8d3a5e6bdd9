"""What every phase shares: pace, logs, checkpoints and the moving average."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.training.checkpoint import TrainingState, follow
from liveportrait.training.config import Schedule, StageOneConfig

LOG_EVERY = 50  # steps
BETAS = (0.9, 0.99)


def learning_rate(schedule: Schedule, step: int, samples: int) -> float:
    """Linear warm-up over steps, cosine over samples."""
    warm = min(1.0, (step + 1) / schedule.warmup_steps)
    done = min(1.0, samples / schedule.samples)
    falling = schedule.final_ratio + (1 - schedule.final_ratio) * 0.5 * (1 + math.cos(math.pi * done))
    return schedule.learning_rate * warm * falling


class Phase:
    """One run of optimisation: resumes from its own checkpoint, logs to tensorboard and a JSON-lines file."""

    def __init__(self, name: str, config: StageOneConfig, schedule: Schedule, state: TrainingState) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
        except ImportError as error:
            raise UserError(
                "training draws its curves with tensorboard: pip install 'liveportrait[train]'"
            ) from error
        self.name, self.config, self.schedule, self.state = name, config, schedule, state
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / f"{name}.safetensors"
        self.resumed = self.checkpoint.exists()
        if self.resumed:
            state.load(self.checkpoint)
        self.writer = SummaryWriter(str(self.folder / "curves" / name), purge_step=state.samples)
        self._smooth: dict[str, float] = {}
        self._started, self._saved = time.monotonic(), time.monotonic()
        self._samples_at_start = state.samples

    @property
    def finished(self) -> bool:
        """Whether the schedule's samples have been seen."""
        return self.state.samples >= self.schedule.samples

    def seed(self) -> None:
        """Random numbers of the coming step: from seed and step alone, so that resuming repeats nothing."""
        torch.manual_seed(self.config.seed * 1_000_003 + self.state.step)

    def step(self, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
        """One update from a loss, then the moving averages."""
        state = self.state
        rate = learning_rate(self.schedule, state.step, state.samples)
        for optimizer in state.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("pace", 1.0)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for module in state.modules.values() for p in module.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient of {self.name} is {float(norm)} at step {state.step}")
        for optimizer in state.optimizers.values():
            optimizer.step()
        for name, average in state.averages.items():
            follow(average, state.modules[name], state.step, self.config.average_decay)
        state.step += 1
        state.samples += self.schedule.batch
        values = {name: value.detach() for name, value in {"loss": loss, **terms}.items()}
        for name, value in values.items():
            self._smooth[name] = 0.95 * self._smooth.get(name, float(value)) + 0.05 * float(value)

    def log(self, validate: Callable[[], Mapping[str, float]], every: int) -> None:
        """Write curves now and then, the held-out figures every `every` steps, and a checkpoint when it is time."""
        state = self.state
        record: dict[str, Any] = {}
        if state.step % every == 0 or self.finished:
            record = {f"held_out/{name}": round(value, 5) for name, value in validate().items()}
        if state.step % LOG_EVERY == 0 or record:
            pace = (state.samples - self._samples_at_start) / (time.monotonic() - self._started)
            record = (
                {"samples_per_s": round(pace, 2)} | {k: round(v, 5) for k, v in self._smooth.items()} | record
            )
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
        self.state.save(self.checkpoint, {"phase": self.name, "config": dataclasses.asdict(self.config)})
        self._saved = time.monotonic()
