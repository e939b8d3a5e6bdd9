"""Reads the watermark from pixels, at any scale and place.

What a picture has of the pattern is faint beside its own content. Content is first levelled: its slow changes are taken
out, and busy places toned down. Then all squares of a part of the picture, and of several pictures, are laid on each
other: the pattern adds up, content does not. The pilot's waves tell scale and place, the others the payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from liveportrait.marking.code import decode
from liveportrait.marking.payload import Payload
from liveportrait.marking.tile import SIDE, Waves, pilot, places
from liveportrait.types import Array, Image

SCALES = (0.45, 1.55)  # sizes, as parts of the original's, at which it is looked for
STEP = 0.004  # from one scale to the next
CERTAIN = 9.0  # standard deviations of the pilot above chance from which on no other scale is looked at
PRESENT = 6.0  # from which on the watermark is there, even if its payload cannot be read; chance reaches 5
WORTH = 5.2  # from which on a payload is looked for, which has a checksum of its own
TRIES = 12  # payloads looked for in one picture, the likeliest first
FINE, CALM, TONED = 3.0, 2.0, 1.75  # px; grey levels; power of the local spread that content is divided by
HIGHEST = 9.0
PART = 4  # squares: side of the parts that are looked at by themselves


class Found(NamedTuple):
    """A pilot: where it is likeliest."""

    sure: float  # standard deviations above chance
    scale: float
    square: Waves  # (64,64) spectrum of the squares laid on each other
    shift: tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """A watermark that was found."""

    payload: Payload | None  # None where too much of it was lost
    scale: float  # size of the picture as part of what it was when it was marked
    sure: float  # standard deviations of the pilot above chance


def read_picture(picture: Image) -> Reading | None:
    """The watermark of a picture (H,W,3) uint8 RGB, or None."""
    return read_levelled(levelled(picture))


def read_pictures(pictures: Sequence[Image]) -> Reading | None:
    """The watermark of pictures of one size that carry it at one place, such as a film's."""
    return read_levelled(np.sum([levelled(picture) for picture in pictures], axis=0))


def read_levelled(level: Array, scales: Iterable[float] | None = None) -> Reading | None:
    """The same for levelled pictures (H,W), or the sum of several; it ends at the first that is beyond doubt."""
    candidates = []
    for found in _pilots(level, scales):
        if found.sure >= CERTAIN and (reading := _read(found)).payload:
            return reading
        if found.sure >= WORTH:
            candidates.append(found)
    likeliest = [_read(found) for found in sorted(candidates, key=lambda found: -found.sure)[:TRIES]]
    whole = next((reading for reading in likeliest if reading.payload), None)
    return whole or next((reading for reading in likeliest if reading.sure >= PRESENT), None)


def _read(found: Found) -> Reading:
    return Reading(Payload.from_bits(decode(_soft(found))), found.scale, found.sure)


def levelled(picture: Image) -> Array:
    """A picture (H,W,3) uint8 as (H,W) without its slow changes, its busy places toned down the more the busier."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), FINE)
    spread = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 1.2 * FINE))
    return np.asarray(np.clip(fine / (spread + CALM) ** TONED, -HIGHEST, HIGHEST), np.float32)


def all_scales() -> list[float]:
    """The scales that are looked at, from the original's own outward."""
    low, high = np.log(SCALES)
    steps = np.arange(round(low / STEP), round(high / STEP) + 1)
    return [float(np.exp(STEP * step)) for step in sorted(steps, key=abs)]


def _pilots(level: Array, scales: Iterable[float] | None) -> Iterator[Found]:
    """The likeliest pilot of each scale, in the whole picture and in its parts."""
    for scale in all_scales() if scales is None else scales:
        sums = _part_sums(level, scale)
        if len(sums):
            yield _likeliest(np.fft.fft2(sums), scale)


def _part_sums(level: Array, scale: float) -> Array:
    """Squares laid on each other (n,64,64): those of the whole picture, and of parts of it that overlap."""
    height, width = (round(side / scale) for side in level.shape)
    across, down = (max(1, -(-side // SIDE)) for side in (width, height))
    if scale != 1:
        kind = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        level = np.asarray(cv2.resize(level, (width, height), interpolation=kind), np.float32)
    whole = np.zeros((down * SIDE, across * SIDE), np.float32)
    whole[:height, :width] = level
    squares = whole.reshape(down, SIDE, across, SIDE).transpose(0, 2, 1, 3)
    sums = [squares.sum(axis=(0, 1))]
    for row in range(0, max(1, down - PART + 1), PART // 2):
        for column in range(0, max(1, across - PART + 1), PART // 2):
            if down > PART or across > PART:
                sums.append(squares[row : row + PART, column : column + PART].sum(axis=(0, 1)))
    return np.stack(sums)


def _likeliest(spectra: Waves, scale: float) -> Found:
    """The best of several squares' spectra (n,64,64): where the pilot's correlation is highest above chance."""
    spectra = spectra / _expected(spectra)
    where = places()[0]
    product = np.zeros_like(spectra)
    product[:, where[:, 0], where[:, 1]] = spectra[:, where[:, 0], where[:, 1]] * pilot().conj()
    correlation = 2 * np.fft.ifft2(product).real
    spread = np.sqrt(np.square(correlation).mean(axis=(1, 2), keepdims=True))
    correlation = correlation / np.maximum(spread, 1e-9)
    best = int(correlation.argmax())
    number, row, column = np.unravel_index(best, correlation.shape)
    return Found(float(correlation.flat[best]), scale, spectra[number], (int(row), int(column)))


def _expected(spectra: Waves) -> Array:
    """The size (n,64,64) that content has at waves of each length: the root mean square over their ring."""
    cycles = np.fft.fftfreq(SIDE, 1 / SIDE)
    ring = np.rint(np.hypot(cycles[:, None], cycles[None])).astype(int)
    power = np.square(np.abs(spectra))
    count = np.bincount(ring.ravel())
    means = np.stack([np.bincount(ring.ravel(), one.ravel()) / count for one in power])
    return np.asarray(np.sqrt(means[:, ring]) + 1e-9, np.float32)


def _soft(found: Found) -> Array:
    """The soft values (162,) of the coded payload."""
    where = places()[1]
    row, column = found.shift
    turned = found.square[where[:, 0], where[:, 1]] * np.exp(
        2j * np.pi * (where[:, 0] * row + where[:, 1] * column) / SIDE
    )
    return np.stack([turned.real, turned.imag], axis=1).ravel().astype(np.float32)
