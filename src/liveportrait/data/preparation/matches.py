"""Matching samples: those of one person, and duplicates of one recording.

People are clusters of face embeddings. A recording may be given twice, or re-encoded, resized, cropped or cut
differently. So a clip's fingerprint is a sequence of difference hashes (is each cell darker than its neighbour to the
right?) of the face, aligned by eyes and nose so that window and size do not matter: 256 bits each, twelve per second.
Two clips are duplicates if, at some time shift, their sequences agree more closely than any other take of the same
person would. Only samples of one identity are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from liveportrait.face.identity import CHIP_LANDMARKS, CHIP_LAYOUT, CHIP_PADDING
from liveportrait.motion.lifting import MESH_ROWS

BLOCK = 2048  # rows of the distance matrix computed at once
Hashes = NDArray[np.uint8]  # (n,32)

HASHES_PER_SECOND = 12
CELLS = 16
SIDE = 96  # of the aligned face, px
SMOOTHING = 0.4  # standard deviation, in cells
OVERLAP = 0.6  # minimum overlap of two clips, relative to the shorter one
ROWS = tuple(MESH_ROWS.index(row) for row in CHIP_LANDMARKS)


def cluster(embeddings: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Cluster numbers (N,) of embeddings (N,D), in order of first appearance.

    Two clusters are merged while the mean distance between their members is at most `threshold` (average linkage).
    Clusters without any pair of members that close can never merge, so each connected component is clustered
    separately: memory grows with the square of the largest component, not of N.
    """
    points = embeddings.astype(np.float64)
    starts = range(0, len(points), BLOCK)
    near = vstack([csr_array(cdist(points[row : row + BLOCK], points) <= threshold) for row in starts])
    count, component = connected_components(near, directed=False)
    labels = np.zeros(len(points), np.int64)
    for number in range(count):
        rows = np.flatnonzero(component == number)
        if len(rows) > 1:
            own = fcluster(linkage(points[rows], "average"), threshold, "distance")
            labels[rows] = labels.max() + own
        else:
            labels[rows] = labels.max() + 1
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def aligned_face(crop: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The face of a crop (H,W,3) RGB, upright and of fixed size (96,96,3), given its landmarks (111,2) px."""
    layout = (CHIP_PADDING + np.array(CHIP_LAYOUT)) / (2 * CHIP_PADDING + 1) * SIDE
    source, target = (points[:, 0] + 1j * points[:, 1] for points in (landmarks[list(ROWS)], layout))
    centred = source - source.mean()
    turn = (centred.conj() * (target - target.mean())).sum() / (np.abs(centred) ** 2).sum()
    shift = target.mean() - turn * source.mean()
    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return np.asarray(cv2.warpAffine(crop, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def difference_hash(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The difference hash of a picture (H,W,3) RGB: 256 bits as (32,) uint8."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(grey, (0, 0), SMOOTHING * max(grey.shape) / CELLS)
    small = cv2.resize(smooth, (CELLS + 1, CELLS), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1])


def hash_distance(first: Hashes, second: Hashes) -> float:
    """Mean number of bits, of 256, by which two sequences of hashes (n,32) and (m,32) differ at their best shift."""
    bits = _bits_between(_unpacked(first), _unpacked(second))
    n, m = bits.shape
    overlap = max(1, int(np.ceil(OVERLAP * min(n, m))))
    diagonals = (bits.diagonal(shift) for shift in range(overlap - n, m - overlap + 1))
    return min(float(diagonal.mean()) for diagonal in diagonals)


def duplicates(
    hashes: Sequence[Hashes], worth: Sequence[float], groups: Sequence[str], bits: float
) -> dict[int, int]:
    """Samples that repeat others: index of a sample to drop -> index of the sample that is kept.

    `hashes` (n,32) of each sample; of two duplicates the one with the greater `worth` is kept, or the earlier one if
    both are equal. Only samples with equal `groups` are compared. `bits` is the maximum distance of duplicates.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    found: dict[int, int] = {}
    for numbers in members.values():
        kept = _Kept()
        for number in sorted(numbers, key=lambda n: (-worth[n], n)):
            original = kept.find(hashes[number], bits)
            if original is None:
                kept.add(number, hashes[number])
            else:
                found[number] = original
    return found


class _Kept:
    """The samples of a group that are kept. Pictures are compared all at once, since there may be many."""

    def __init__(self) -> None:
        self._clips: list[tuple[int, Hashes]] = []
        self._pictures: list[int] = []
        self._bits = np.zeros((0, 8 * 32), np.float32)

    def add(self, number: int, hashes: Hashes) -> None:
        if len(hashes) > 1:
            self._clips.append((number, hashes))
            return
        if len(self._pictures) == len(self._bits):
            self._bits = np.concatenate([self._bits, np.zeros((max(64, len(self._bits)), 256), np.float32)])
        self._bits[len(self._pictures)] = _unpacked(hashes)[0]
        self._pictures.append(number)

    def find(self, hashes: Hashes, bits: float) -> int | None:
        """A kept sample that these hashes duplicate, clips before pictures; None if there is none."""
        for number, own in self._clips:
            if hash_distance(hashes, own) <= bits:
                return number
        if not self._pictures:
            return None
        gaps = _bits_between(_unpacked(hashes), self._bits[: len(self._pictures)]).min(axis=0)
        return self._pictures[int(gaps.argmin())] if gaps.min() <= bits else None


def _unpacked(hashes: Hashes) -> NDArray[np.float32]:
    return np.unpackbits(hashes, axis=1).astype(np.float32)


def _bits_between(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Number of differing bits (n,m) between rows of zeros and ones."""
    return np.asarray(
        first.sum(axis=1)[:, None] + second.sum(axis=1)[None] - 2 * first @ second.T, np.float32
    )
