"""Which clips show one person: average-linkage clustering of face embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

ROWS = 2048  # of the distance matrix that are looked at together


def cluster(embeddings: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Cluster numbers (N,) of embeddings (N,D), in order of first appearance.

    Two clusters are merged while the mean distance between their members is at most `threshold` (average linkage).
    Clusters that no pair of members closer than that connects can never merge, so each connected component is
    clustered by itself: memory grows with the square of the largest component, not of N.
    """
    labels = np.full(len(embeddings), -1, np.int64)
    count = 0
    for component in _components(embeddings.astype(np.float64), threshold):
        for members in _average_linkage(embeddings[component].astype(np.float64), threshold):
            labels[component[members]] = count
            count += 1
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def distances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances (n,m) of (n,D) and (m,D)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.sqrt(squares.clip(0))


def _components(points: NDArray[np.float64], threshold: float) -> Iterator[NDArray[np.int64]]:
    """Connected components of the graph that joins points at most `threshold` apart."""
    parent = np.arange(len(points))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = int(parent[node])
        return node

    for start in range(0, len(points), ROWS):
        near = distances(points[start : start + ROWS], points) <= threshold
        for row, column in np.argwhere(near):
            a, b = root(start + int(row)), root(int(column))
            if a != b:
                parent[max(a, b)] = min(a, b)
    roots = np.array([root(node) for node in range(len(points))])
    for value in np.unique(roots):
        yield np.flatnonzero(roots == value)


def _average_linkage(points: NDArray[np.float64], threshold: float) -> list[list[int]]:
    """Members of each cluster, by chains of nearest neighbours: n² time and memory.

    Average linkage is reducible: a pair of mutual nearest neighbours is merged sooner or later whatever else is
    merged first, so the order of merging does not matter (Müllner, arXiv 1109.2378, section 3.2).
    """
    gaps = distances(points, points)
    np.fill_diagonal(gaps, np.inf)
    members: dict[int, list[int]] = {k: [k] for k in range(len(points))}
    done: list[list[int]] = []
    chain: list[int] = []
    while members:
        if not chain:
            chain = [min(members)]
        tip = chain[-1]
        nearest = int(gaps[tip].argmin())
        if len(chain) > 1 and gaps[tip, chain[-2]] <= gaps[tip, nearest]:
            nearest = chain[-2]
        gap = gaps[tip, nearest]
        if gap > threshold:
            # Nothing that is merged elsewhere can come nearer to it: reducibility again.
            done.append(members.pop(tip))
            gaps[tip] = gaps[:, tip] = np.inf
            chain.pop()
        elif len(chain) > 1 and nearest == chain[-2]:
            keep, gone = min(tip, nearest), max(tip, nearest)
            n, m = len(members[keep]), len(members[gone])
            gaps[keep] = gaps[:, keep] = (n * gaps[keep] + m * gaps[gone]) / (n + m)
            gaps[keep, keep] = np.inf
            gaps[gone] = gaps[:, gone] = np.inf
            members[keep] += members.pop(gone)
            chain = chain[:-2]
        else:
            chain.append(nearest)
    return done
