"""Batch norms whose statistics are those of the joint batch of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from liveportrait.training import distributed


class _SumOverAll(torch.autograd.Function):
    """A tensor's sum over all processes; its gradient is the sum of theirs."""

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
    """A batch norm of any dimension over the samples of all processes; state dict as `nn.BatchNorm2d`.

    PyTorch's own SyncBatchNorm is for GPUs alone. This one computes in float32: the mean from one sum over all
    processes, then the variance from another about that mean, both differentiable. Every process must call it equally
    often. In evaluation it is an ordinary batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any (B,C,...)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input (B,C,...), of its own type."""
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
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        out = centred * (variance + self.eps).rsqrt().view(wide)
        if self.affine:
            out = out * self.weight.view(wide) + self.bias.view(wide)
        return out.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise(module: nn.Module) -> None:
    """Let the module's batch norms see the joint batch, in place; their parameters and buffers stay the same objects.

    Alone, nothing changes. On GPUs PyTorch's fused SyncBatchNorm takes their place.
    """
    if distributed.world_size() == 1:
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
