"""The Fréchet distance of two sets of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frechet_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Squared Fréchet distance of the Gaussians fitted to features (N,D) and (M,D); NaN with fewer than two rows.

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) (Heusel et al. 2017, eq. 6). With Σ = AᵀA of the centred features,
    tr (Σ_a Σ_b)^½ is the sum of the singular values of A Bᵀ: exact also with fewer rows than dimensions.
    It grows as the sets shrink; compare only equal N and M.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    mean_a, mean_b = a.mean(0, dtype=np.float64), b.mean(0, dtype=np.float64)
    root_a, root_b = _root(a - mean_a), _root(b - mean_b)
    spread = float((root_a**2).sum() + (root_b**2).sum())
    overlap = float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum())
    return max(float(((mean_a - mean_b) ** 2).sum()) + spread - 2 * overlap, 0.0)


def _root(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """A with AᵀA the covariance of centred features, and no more rows than dimensions."""
    root = centred / np.sqrt(len(centred) - 1)
    return np.asarray(np.linalg.qr(root, mode="r")) if len(root) > root.shape[1] else root
