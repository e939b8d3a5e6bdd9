"""The networks of V: a listener, which recognises speech sounds, and the speech network, sound to lips, jaw and chin.

The listener is the start of Whisper: the two convolutions and the first layer of the encoder of whisper-tiny.en
(Radford et al. 2022), unchanged except for the layer's attention span, and a projection to 128 numbers.

The speech network is causal. Its output is for the step `DELAY` steps earlier, so that it looks ahead by that much:
lips move before they are heard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.voice.causal import CausalConv, GatedBlock, Styled, TimeConv, project

RATE = 50  # steps per second
BANDS = 64  # of the log-mel spectrum; a step has two columns of it
LISTENED_BANDS = 80  # of the listener's log-mel spectrum, 100 columns per second
CODES = 128  # per step
WIDTH, HEADS, INNER = 384, 6, 1536
PAST, AHEAD = 100, 4  # earlier and later steps that a step attends to
PAGE = 400  # steps after which position numbers restart
AROUND = 5  # columns that a step depends on: its two, and what the convolutions see next to them
INPUTS = 2 * BANDS + CODES  # per step
DELAY = 8  # steps of look-ahead: 160 ms; the columns of the last step reach 27.5 ms beyond it
STYLES = 3  # numbers of a style, see `motion.voice.style`
# Blendshapes of jaw and mouth, by number: all from jawForward to mouthUpperUpRight.
SPEECH_SCORES = tuple(range(23, 50))
OUTPUTS = 1 + len(SPEECH_SCORES)


class Attended(NamedTuple):
    """The state of a stream: the sounds that later steps attend to."""

    number: int  # of the next step whose code is not known
    sounds: Tensor  # (100 + 4 at most,384): before and from that step
    made: Tensor  # (m,768) keys and values of the first of these; m = 0 if there are none on the step's page


class Listener(nn.Module):
    """Turns columns of a log-mel spectrum into codes."""

    positions: Tensor  # (504,384)
    attention: Tensor  # (400,504) what is added to the scores of step i for sound i + j - 100

    def __init__(self) -> None:
        super().__init__()
        self.first = TimeConv(LISTENED_BANDS, WIDTH, 3)
        self.second = TimeConv(WIDTH, WIDTH, 3, stride=2)
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.attended = nn.Linear(WIDTH, 3 * WIDTH)  # queries, keys, values
        self.gathered = nn.Linear(WIDTH, WIDTH)
        self.inner_norm = nn.LayerNorm(WIDTH)
        self.inner = nn.Linear(WIDTH, INNER)
        self.outer = nn.Linear(INNER, WIDTH)
        self.project = nn.Linear(WIDTH, CODES)
        self.register_buffer("positions", _waves(PAST + PAGE + AHEAD), persistent=False)
        seen = torch.ones(PAGE, PAST + PAGE + AHEAD).triu().tril(PAST + AHEAD) > 0
        self.register_buffer("attention", torch.where(seen, 0.0, -torch.inf), persistent=False)

    def sounds(self, columns: Tensor) -> Tensor:
        """The layer's inputs (m,384) from columns (n,80), m = (n - 3) // 2; the first is of columns 0 to 4."""
        return F.gelu(self.second(F.gelu(self.first(columns[None]))))[0]

    def start(self) -> Attended:
        """The state before the first sound."""
        return Attended(0, self.positions[:0], self.positions.new_zeros(0, 2 * WIDTH))

    def step(self, sounds: Tensor, kept: Attended) -> tuple[Tensor, Attended]:
        """Codes (n,128) of the steps that are known after these sounds (m,384), and the new state.

        A step is known once four later sounds are. Positions depend only on a step's number, so the result does not
        depend on how a sound is split.
        """
        weights, biases = self.attended.weight, self.attended.bias
        number, known, made = kept.number, torch.cat([kept.sounds, sounds]), kept.made
        found, end = [], number + max(len(known) - min(number, PAST) - AHEAD, 0)
        while number < end:
            before, page = min(number, PAST), number // PAGE
            last = min((page + 1) * PAGE, end)
            stop, first = before + last - number + AHEAD, min(before, len(made))
            places = self.positions[PAST - before + number - page * PAGE :]
            placed = known[first:stop] + places[first:stop]
            normed, own = self.attention_norm(placed), slice(before - first, -AHEAD)
            fresh = project(normed[len(made) - first :], weights[WIDTH:], biases[WIDTH:])
            made = torch.cat([made, fresh])
            asked = project(normed[own], weights[:WIDTH], biases[:WIDTH])
            found.append(self._layer(placed[own], asked, made))
            passed = stop - AHEAD - min(last, PAST)
            # At the end of a page all positions change, and with them keys and values.
            known, made = known[passed:], made[passed if last % PAGE else len(made) :]
            number = last
        codes = _through(self.project, torch.cat(found)) if found else sounds.new_zeros(0, CODES)
        return codes, Attended(number, known, made)

    def _layer(self, own: Tensor, asked: Tensor, made: Tensor) -> Tensor:
        """The layer's output (n,384) for the last steps but four, of their queries (n,384) and all keys and values."""
        queries = asked.unflatten(1, (HEADS, -1)).transpose(0, 1)
        keys, values = made.unflatten(1, (2, HEADS, -1)).permute(1, 2, 0, 3)
        seen = self.attention[: len(own), PAST + len(own) + AHEAD - len(made) : PAST + len(own) + AHEAD]
        mixed = F.scaled_dot_product_attention(queries[None], keys[None], values[None], attn_mask=seen)
        hidden = own + _through(self.gathered, mixed[0].transpose(0, 1).flatten(1))
        inner = F.gelu(_through(self.inner, self.inner_norm(hidden)))
        return hidden + _through(self.outer, inner)


