"""What V is told of the words: the codes of the listener (`networks.voice.listener`), as a sound comes."""

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
from liveportrait.motion.voice.features import SOUND_RATE, Levels, heard_steps
from liveportrait.networks.voice.listener import AHEAD, AROUND, CODES, LISTENED_BANDS, PAST, WIDTH, Listener
from liveportrait.types import Array
from liveportrait.weights.store import check_state

FILE = Path(weights.__file__).parent / "voice" / "listener.safetensors"
HOP, WINDOW = 160, 400  # samples: column k is of those around sample 160 k
LATE = 5  # steps by which codes come later than what they are of: 112.5 ms of sound beyond it is needed
FLOOR, RANGE = (
    1e-10,
    8.0,
)  # least power in a band; powers of ten from the loudest one so far to the least that counts
STILL = -7.0  # mean log10 power below which a step tells nothing of a voice's level
FORGETS, PRIOR = 300, 50  # steps, as the columns of `Hearing`
LEAST_VARIANCE = 0.1
AT_ONCE = 20 * SOUND_RATE  # samples, so that memory does not grow with the length of a sound


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
        self._sounds = torch.zeros(0, WIDTH)
        self._given = 0

    @torch.no_grad()
    def feed(self, samples: Array) -> tuple[Tensor, Tensor]:
        """The codes (n,128) that are known by now, and which steps (n,) are not still."""
        known = torch.cat([self._rest, torch.from_numpy(np.ascontiguousarray(samples, np.float32))])
        if len(known) >= WINDOW:
            frames = known.unfold(0, WINDOW, HOP)
            self._rest = known[len(frames) * HOP :]
            self._hear(torch.fft.rfft(frames * torch.hann_window(WINDOW)).abs().square() @ listened_bank())
        else:
            self._rest = known
        before = min(self._given, PAST)
        count = max(len(self._sounds) - before - AHEAD, 0)
        found = self._listener.codes(self._sounds, before, self._given)
        self._given += count
        self._sounds = self._sounds[before + count - min(self._given, PAST) :]
        tells, self._tells = self._tells[:count], self._tells[count:]
        return found, tells

    def _hear(self, power: Tensor) -> None:
        """New columns (n,80), as powers."""
        columns = power.clamp(min=FLOOR).log10()
        loudest = torch.cat([self._loudest, columns.amax(1)]).cummax(0).values
        self._loudest = loudest[-1:]
        self._loud = torch.cat([self._loud, columns.mean(1) > STILL])
        columns = torch.maximum(columns, (loudest[1:] - RANGE)[:, None])
        self._columns = torch.cat([self._columns, (columns + 4) / 4])
        steps = (len(self._columns) - AROUND + 2) // 2
        if steps <= 0:
            return
        self._sounds = torch.cat([self._sounds, self._listener.sounds(self._columns)])
        self._columns = self._columns[2 * steps :]
        self._tells = torch.cat([self._tells, self._loud[: 2 * steps : 2]])
        self._loud = self._loud[2 * steps :]


class Told:
    """Codes by their own levels, in step with the columns of `Hearing`: with step i come those of step i − 5."""

    def __init__(self) -> None:
        self._listening = Listening(bundled_listener())
        self._levels = Levels(np.zeros(CODES), np.ones(CODES), FORGETS, PRIOR, LEAST_VARIANCE)
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
