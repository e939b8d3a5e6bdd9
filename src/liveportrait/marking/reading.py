"""Reading the watermark from pixels, at any scale and position.

The pattern is faint compared with a picture's content. The picture is normalised first: slow changes are removed, and
busy places attenuated. Then all squares of a part of the picture, and of several pictures, are summed: the pattern adds
up, content does not. The pilot's waves give scale and position, the others the payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from liveportrait.marking.payload import Payload, decode
from liveportrait.marking.tile import SIDE, Waves, pilot, places
from liveportrait.types import Array, Image

SCALES = (0.45, 1.55)  # range of scales to search, relative to the original's size
STEP = 0.004  # natural logarithm of the ratio from one scale to the next
# Scores of the pilot, in standard deviations above chance, from which
CERTAIN_SCORE = 9.0  # no other scale is tried;
PRESENT_SCORE = 6.0  # the watermark is present, even if its payload cannot be read (chance reaches 5);
CANDIDATE_SCORE = 5.2  # the payload is decoded: its checksum guards against chance.
MAX_CANDIDATES = 12  # payloads to decode in one picture, the most likely first
FINE_PX = 3.0  # standard deviation of the Gaussian that removes slow changes
CALM, SPREAD_POWER = 2.0, 1.75  # content is divided by (its local spread + CALM grey levels) to this power
MAX_VALUE = 9.0  # normalised values are clipped to this
PART = 4  # squares: side of the parts that are also read on their own


class Pilot(NamedTuple):
    """The most likely position of the pilot at one scale."""

    score: float  # standard deviations above chance
    scale: float
    spectrum: Waves  # (64,64) of the summed squares
    shift: tuple[int, int]  # row and column, px of the square


@dataclass(frozen=True)
class Reading:
    """A watermark that was found."""

    payload: Payload | None  # None if too much of it was lost
    scale: float  # size of the picture relative to its size when it was marked
    score: float  # of the pilot, in standard deviations above chance


def read_picture(picture: Image) -> Reading | None:
    """The watermark of a picture (H,W,3) uint8 RGB, or None."""
    return read_normalised(normalised(picture))


def read_pictures(pictures: Sequence[Image]) -> Reading | None:
    """The watermark of pictures of one size that carry it at the same position, such as a film's frames."""
    return read_normalised(np.sum([normalised(picture) for picture in pictures], axis=0))


def read_normalised(values: Array, scales: Iterable[float] | None = None) -> Reading | None:
    """The watermark of a normalised picture (H,W), or the sum of several.

    `scales` are tried in order, by default all; the search ends at the first certain reading.
    """
    candidates = []
    for pilot_found in _pilots(values, scales):
        if pilot_found.score >= CERTAIN_SCORE and (reading := _read(pilot_found)).payload:
            return reading
        if pilot_found.score >= CANDIDATE_SCORE:
            candidates.append(pilot_found)
    best = sorted(candidates, key=lambda candidate: -candidate.score)[:MAX_CANDIDATES]
    readings = [_read(candidate) for candidate in best]
    decoded = next((reading for reading in readings if reading.payload), None)
    return decoded or next((reading for reading in readings if reading.score >= PRESENT_SCORE), None)


def _read(found: Pilot) -> Reading:
    return Reading(Payload.from_bits(decode(_soft(found))), found.scale, found.score)


def normalised(picture: Image) -> Array:
    """A picture (H,W,3) uint8 as (H,W) without slow changes, attenuated more the busier a place is."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), FINE_PX)
    spread = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 1.2 * FINE_PX))
    return np.asarray(np.clip(fine / (spread + CALM) ** SPREAD_POWER, -MAX_VALUE, MAX_VALUE), np.float32)


def all_scales() -> list[float]:
    """The scales to try, starting at the original's own and going outward."""
    low, high = np.log(SCALES)
    steps = np.arange(round(low / STEP), round(high / STEP) + 1)
    return [float(np.exp(STEP * step)) for step in sorted(steps, key=abs)]


def _pilots(values: Array, scales: Iterable[float] | None) -> Iterator[Pilot]:
    """The most likely pilot at each scale, in the full picture and in its parts."""
    for scale in all_scales() if scales is None else scales:
        sums = _part_sums(values, scale)
        if len(sums):
            yield _most_likely(np.fft.fft2(sums), scale)


def _part_sums(values: Array, scale: float) -> Array:
    """Sums of squares of the pattern (n,64,64): over the full picture, and over overlapping parts of it."""
    height, width = (round(side / scale) for side in values.shape)
    across, down = (max(1, -(-side // SIDE)) for side in (width, height))
    if scale != 1:
        kind = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        values = np.asarray(cv2.resize(values, (width, height), interpolation=kind), np.float32)
    padded = np.zeros((down * SIDE, across * SIDE), np.float32)
    padded[:height, :width] = values
    squares = padded.reshape(down, SIDE, across, SIDE).transpose(0, 2, 1, 3)
    sums = [squares.sum(axis=(0, 1))]
    for row in range(0, max(1, down - PART + 1), PART // 2):
        for column in range(0, max(1, across - PART + 1), PART // 2):
            if down > PART or across > PART:
                sums.append(squares[row : row + PART, column : column + PART].sum(axis=(0, 1)))
    return np.stack(sums)


def _most_likely(spectra: Waves, scale: float) -> Pilot:
    """The best of several squares' spectra (n,64,64): where correlation with the pilot is highest above chance."""
    spectra = spectra / _expected(spectra)
    where = places()[0]
    product = np.zeros_like(spectra)
    product[:, where[:, 0], where[:, 1]] = spectra[:, where[:, 0], where[:, 1]] * pilot().conj()
    correlation = 2 * np.fft.ifft2(product).real
    spread = np.sqrt(np.square(correlation).mean(axis=(1, 2), keepdims=True))
    correlation = correlation / np.maximum(spread, 1e-9)
    best = int(correlation.argmax())
    number, row, column = np.unravel_index(best, correlation.shape)
    return Pilot(float(correlation.flat[best]), scale, spectra[number], (int(row), int(column)))


def _expected(spectra: Waves) -> Array:
    """The magnitude (n,64,64) of content at each frequency: the root mean square over rings of equal frequency."""
    cycles = np.fft.fftfreq(SIDE, 1 / SIDE)
    ring = np.rint(np.hypot(cycles[:, None], cycles[None])).astype(int)
    power = np.square(np.abs(spectra))
    count = np.bincount(ring.ravel())
    means = np.stack([np.bincount(ring.ravel(), one.ravel()) / count for one in power])
    return np.asarray(np.sqrt(means[:, ring]) + 1e-9, np.float32)


def _soft(found: Pilot) -> Array:
    """The soft values (162,) of the coded payload."""
    where = places()[1]
    row, column = found.shift
    turned = found.spectrum[where[:, 0], where[:, 1]] * np.exp(
        2j * np.pi * (where[:, 0] * row + where[:, 1] * column) / SIDE
    )
    return np.stack([turned.real, turned.imag], axis=1).ravel().astype(np.float32)
