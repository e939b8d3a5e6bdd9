"""The speech network of V: sound to lips, jaw and chin.

It is causal. What it says at a moment is about the moment `DELAY` steps before: that much of the sound it has heard
beyond it, because lips take their places before they are heard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from liveportrait.networks.voice.causal import CausalConv, GatedBlock, Tails
from liveportrait.networks.voice.listener import CODES

RATE = 50  # steps a second
BANDS = 64  # of the log-mel spectrum, of which a step holds two columns
INPUTS = 2 * BANDS + CODES  # numbers of a step
DELAY = 8  # steps of look-ahead: 160 ms; the columns of the last step reach 27.5 ms beyond it
STYLES = 3  # numbers of a style, see `motion.voice.style`
# Blendshapes of jaw and mouth, by number: all from jawForward to mouthUpperUpRight.
SPEECH_SCORES = tuple(range(23, 50))
OUTPUTS = 1 + len(SPEECH_SCORES)


@dataclass(frozen=True)
class SpeechSizes:
    """Widths of the speech network."""

    width: int = 80
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 1, 2)
    dropout: float = 0.12


class SpeechNetwork(nn.Module):
    """Speech to the opening of the lips and the blendshapes of jaw and mouth, as changes from a face at rest."""

    def __init__(self, sizes: SpeechSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.into = CausalConv(INPUTS, sizes.width, 3)
        self.blocks = nn.ModuleList(
            GatedBlock(sizes.width, sizes.kernel, dilation, STYLES, sizes.dropout)
            for dilation in sizes.dilations
        )
        self.head = nn.Sequential(
            nn.Conv1d(sizes.width, sizes.width, 1), nn.SiLU(), nn.Conv1d(sizes.width, OUTPUTS, 1)
        )

    def _gated(self) -> Iterator[GatedBlock]:
        return (cast(GatedBlock, block) for block in self.blocks)

    def start(self, batch: int = 1) -> Tails:
        """What is remembered before the first sound."""
        return (self.into.start(batch), *(block.conv.start(batch) for block in self._gated()))

    def step(self, sound: Tensor, style: Tensor, tails: Tails) -> tuple[Tensor, Tails]:
        """Output (B,T,1+27) for steps (B,T,256) of unit variance and styles (B,3), and what is remembered.

        A step is two log-mel columns and the listener's codes.

        Output number i is of step i − DELAY: first the opening of the lips (ratio of height to width, change from
        closed), then the scores of `SPEECH_SCORES` (change from rest).
        """
        hidden, first = self.into.step(sound.transpose(1, 2), tails[0])
        kept = [first]
        for block, tail in zip(self._gated(), tails[1:], strict=True):
            hidden, tail = block.step(hidden, style, tail)
            kept.append(tail)
        return self.head(hidden).transpose(1, 2), tuple(kept)

    def forward(self, sound: Tensor, style: Tensor) -> Tensor:
        """Output (B,T,1+27) at the very steps of a whole sound (B,T,256); it is followed by silence."""
        after = sound[:, -1:].expand(-1, DELAY, -1)
        found, _ = self.step(torch.cat([sound, after], dim=1), style, self.start(len(sound)))
        return found[:, DELAY:]
