"""The watermark's pattern: a square that repeats over the picture, made of waves 6 to 14 px long.

Half of the waves, the pilot, are the same in every picture: they reveal where the square lies, and at which scale. The
others carry the coded payload, one bit in the sign of the real part and another in that of the imaginary part.
Everything is computed from integers, so that any program makes the same square (docs/reference/watermark.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from liveportrait.marking.payload import CODED, Payload, encode
from liveportrait.types import Array

SIDE = 64  # px
# Squared spatial frequencies of the waves, cycles per square: 4.6 to 10.9
MIN_FREQUENCY2, MAX_FREQUENCY2 = 21, 119
_SEED = 0x4C504D31

Waves = NDArray[np.complex128]  # coefficients of the square's Fourier transform


@cache
def places() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertical and horizontal frequencies, in cycles per square, of the waves of pilot (P,2) and payload (81,2).

    These are all frequencies of a half plane within the ring, shuffled; the payload takes the first ones.
    """
    reach = range(-int(MAX_FREQUENCY2**0.5), int(MAX_FREQUENCY2**0.5) + 1)
    ring = [
        (row, column)
        for row in reach
        for column in reach
        if MIN_FREQUENCY2 <= row * row + column * column <= MAX_FREQUENCY2
        and (row > 0 or (row == 0 and column > 0))
    ]
    random = _xorshift32(_SEED)
    for last in range(len(ring) - 1, 0, -1):  # Fisher and Yates
        other = next(random) % (last + 1)
        ring[last], ring[other] = ring[other], ring[last]
    count = CODED // 2
    return np.array(ring[count:]), np.array(ring[:count])


@cache
def pilot() -> Waves:
    """(P,) coefficients of the pilot's waves, each ±1 ± i."""
    random = _xorshift32(_SEED ^ 0xFFFFFFFF)
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


def _xorshift32(seed: int) -> Iterator[int]:
    """An endless sequence of 32-bit random numbers: xorshift32 with shifts 13, 17 and 5 (Marsaglia, 2003)."""
    state = seed
    while True:
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        yield state
