"""What V hears: a log-mel spectrum, each band by its own usual level and range as far as they are known by then."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter
from torch import Tensor

from liveportrait.networks.voice.speech import BANDS
from liveportrait.types import Array

SOUND_RATE = 16000  # samples a second
HOP, WINDOW, FFT = 160, 400, 512  # samples: 100 columns a second, each of 25 ms
BEFORE = (WINDOW - HOP) // 2  # samples by which the window of a column begins before its hop
LOWEST, HIGHEST = 60.0, 7600.0  # Hz
FLOOR = 1e-5  # of the power in a band
FORGETS = 600  # columns after which a level counts 1/e
PRIOR = 100  # columns that the levels of all speakers count at the beginning
LEAST_VARIANCE = 0.25
STILL = -10.8  # mean log power below which a column tells nothing of a voice's level
FARTHEST = 6.0  # standard deviations


@cache
def band_edges() -> NDArray[np.float64]:
    """Frequencies (66,) in Hz, evenly spaced in mel = 2595 log10(1 + f/700): band k rises from k and ends at k + 2."""
    lowest, highest = (2595 * np.log10(1 + edge / 700) for edge in (LOWEST, HIGHEST))
    return np.asarray(700 * (10 ** (np.linspace(lowest, highest, BANDS + 2) / 2595) - 1))


@cache
def mel_bank() -> Tensor:
    """Triangles (257,64), one for each band."""
    frequencies = np.linspace(0, SOUND_RATE / 2, FFT // 2 + 1)
    edges = band_edges()
    left, middle, right = (edges[start : start + BANDS, None] for start in range(3))
    rising, falling = (frequencies - left) / (middle - left), (right - frequencies) / (right - middle)
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).T.astype(np.float32))


def log_mel(samples: Tensor) -> Tensor:
    """Columns (n,64) of a sound; number k is of samples 160 k to 160 k + 400 of what is given."""
    if len(samples) < WINDOW:
        return samples.new_zeros(0, BANDS)
    frames = samples.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)
    power = torch.fft.rfft(frames, FFT).abs().square()
    return torch.log(power @ mel_bank() + FLOOR)


class Levels:
    """Brings numbers that come in pieces to their own mean and deviation, as far as these are known by then."""

    def __init__(
        self,
        mean: NDArray[np.floating],
        deviation: NDArray[np.floating],
        forgets: int,
        prior: int,
        least: float,
    ) -> None:
        """What is expected before anything is known (n,), and how many rows that counts; `least` variance."""
        level = mean.astype(np.float64)
        self._sum, self._squares = prior * level, prior * (deviation.astype(np.float64) ** 2 + level**2)
        self._weight = float(prior)
        self._keep, self._least = 1 - 1 / forgets, least

    def normalised(self, rows: NDArray[np.float64], tells: NDArray[np.bool_]) -> Array:
        """Rows (m,n) by mean and deviation with forgetting, of each row and those before it that tell (m,)."""
        if not len(rows):
            return np.zeros(rows.shape, np.float32)
        told = rows[tells]
        sums, squares = self._filtered(told, self._sum), self._filtered(told**2, self._squares)
        weights = self._filtered(np.ones((len(told), 1)), np.array([self._weight]))
        reached = np.cumsum(tells)  # 0: what was known before
        mean = sums[reached] / weights[reached]
        variance = squares[reached] / weights[reached] - mean**2
        self._sum, self._squares, self._weight = sums[-1], squares[-1], float(weights[-1, 0])
        scaled = (rows - mean) / np.sqrt(np.maximum(variance, self._least))
        return np.asarray(scaled.clip(-FARTHEST, FARTHEST), np.float32)

    def _filtered(self, values: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
        """s_k = v_k + keep · s_{k−1}, with what was before in front."""
        if not len(values):
            return before[None]
        after, _ = lfilter([1.0], [1.0, -self._keep], values, axis=0, zi=self._keep * before[None])
        return np.concatenate([before[None], after])


class Hearing:
    """Turns a sound that comes in pieces of any length into columns; how it is cut changes nothing but roundings."""

    def __init__(self, mean: Array, deviation: Array) -> None:
        """Levels (64,) of all speakers, and their standard deviations: what is expected before anything is heard."""
        self._rest = torch.zeros(BEFORE)
        self._levels = Levels(mean, deviation, FORGETS, PRIOR, LEAST_VARIANCE)

    def feed(self, samples: Array) -> tuple[Tensor, Tensor]:
        """The new columns (n,64), in units of each band's deviation, and their loudness (n,), mean log power."""
        known = torch.cat([self._rest, torch.from_numpy(np.ascontiguousarray(samples, np.float32))])
        columns = log_mel(known)
        self._rest = known[len(columns) * HOP :]
        loudness = columns.mean(1)
        normalised = self._levels.normalised(columns.double().numpy(), loudness.double().numpy() > STILL)
        return torch.from_numpy(normalised), loudness


def heard_steps(sound: Array, mean: Array, deviation: Array) -> Tensor:
    """What the networks hear of a whole sound (n,): steps (m,128), 50 a second, and one more at the end."""
    after = np.zeros(2 * BEFORE + 4 * HOP, np.float32)
    columns, _ = Hearing(mean, deviation).feed(np.concatenate([sound, after]))
    return columns[: len(columns) // 2 * 2].reshape(-1, 2 * BANDS)
