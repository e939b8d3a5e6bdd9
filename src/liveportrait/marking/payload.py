"""The watermark's payload: 32 bits of data and a 16-bit checksum, which rules out chance readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]  # zeros and ones
Work = Literal["animated", "edited", "live", "spoken"]

VERSION = 1
WORKS: tuple[Work, ...] = ("animated", "edited", "live", "spoken")  # by number; at most 16
BITS = 48
POLYNOMIAL, START = 0x1021, 0xFFFF  # CRC-16/IBM-3740


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
