"""What the watermark says: 32 bits, and 16 of a checksum that tells a reading from chance."""

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
    """What the pixels of a result tell about it."""

    work: Work
    source: int = 0  # the first 16 bits of the SHA-256 of the source file; 0 where there was no file
    weights: int = 0  # the first 8 bits of the SHA-256 of the weights' name

    def bits(self) -> Bits:
        """(48,): version (4), work (4), source (16), weights (8), checksum (16), each from its highest bit."""
        number = int(self.text, 16)
        return np.array([number >> place & 1 for place in range(BITS - 1, -1, -1)], np.uint8)

    @property
    def text(self) -> str:
        """The bits as 12 hexadecimal digits."""
        said = VERSION << 28 | WORKS.index(self.work) << 24 | self.source << 8 | self.weights
        return f"{said << 16 | _checksum(said.to_bytes(4, 'big')):012x}"

    @classmethod
    def from_bits(cls, bits: Bits) -> Payload | None:
        """The payload of 48 bits; None where the checksum, the version or the work is none of ours."""
        number = int("".join("1" if bit else "0" for bit in bits), 2)
        said, checksum = number >> 16, number & 0xFFFF
        if said >> 28 != VERSION or _checksum(said.to_bytes(4, "big")) != checksum:
            return None
        work = said >> 24 & 0xF
        return cls(WORKS[work], said >> 8 & 0xFFFF, said & 0xFF) if work < len(WORKS) else None


def _checksum(octets: bytes) -> int:
    value = START
    for octet in octets:
        value ^= octet << 8
        for _ in range(8):
            value = (value << 1 ^ POLYNOMIAL if value & 0x8000 else value << 1) & 0xFFFF
    return value
