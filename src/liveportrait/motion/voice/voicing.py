"""Measures how much of a sound has a pitch, to distinguish a voice from noise of any colour.

The short-time spectrum is flattened, so that neither colour nor level matters; a signal that repeats at the pitch of a
voice then stands out in the autocorrelation.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from liveportrait.motion.voice.features import BEFORE, HOP, SOUND_RATE, WINDOW, power
from liveportrait.types import Array

SPAN, FFT = 640, 2048  # samples: two periods of the lowest voice
LAGS = slice(SOUND_RATE // 400, SOUND_RATE // 70 + 1)  # samples: voices of 70 to 400 Hz
HIGHEST = 4000.0  # Hz: above this, harmonics are lost in breath noise
SMOOTH = 600.0  # Hz, width over which the spectrum is flattened
MEAN_OF = 5  # columns
NOISE, VOICE = 0.28, 0.34  # mean periodicity up to which it is surely noise, and from which surely a voice
STAYS = 150  # columns that the gate stays open after a voice: pauses and breaths are left to the network


class Voicing:
    """Measures the columns that `MelStream` makes of a sound in pieces, each from the sound up to its end."""

    def __init__(self) -> None:
        self._rest = torch.zeros(BEFORE + SPAN - WINDOW)

    def feed(self, samples: Array) -> Tensor:
        """How periodic each new column is (n,), 0 to 1: noise is below 0.25, a clear vowel above 0.5."""
        known = torch.cat([self._rest, torch.from_numpy(samples).float()])
        if len(known) < SPAN:
            self._rest = known
            return torch.zeros(0)
        frames = known.unfold(0, SPAN, HOP)
        self._rest = known[len(frames) * HOP :]
        return periodicity(frames)


class Gate:
    """Closes while no sound nearby in time has a pitch, so that noise does not open the mouth."""

    def __init__(self, ahead: int) -> None:
        """`ahead`: columns of look-ahead. A step is two columns."""
        self._counts, self._voicing = STAYS + ahead + 2, Voicing()
        self._columns = torch.zeros(STAYS + ahead + MEAN_OF - 1)

    def feed(self, samples: Array) -> None:
        """Add samples (n,), mono at 16 kHz."""
        self._columns = torch.cat([self._columns, self._voicing.feed(samples)])

    def steps(self, count: int) -> Tensor:
        """How far it is open (count,), 0 to 1, at the next steps."""
        means = torch.nn.functional.avg_pool1d(self._columns[None], MEAN_OF, 1)[0]
        highest = means.unfold(0, self._counts, 2)[:count].amax(1)
        self._columns = self._columns[2 * count :]
        return ((highest - NOISE) / (VOICE - NOISE)).clamp(0, 1)


def periodicity(frames: Tensor) -> Tensor:
    """Maximum normalised autocorrelation (n,) at the pitch of a voice, of windows of sound (n,640)."""
    width, heard = int(SMOOTH / SOUND_RATE * FFT) | 1, int(HIGHEST / SOUND_RATE * FFT)
    sound = power(frames, FFT)[:, : heard + width // 2]
    # Sums over the width as differences of sums from the start, in float64 as these grow large.
    sums = torch.nn.functional.pad(sound.double().cumsum(1), (width // 2 + 1, 0))
    below = torch.arange(heard).clamp(max=width // 2) + width // 2 + 1  # values within reach of each
    level = (sums[:, width : width + heard] - sums[:, :heard]) / below
    flat = sound[:, :heard] / (level.float() + 1e-9)
    similar = torch.fft.irfft(flat, FFT)
    found = similar[:, LAGS] / similar[:, :1].clamp(min=1e-9) / _overlap()
    return found.amax(1).clamp(0, 1)


@cache
def _overlap() -> Tensor:
    """The normalised autocorrelation of the window itself at each lag."""
    alike = torch.fft.irfft(power(torch.ones(1, SPAN), FFT)[0], FFT)
    return alike[LAGS] / alike[0]
