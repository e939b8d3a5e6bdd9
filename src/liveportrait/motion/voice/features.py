"""What V hears: a log-mel spectrum and the codes of the listener, each by its level as far as it is known by then."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.signal import lfilter
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
FILE = Path(weights.__file__).parent / "voice" / "listener.safetensors"
LATE = 5  # steps by which codes come later than what they are of: 112.5 ms of sound beyond it is needed
LEAST_POWER = 1e-10  # in a band of the listener
RANGE = 8.0  # powers of ten from the loudest band so far to the least that counts
LISTENED_STILL = -7.0  # mean log10 power below which a step tells nothing of a voice's level
LEAST_CODE_VARIANCE = 0.1
AT_ONCE = 20 * SOUND_RATE  # samples, so that memory does not grow with the length of a sound


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


def power(frames: Tensor, length: int) -> Tensor:
    """Power (n,1 + length // 2) of the spectrum of frames (n,m), by Hann's window."""
    spectrum = torch.fft.rfft(frames * _hann(frames.shape[1]), length)
    return torch.view_as_real(spectrum).square().sum(-1)


@cache
def _hann(length: int) -> Tensor:
    return torch.hann_window(length)


def log_mel(samples: Tensor) -> Tensor:
    """Columns (n,64) of a sound; number k is of samples 160 k to 160 k + 400 of what is given."""
    if len(samples) < WINDOW:
        return samples.new_zeros(0, BANDS)
    return torch.log(power(samples.unfold(0, WINDOW, HOP), FFT) @ mel_bank() + FLOOR)


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
        squares = deviation.astype(np.float64) ** 2 + level**2
        self._sums = prior * np.concatenate(
            [level, squares, [1.0]]
        )  # of rows, of their squares, and how many
        self._keep, self._least = 1 - 1 / forgets, least

    def normalised(self, rows: NDArray[np.float64], tells: NDArray[np.bool_]) -> Array:
        """Rows (m,n) by mean and deviation with forgetting, of each row and those before it that tell (m,)."""
        if not len(rows):
            return np.zeros(rows.shape, np.float32)
        told = rows[tells]
        sums = self._filtered(np.concatenate([told, told**2, np.ones((len(told), 1))], axis=1))
        self._sums = sums[-1]
        reached = sums[np.cumsum(tells)]  # 0: what was known before
        means, count = reached[:, :-1] / reached[:, -1:], rows.shape[1]
        mean, squares = means[:, :count], means[:, count:]
        scaled = (rows - mean) / np.sqrt(np.maximum(squares - mean**2, self._least))
        return np.asarray(scaled.clip(-FARTHEST, FARTHEST), np.float32)

    def _filtered(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """s_k = v_k + keep · s_{k−1}, with what was before in front."""
        before = self._sums[None]
        if not len(values):
            return before
        after, _ = lfilter([1.0], [1.0, -self._keep], values, axis=0, zi=self._keep * before)
        return np.concatenate([before, after])


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


@cache
def bundled_listener(path: Path = FILE) -> Listener:
    """The bundled listener. Raises `UserError` where its file is not as it should be."""
    listener = Listener()
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the listener {path} ({error}): install the program again") from error
    check_state(state, listener.state_dict(), str(path))
    listener.load_state_dict({key: value.float() for key, value in state.items()})
    return listener.eval().requires_grad_(False)


def mel(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's: linear to 1 kHz, logarithmic above it."""
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


class Listening:
    """Turns a sound that comes in pieces of any length into codes; how it is cut changes nothing but roundings."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._rest = torch.zeros(WINDOW // 2)
        self._loudest = torch.zeros(1)
        self._columns = torch.zeros(AROUND // 2, LISTENED_BANDS)
        self._loud = torch.zeros(
            0, dtype=torch.bool
        )  # columns that are not still, from the next step's own on
        self._tells = torch.zeros(0, dtype=torch.bool)  # of steps whose codes are not known yet
        self._kept = listener.start()

    @torch.no_grad()
    def feed(self, samples: Array) -> tuple[Tensor, Tensor]:
        """The codes (n,128) that are known by now, and which steps (n,) are not still."""
        known = torch.cat([self._rest, torch.from_numpy(np.ascontiguousarray(samples, np.float32))])
        sounds = torch.zeros(0, WIDTH)
        if len(known) >= WINDOW:
            frames = known.unfold(0, WINDOW, HOP)
            self._rest = known[len(frames) * HOP :]
            sounds = self._heard(power(frames, WINDOW) @ listened_bank())
        else:
            self._rest = known
        found, self._kept = self._listener.step(sounds, self._kept)
        tells, self._tells = self._tells[: len(found)], self._tells[len(found) :]
        return found, tells

    def _heard(self, power: Tensor) -> Tensor:
        """The sounds (m,384) that are known once these columns (n,80) of powers have come."""
        columns = power.clamp(min=LEAST_POWER).log10()
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
        self._tells = torch.cat([self._tells, self._loud[: 2 * steps : 2]])
        self._loud = self._loud[2 * steps :]
        return sounds


class Told:
    """Codes by their own levels, in step with the columns of `Hearing`: with step i come those of step i − 5."""

    def __init__(self) -> None:
        self._listening = Listening(bundled_listener())
        self._levels = Levels(np.zeros(CODES), np.ones(CODES), FORGETS // 2, PRIOR // 2, LEAST_CODE_VARIANCE)
        self._known = torch.zeros(LATE, CODES)

    def feed(self, samples: Array) -> None:
        """Hear more."""
        for begin in range(0, len(samples), AT_ONCE):
            codes, tells = self._listening.feed(samples[begin : begin + AT_ONCE])
            normalised = self._levels.normalised(codes.double().numpy(), tells.numpy())
            self._known = torch.cat([self._known, torch.from_numpy(normalised)])

    def steps(self, count: int) -> Tensor:
        """The next (count,128)."""
        given, self._known = self._known[:count], self._known[count:]
        return given


def voice_steps(sound: Array, mean: Array, deviation: Array) -> Tensor:
    """What the speech network hears of a whole sound (n,): steps (m,256), the log-mel columns and the codes."""
    steps = heard_steps(sound, mean, deviation)
    told = Told()
    told.feed(np.concatenate([sound, np.zeros(2 * SOUND_RATE // 5, np.float32)]))
    return torch.cat([steps, told.steps(len(steps))], dim=1)