def _through(layer: nn.Linear, rows: Tensor) -> Tensor:
    return project(rows, layer.weight, layer.bias)


def _waves(count: int) -> Tensor:
    """Whisper's position embeddings (count,384): sines and cosines of 192 frequencies."""
    half = WIDTH // 2
    frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
    angles = torch.arange(count)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass(frozen=True)
class SpeechSizes:
    """Widths of the speech network."""

    width: int = 80
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 1, 2)
    dropout: float = 0.12


class Spoken(NamedTuple):
    """The state of a stream of the speech network."""

    tails: tuple[Tensor, ...]  # the past input that each convolution needs, (B,r,C)
    styles: tuple[Styled, ...]  # of each block


class SpeechNetwork(nn.Module):
    """Predicts the opening of the lips and the blendshapes of jaw and mouth, as changes from rest, from speech."""

    def __init__(self, sizes: SpeechSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.into = CausalConv(INPUTS, sizes.width, 3)
        self.blocks = nn.ModuleList(
            GatedBlock(sizes.width, sizes.kernel, dilation, STYLES, sizes.dropout)
            for dilation in sizes.dilations
        )
        self.head = nn.Sequential(
            TimeConv(sizes.width, sizes.width, 1), nn.SiLU(), TimeConv(sizes.width, OUTPUTS, 1)
        )

    def _gated(self) -> Iterator[GatedBlock]:
        return (cast(GatedBlock, block) for block in self.blocks)

    def start(self, style: Tensor) -> Spoken:
        """The state before the first sound, for styles (B,3)."""
        convolutions = self.into, *(block.conv for block in self._gated())
        tails = tuple(each.start(len(style)) for each in convolutions)
        return Spoken(tails, tuple(block.styled(style) for block in self._gated()))

    def step(self, sound: Tensor, kept: Spoken) -> tuple[Tensor, Spoken]:
        """Outputs (B,T,1+27) for steps (B,T,256) of unit variance, and the new state.

        A step is two log-mel columns and the listener's codes.

        Output i is for step i − DELAY: first the opening of the lips (height over width, change from closed), then the
        scores of `SPEECH_SCORES` (change from rest).
        """
        hidden, first = self.into.step(sound, kept.tails[0])
        tails = [first]
        for block, styled, tail in zip(self._gated(), kept.styles, kept.tails[1:], strict=True):
            hidden, tail = block.step(hidden, styled, tail)
            tails.append(tail)
        return self.head(hidden), kept._replace(tails=tuple(tails))

    def forward(self, sound: Tensor, style: Tensor) -> Tensor:
        """Outputs (B,T,1+27) for the steps of an entire sound (B,T,256), without delay; silence is assumed after it."""
        after = sound[:, -1:].expand(-1, DELAY, -1)
        found, _ = self.step(torch.cat([sound, after], dim=1), self.start(style))
        return found[:, DELAY:]
