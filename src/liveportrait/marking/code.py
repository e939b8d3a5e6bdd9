"""A convolutional code of rate 1/3 and memory 6, decoded from soft values by the Viterbi algorithm.

Generators 133, 165 and 171 (octal), with free distance 15: J. Proakis, Digital Communications, table 8.2-2. Six zeros
end a message, so the encoder starts and ends in the same state.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from liveportrait.marking.payload import BITS, Bits

MEMORY = 6
GENERATORS = (0o133, 0o165, 0o171)
CODED = (BITS + MEMORY) * len(GENERATORS)


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
