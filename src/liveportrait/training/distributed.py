"""Several processes training one model: averaged gradients, equal state, batch norms over the joint batch.

`torchrun` starts them and tells each its rank through the environment. Gradients are averaged by one flat all-reduce
after the backward pass rather than by DistributedDataParallel: the losses call F, M, W, G and the discriminators one
by one, some twice a step, with one backward pass per optimiser. DDP hooks into a single `forward`, so every network
would have to be wrapped on its own. DDP's advantage, communication hidden behind the backward pass, is worth about
one per cent here: 0.5 GB of gradients take milliseconds between GPUs of one machine.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liveportrait.errors import UserError

TIMEOUT = datetime.timedelta(hours=2)  # the first process may prepare a corpus while the others wait


def rank() -> int:
    """This process's rank; 0 is the one that logs and saves."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that logs, saves and prepares data for all."""
    return rank() == 0


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the processes that torchrun started for the duration of the context; a single process does nothing.

    Yields this process's own device: "cuda" becomes "cuda:LOCAL_RANK". CPU tensors go through Gloo, GPU tensors
    through NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    place = torch.device(device)
    if place.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UserError(
                f"Process {local} of this machine has no GPU: it has {torch.cuda.device_count()}; "
                "lower --nproc-per-node."
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield str(place)
    finally:
        dist.destroy_process_group()


@contextmanager
def main_process_first() -> Iterator[None]:
    """The first process runs the block alone; the others run it afterwards."""
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def wait_for_all() -> None:
    """Return once every process has called this."""
    if world_size() > 1:
        dist.barrier()


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes.

    A process that did not use a parameter contributes zero; a parameter that none used keeps no gradient, as in a
    single process.
    """
    if world_size() == 1 or not parameters:
        return
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([used, *(part.float().reshape(-1) for part in parts)])
    dist.all_reduce(flat)
    counts = flat[: len(parameters)].tolist()
    means = (flat[len(parameters) :] / world_size()).split([p.numel() for p in parameters])
    for parameter, mean, count in zip(parameters, means, counts, strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype) if count else None


@torch.no_grad()
def broadcast_modules(modules: Iterable[nn.Module]) -> None:
    """Copy the first process's parameters and buffers to all others."""
    if world_size() == 1:
        return
    for module in modules:
        for value in module.state_dict().values():
            _broadcast(value)


def check_same_start(step: int, place: str) -> None:
    """Raise UserError unless all processes have resumed from the same checkpoint."""
    if world_size() == 1:
        return
    steps: list[int] = [0] * world_size()
    dist.all_gather_object(steps, step)
    if len(set(steps)) > 1:
        raise UserError(
            f"The processes start from different checkpoints (steps {steps}): {place} must be a folder that all "
            "machines share."
        )


def _broadcast(value: Tensor) -> None:
    if value.is_contiguous():
        dist.broadcast(value, 0)
        return
    packed = value.contiguous()  # channels_last weights are strided
    dist.broadcast(packed, 0)
    value.copy_(packed)


class _SumOverAll(torch.autograd.Function):
    """A tensor's sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sum_over_all(own: Tensor) -> Tensor:
    """The sum of every process's tensor, differentiable through all of them."""
    total: Tensor = _SumOverAll.apply(own)
    return total


class SyncedBatchNorm(_BatchNorm):
    """A batch norm of any dimension over the samples of all processes; its state dict is that of `nn.BatchNorm2d`.

    PyTorch's own SyncBatchNorm works on GPUs only. This one computes in float32: one sum over all processes gives the
    mean, a second one the variance about that mean, both differentiable. Every process must call it equally often.
    In evaluation mode it is an ordinary batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (B,C,...)."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input (B,C,...), in the input's dtype."""
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        wide = (1, -1, *[1] * (input.dim() - 2))
        x = input.float()
        own = x.new_tensor([x.numel() / x.shape[1]])
        total = sum_over_all(torch.cat([x.sum(axes), own]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(wide)
        variance = sum_over_all((centred * centred).sum(axes)) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1))
        out = centred * (variance + self.eps).rsqrt().view(wide)
        if self.affine:
            out = out * self.weight.view(wide) + self.bias.view(wide)
        return out.to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise(module: nn.Module) -> None:
    """Make the module's batch norms use the joint batch, in place; parameters and buffers stay the same objects.

    A single process changes nothing. On GPUs they become PyTorch's fused SyncBatchNorm.
    """
    if world_size() == 1:
        return
    for name, child in list(module.named_children()):
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            setattr(module, name, _synced(child))
        else:
            synchronise(child)


def _synced(norm: _BatchNorm) -> _BatchNorm:
    on_gpu = norm.weight is not None and norm.weight.is_cuda
    kind = nn.SyncBatchNorm if on_gpu else SyncedBatchNorm
    synced = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synced._parameters, synced._buffers = norm._parameters, norm._buffers
    return synced.train(norm.training)
