"""Metrics of curves and tracks over time."""

from __future__ import annotations

import numpy as np

from liveportrait.types import Array


def centred_correlation(series: list[tuple[Array, Array]]) -> float:
    """Pearson correlation pooled over pairs of curves, after removing each curve's mean.

    Resting values differ between people; only the movement is compared.
    """
    a = np.concatenate([_centred(first) for first, _ in series])
    b = np.concatenate([_centred(second) for _, second in series])
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _centred(curve: Array) -> Array:
    # The rounding error of a constant curve's mean must not count as movement.
    return curve - curve.mean() if np.ptp(curve) > 0 else np.zeros_like(curve)


def accelerations(tracks: Array) -> Array:
    """Lengths (T − 2,P) of the second differences x[t+1] − 2 x[t] + x[t−1] of tracks (T,P,D), in the tracks' unit."""
    return np.linalg.norm(tracks[2:] - 2 * tracks[1:-1] + tracks[:-2], axis=-1)


def jitter(tracks: Array, unit: float) -> float:
    """Jitter of tracks (T,P,2) px of consecutive frames, in `unit` px; NaN with fewer than three frames.

    This is the mean length of the second difference divided by √(3π): the standard deviation of white noise on each
    coordinate that would give that length, as `motion.JitterMeter` measures it on a stream. Uniform motion gives zero.
    Frames with NaN are skipped.
    """
    lengths = accelerations(tracks)
    lengths = lengths[np.isfinite(lengths)]
    return float(lengths.mean() / np.sqrt(3 * np.pi) / unit) if lengths.size else float("nan")


def without_rigid_motion(tracks: Array) -> Array:
    """Tracks (T,P,2) with every frame aligned to the first by a least-squares similarity (Umeyama 1991)."""
    start = next((frame for frame in tracks if np.isfinite(frame).all()), tracks[0])
    home = start - start.mean(0)
    aligned = np.full_like(tracks, np.nan)
    for number in np.flatnonzero(np.isfinite(tracks).all((1, 2))):
        frame = tracks[number]
        own = frame - frame.mean(0)
        # In the plane a similarity is a complex factor; this is the least-squares one from `own` to `home`.
        a, b = own[:, 0] + 1j * own[:, 1], home[:, 0] + 1j * home[:, 1]
        factor = (np.conj(a) @ b) / max(float((np.abs(a) ** 2).sum()), 1e-9)
        turned = a * factor
        aligned[number] = np.stack([turned.real, turned.imag], -1) + start.mean(0)
    return aligned


def scale_wobble(scales: Array, driver: Array) -> float:
    """Fluctuation of a face's size relative to the driver's: standard deviation of log(s / s_driver), in percent.

    scales (T,); a constant ratio gives 0. NaN with fewer than two valid frames.
    """
    ratio = np.log(scales) - np.log(driver)
    ratio = ratio[np.isfinite(ratio)]
    return float(ratio.std() * 100) if ratio.size > 1 else float("nan")
