"""The watermark's payload: 32 bits of data and a 16-bit checksum, which rules out chance readings.

They are sent in a convolutional code of rate 1/3 and memory 6, decoded from soft values by the Viterbi algorithm.
Generators 133, 165 and 171 (octal), with free distance 15: J. Proakis, Digital Communications, table 8.2-2. Six zeros
end a message, so the encoder starts and ends in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]  # zeros and ones
Work = Literal["animated", "edited", "live", "spoken"]

VERSION = 1
WORKS: tuple[Work, ...] = ("animated", "edited", "live", "spoken")  # by number; at most 16
BITS = 48
POLYNOMIAL, START = 0x1021, 0xFFFF  # CRC-16/IBM-3740
MEMORY = 6
GENERATORS = (0o133, 0o165, 0o171)
CODED = (BITS + MEMORY) * len(GENERATORS)


@dataclass(frozen=True)
class Payload:
    """What a result's watermark says about it."""

    work: Work
    source: int = 0  # the first 16 bits of the SHA-256 of the source file; 0 if there was no file
    weights: int = 0  # the first 8 bits of the SHA-256 of the weights' name

    def bits(self) -> Bits:
        """(48,): version (4), work (4), source (16), weights (8), checksum (16), each with its highest bit first."""
        number = int(self.text, 16)
        return np.array([number >> place & 1 for place in range(BITS - 1, -1, -1)], np.uint8)

    @property
    def text(self) -> str:
        """The bits as 12 hexadecimal digits."""
        data = VERSION << 28 | WORKS.index(self.work) << 24 | self.source << 8 | self.weights
        return f"{data << 16 | _checksum(data.to_bytes(4, 'big')):012x}"

    @classmethod
    def from_bits(cls, bits: Bits) -> Payload | None:
        """The payload in 48 bits; None if the checksum, the version or the work is invalid."""
        number = int("".join("1" if bit else "0" for bit in bits), 2)
        data, checksum = number >> 16, number & 0xFFFF
        if data >> 28 != VERSION or _checksum(data.to_bytes(4, "big")) != checksum:
            return None
        work = data >> 24 & 0xF
        return cls(WORKS[work], data >> 8 & 0xFFFF, data & 0xFF) if work < len(WORKS) else None


def _checksum(octets: bytes) -> int:
    value = START
    for octet in octets:
        value ^= octet << 8
        for _ in range(8):
            value = (value << 1 ^ POLYNOMIAL if value & 0x8000 else value << 1) & 0xFFFF
    return value


def encode(bits: Bits) -> Bits:
    """Code bits (162,) of a message (48,)."""
    state, coded = 0, []
    for bit in [*bits.tolist(), *[0] * MEMORY]:
        coded += _outputs(state, bit)
        state = (state << 1 | bit) & (1 << MEMORY) - 1
    return np.array(coded, np.uint8)


def decode(soft: NDArray[np.floating]) -> Bits:
    """The most likely message (48,) for soft values (162,): the more positive a value, the more likely a 1."""
    before, signs = _trellis()
    states = len(before)
    scores = np.full(states, -np.inf)
    scores[0] = 0.0
    choices = []
    for values in soft.reshape(-1, len(GENERATORS)):
        paths = scores[before] + signs @ values  # (states,2): from the two states that lead to each
        choice = paths.argmax(axis=1)
        choices.append(choice)
        scores = paths[np.arange(states), choice]
    state, bits = 0, []
    for choice in reversed(choices):
        bits.append(state & 1)
        state = int(before[state, choice[state]])
    return np.array(bits[::-1][:BITS], np.uint8)


def _outputs(state: int, bit: int) -> list[int]:
    register = state << 1 | bit
    return [(register & generator).bit_count() & 1 for generator in GENERATORS]


@cache
def _trellis() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each state the two possible previous ones (64,2), and the output of each transition as signs (64,2,3)."""
    states = 1 << MEMORY
    before = np.array([[state >> 1, state >> 1 | states >> 1] for state in range(states)])
    outputs = [[_outputs(int(old), state & 1) for old in pair] for state, pair in enumerate(before)]
    return before, 2.0 * np.array(outputs) - 1
