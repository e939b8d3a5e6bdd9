"""Measures of pictures and faces. Pictures are RGB uint8 (H,W,3); landmarks are (478,3) px of the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Array = NDArray[np.float32]

MESH_POINTS = 468  # without the irises, which jitter more than anything else
EYE_CORNERS = (33, 263)


def l1(picture: Picture, target: Picture) -> float:
    """Mean absolute difference, in [0, 1]."""
    return float(np.abs(picture.astype(np.float32) - target).mean() / 255)


def psnr(picture: Picture, target: Picture) -> float:
    """Peak signal-to-noise ratio in dB; 100 for equal pictures."""
    error = float(np.square(picture.astype(np.float32) - target).mean())
    return min(100.0, 10 * float(np.log10(255**2 / max(error, 1e-9))))


def ssim(picture: Picture, target: Picture) -> float:
    """Structural similarity of luma, Gaussian window 11x11 with sigma 1.5 (Wang et al. 2004)."""
    a, b = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (picture, target))

    def blur(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5]  # type: ignore[return-value]

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def sharpness(picture: Picture) -> float:
    """Variance of the luma's Laplacian, grey levels squared."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def landmark_distance(landmarks: Array, target: Array) -> float:
    """Mean distance of the 468 mesh points in the picture plane, in units of the target's eye-corner distance."""
    right, left = EYE_CORNERS
    unit = np.linalg.norm(target[right, :2] - target[left, :2])
    gap = np.linalg.norm(landmarks[:MESH_POINTS, :2] - target[:MESH_POINTS, :2], axis=1)
    return float(gap.mean() / unit)


def rotation_distance(a: Array, b: Array) -> float:
    """Angle between two rotations (3,3), degrees."""
    cosine = (float(np.sum(a * b)) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def centred_correlation(series: list[tuple[Array, Array]]) -> float:
    """Pearson correlation of pairs of curves, each curve's own mean removed, pooled over all pairs.

    What a person's face measures at rest differs between people; only the movement is compared.
    """
    a = np.concatenate([first - first.mean() for first, _ in series])
    b = np.concatenate([second - second.mean() for _, second in series])
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0
