"""Convolutions over time that know the past alone, and go on where they stopped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Tails = tuple[Tensor, ...]  # what each convolution has to remember, (B,C,r)


class CausalConv(nn.Conv1d):
    """A convolution whose output at a time depends on that time and those before it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, dilation=dilation)
        self.reach = (kernel - 1) * dilation

    def start(self, batch: int) -> Tensor:
        """The tail (B,C,reach) of silence before the beginning."""
        return self.weight.new_zeros(batch, self.in_channels, self.reach)

    def step(self, signal: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Output (B,C',T) for a signal (B,C,T) that follows a tail, and the tail of what comes next."""
        known = torch.cat([tail, signal], dim=2)
        return self(known), known[..., known.shape[2] - self.reach :]


class GatedBlock(nn.Module):
    """A residual block: gated causal convolution, scaled by the style, then a pointwise one."""

    def __init__(self, width: int, kernel: int, dilation: int, style: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = CausalConv(width, 2 * width, kernel, dilation)
        self.style = nn.Linear(style, 2 * width)
        self.out = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout1d(dropout)
        nn.init.zeros_(self.style.weight)
        nn.init.zeros_(self.style.bias)

    def step(self, hidden: Tensor, style: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """The next (B,W,T), and the tail."""
        # Each moment is normalised by itself: statistics over time would look ahead.
        batch, width, times = hidden.shape
        flat = self.norm(hidden.transpose(1, 2).reshape(batch * times, width))
        signal, tail = self.conv.step(flat.view(batch, times, width).transpose(1, 2), tail)
        scale, shift = self.style(style)[..., None].chunk(2, dim=1)
        value, gate = signal.chunk(2, dim=1)
        signal = torch.tanh(value * (1 + scale) + shift) * torch.sigmoid(gate)
        return hidden + self.out(self.dropout(signal)), tail
