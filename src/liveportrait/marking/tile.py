"""The pattern of the watermark: a square that repeats over the picture, made of waves 6 to 14 px long.

Half of the waves are the same in every picture: they tell where the square lies, and at which scale. The others carry
the coded payload, a bit in the sign of the real part and another in that of the imaginary part. Everything comes from
whole numbers, so that any program makes the same square (docs/reference/watermark.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from liveportrait.marking.code import CODED, encode
from liveportrait.marking.payload import Payload
from liveportrait.types import Array

SIDE = 64  # px
NEAREST, FARTHEST = 21, 119  # squares of the waves' distances from zero, in cycles a square: 4.6 to 10.9
_SEED = 0x4C504D31

Waves = NDArray[np.complex128]  # coefficients of the square's Fourier transform


@cache
def places() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns, in cycles a square, of the waves of the pilot (P,2) and of the payload (81,2).

    All of a half plane within the ring, shuffled; the payload takes the first.
    """
    reach = range(-int(FARTHEST**0.5), int(FARTHEST**0.5) + 1)
    ring = [
        (row, column)
        for row in reach
        for column in reach
        if NEAREST <= row * row + column * column <= FARTHEST and (row > 0 or (row == 0 and column > 0))
    ]
    random = _numbers(_SEED)
    for last in range(len(ring) - 1, 0, -1):  # Fisher and Yates
        other = next(random) % (last + 1)
        ring[last], ring[other] = ring[other], ring[last]
    count = CODED // 2
    return np.array(ring[count:]), np.array(ring[:count])


@cache
def pilot() -> Waves:
    """(P,) the waves that are the same in every picture, each of ±1 ± i."""
    random = _numbers(_SEED ^ 0xFFFFFFFF)
    signs = [2.0 * (next(random) >> 31) - 1 for _ in range(2 * len(places()[0]))]
    return np.array(signs[::2]) + 1j * np.array(signs[1::2])


def square(payload: Payload) -> Array:
    """The square (64,64) of a payload: mean 0, standard deviation 1."""
    bits = 2.0 * encode(payload.bits()) - 1
    spectrum = np.zeros((SIDE, SIDE), np.complex128)
    for where, waves in zip(places(), (pilot(), bits[::2] + 1j * bits[1::2]), strict=True):
        spectrum[where[:, 0], where[:, 1]] = waves
        spectrum[-where[:, 0], -where[:, 1]] = waves.conj()
    waves = np.fft.ifft2(spectrum).real
    return np.asarray(waves / waves.std(), np.float32)


def _numbers(seed: int) -> Iterator[int]:
    """Endless 32-bit numbers: xorshift32 with shifts 13, 17 and 5 (Marsaglia, 2003)."""
    state = seed
    while True:
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        yield state
