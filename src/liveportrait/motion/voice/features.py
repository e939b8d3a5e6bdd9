"""V's input features: a log-mel spectrum and the codes of the listener, both normalised by running levels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks.voice.speech import (
    AROUND,
    BANDS,
    CODES,
    LISTENED_BANDS,
    WIDTH,
    Listener,
)
from liveportrait.types import Array
from liveportrait.weights.store import check_state

SOUND_RATE = 16000  # samples per second
HOP, WINDOW, FFT = 160, 400, 512  # samples: 100 columns per second, each of 25 ms
BEFORE = (WINDOW - HOP) // 2  # samples by which a column's window starts before its hop
LOWEST, HIGHEST = 60.0, 7600.0  # Hz
FLOOR = 1e-5  # of the power in a band
FORGETS = 600  # columns after which the weight of a level has fallen to 1/e
PRIOR = 100  # columns, initial weight of the levels of all speakers
MIN_VARIANCE = 0.25
STILL = -10.8  # mean log power below which a column does not count towards a voice's level
MAX_DEVIATIONS = 6.0  # standard deviations
FILE = Path(weights.__file__).parent / "voice" / "listener.safetensors"
CODE_DELAY = 5  # steps by which codes are delayed, as they need 112.5 ms of later sound
MIN_POWER = 1e-10  # in a band of the listener
RANGE = 8.0  # powers of ten below the loudest band so far that are kept
LISTENED_STILL = -7.0  # mean log10 power below which a step does not count towards a voice's level
MIN_CODE_VARIANCE = 0.1
AT_ONCE = 20 * SOUND_RATE  # samples, so that memory does not grow with the length of a sound


@cache
def band_edges() -> NDArray[np.float64]:
    """Frequencies (66,) in Hz, evenly spaced in mel = 2595 log10(1 + f/700): band k reaches from edge k to k + 2."""
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


def power(frames: Tensor, length: int) -> Tensor:
    """Power spectrum (n,1 + length // 2) of frames (n,m), with a Hann window."""
    spectrum = torch.fft.rfft(frames * _hann(frames.shape[1]), length)
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


@cache
def _hann(length: int) -> Tensor:
    return torch.hann_window(length)


def log_mel(samples: Tensor) -> Tensor:
    """Columns (n,64) of a sound; column k covers samples 160 k to 160 k + 400."""
    if len(samples) < WINDOW:
        return samples.new_zeros(0, BANDS)
    return torch.log(power(samples.unfold(0, WINDOW, HOP), FFT) @ mel_bank() + FLOOR)


class Levels:
    """Normalises a stream of rows by their running mean and deviation."""

    def __init__(
        self,
        mean: NDArray[np.floating],
        deviation: NDArray[np.floating],
        forgets: int,
        prior: int,
        least: float,
    ) -> None:
        """Prior mean and deviation (n,) with the weight of `prior` rows; `least`: minimum variance."""
        level = mean.astype(np.float64)
        squares = deviation.astype(np.float64) ** 2 + level**2
        # Sums of rows and of their squares, and their number.
        self._sums = prior * np.concatenate([level, squares, [1.0]])
        self._keep, self._least = 1 - 1 / forgets, least

    def normalised(self, rows: NDArray[np.float64], counts: NDArray[np.bool_]) -> Array:
        """Rows (m,n), each normalised by the levels of the rows so far, itself included, that count (m,)."""
        if not len(rows):
            return np.zeros(rows.shape, np.float32)
        counted = rows[counts]
        sums = self._filtered(np.concatenate([counted, counted**2, np.ones((len(counted), 1))], axis=1))
        self._sums = sums[-1]
        reached = sums[np.cumsum(counts)]  # 0: the sums before these rows
        means, count = reached[:, :-1] / reached[:, -1:], rows.shape[1]
        mean, squares = means[:, :count], means[:, count:]
        scaled = (rows - mean) / np.sqrt(np.maximum(squares - mean**2, self._least))
        return np.asarray(scaled.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS), np.float32)

    def _filtered(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """s_k = v_k + keep · s_{k−1}, preceded by the previous sums."""
        sums = [self._sums]
        for value in values:
            sums.append(value + self._keep * sums[-1])
        return np.stack(sums)


class MelStream:
    """Turns a sound that arrives in pieces of any length into columns, independent of the pieces up to rounding."""

    def __init__(self, mean: Array, deviation: Array) -> None:
        """Prior levels (64,): the mean over all speakers, and its standard deviation."""
        self._rest = torch.zeros(BEFORE)
        self._levels = Levels(mean, deviation, FORGETS, PRIOR, MIN_VARIANCE)

    def feed(self, samples: Array) -> tuple[Tensor, Tensor]:
        """The new columns (n,64), in units of each band's deviation, and their loudness (n,), mean log power."""
        known = torch.cat([self._rest, torch.from_numpy(np.ascontiguousarray(samples, np.float32))])
        columns = log_mel(known)
        self._rest = known[len(columns) * HOP :]
        loudness = columns.mean(1)
        normalised = self._levels.normalised(columns.double().numpy(), loudness.double().numpy() > STILL)
        return torch.from_numpy(normalised), loudness


def heard_steps(sound: Array, mean: Array, deviation: Array) -> Tensor:
    """The log-mel steps (m,128) of an entire sound (n,), 50 per second, and one more at the end."""
    after = np.zeros(2 * BEFORE + 4 * HOP, np.float32)
    columns, _ = MelStream(mean, deviation).feed(np.concatenate([sound, after]))
    return columns[: len(columns) // 2 * 2].reshape(-1, 2 * BANDS)


@cache
def bundled_listener(path: Path = FILE) -> Listener:
    """The bundled listener. Raises `UserError` if its file is missing or damaged."""
    listener = Listener()
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the listener {path} ({error}): install the program again") from error
    check_state(state, listener.state_dict(), str(path))
    listener.load_state_dict({key: value.float() for key, value in state.items()})
    return listener.eval().requires_grad_(False)


def mel(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale: linear to 1 kHz, logarithmic above it."""
    above = 15 + np.log(np.maximum(frequency, 1000) / 1000) * 27 / np.log(6.4)
    return np.where(frequency < 1000, frequency * 3 / 200, above)


@cache
def listened_bank() -> Tensor:
    """Triangles (201,80) of equal area, evenly spaced in Slaney's mel from 0 to 8 kHz."""
    fine = np.linspace(0, SOUND_RATE / 2, 80_001)
    scale = mel(fine)
    edges = np.interp(np.linspace(0, scale[-1], LISTENED_BANDS + 2), scale, fine)
    bins = np.linspace(0, SOUND_RATE / 2, WINDOW // 2 + 1)[:, None]
    left, middle, right = (edges[None, start : start + LISTENED_BANDS] for start in range(3))
    triangles = np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)).clip(0)
    return torch.from_numpy((triangles * 2 / (right - left)).astype(np.float32))


class ListenerStream:
    """Turns a sound that arrives in pieces of any length into codes, independent of the pieces up to rounding."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._rest = torch.zeros(WINDOW // 2)
        self._loudest = torch.zeros(1)
        self._columns = torch.zeros(AROUND // 2, LISTENED_BANDS)
        # Whether columns are not silent, from the next step's on
        self._loud = torch.zeros(0, dtype=torch.bool)
        # Whether steps whose codes are not known yet are not silent
        self._counts = torch.zeros(0, dtype=torch.bool)
        self._kept = listener.start()

    @torch.no_grad()
    def feed(self, samples: Array) -> tuple[Tensor, Tensor]:
        """The codes (n,128) that are known by now, and which steps (n,) are not silent."""
        known = torch.cat([self._rest, torch.from_numpy(np.ascontiguousarray(samples, np.float32))])
        sounds = torch.zeros(0, WIDTH)
        if len(known) >= WINDOW:
            frames = known.unfold(0, WINDOW, HOP)
            self._rest = known[len(frames) * HOP :]
            sounds = self._heard(power(frames, WINDOW) @ listened_bank())
        else:
            self._rest = known
        found, self._kept = self._listener.step(sounds, self._kept)
        counts, self._counts = self._counts[: len(found)], self._counts[len(found) :]
        return found, counts

    def _heard(self, power: Tensor) -> Tensor:
        """The sounds (m,384) that are known after these columns (n,80) of powers."""
        columns = power.clamp(min=MIN_POWER).log10()
        loudest = torch.cat([self._loudest, columns.amax(1)]).cummax(0).values
        self._loudest = loudest[-1:]
        self._loud = torch.cat([self._loud, columns.mean(1) > LISTENED_STILL])
        columns = torch.maximum(columns, (loudest[1:] - RANGE)[:, None])
        self._columns = torch.cat([self._columns, (columns + 4) / 4])
        steps = (len(self._columns) - AROUND + 2) // 2
        if steps <= 0:
            return torch.zeros(0, WIDTH)
        sounds = self._listener.sounds(self._columns)
        self._columns = self._columns[2 * steps :]
        self._counts = torch.cat([self._counts, self._loud[: 2 * steps : 2]])
        self._loud = self._loud[2 * steps :]
        return sounds


class CodeStream:
    """Normalised codes, aligned with the columns of `MelStream`: step i has the codes of step i − 5."""

    def __init__(self) -> None:
        self._listener = ListenerStream(bundled_listener())
        self._levels = Levels(np.zeros(CODES), np.ones(CODES), FORGETS // 2, PRIOR // 2, MIN_CODE_VARIANCE)
        self._known = torch.zeros(CODE_DELAY, CODES)

    def feed(self, samples: Array) -> None:
        """Add samples (n,), mono at 16 kHz."""
        for begin in range(0, len(samples), AT_ONCE):
            codes, counts = self._listener.feed(samples[begin : begin + AT_ONCE])
            normalised = self._levels.normalised(codes.double().numpy(), counts.numpy())
            self._known = torch.cat([self._known, torch.from_numpy(normalised)])

    def steps(self, count: int) -> Tensor:
        """The codes of the next steps (count,128)."""
        given, self._known = self._known[:count], self._known[count:]
        return given


def voice_steps(sound: Array, mean: Array, deviation: Array) -> Tensor:
    """The speech network's input for an entire sound (n,): steps (m,256) of log-mel columns and codes."""
    steps = heard_steps(sound, mean, deviation)
    codes = CodeStream()
    codes.feed(np.concatenate([sound, np.zeros(2 * SOUND_RATE // 5, np.float32)]))
    return torch.cat([steps, codes.steps(len(steps))], dim=1)
