"""Metrics that compare pictures. Pictures are RGB uint8 (H,W,3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.types import Array, Image

T = TypeVar("T", NDArray[Any], Tensor)

EXPOSURE_TOLERANCE = 0.06  # of the range of luma


def l1(picture: Image, target: Image) -> float:
    """Mean absolute difference, in [0, 1]."""
    return float(np.abs(picture.astype(np.float32) - target).mean() / 255)


def psnr(picture: Image, target: Image) -> float:
    """Peak signal-to-noise ratio in dB; 100 for equal pictures."""
    error = float(np.square(picture.astype(np.float32) - target).mean())
    return min(100.0, 10 * float(np.log10(255**2 / max(error, 1e-9))))


def ssim(picture: Image, target: Image) -> float:
    """Structural similarity of luma, Gaussian window 11x11 with sigma 1.5 (Wang et al. 2004)."""

    def blur(x: Array) -> Array:
        return cv2.GaussianBlur(x, (11, 11), 1.5)[5:-5, 5:-5]  # type: ignore[return-value]

    return float(ssim_map(luma(picture), luma(target), blur, 255).mean())


def ssim_map(a: T, b: T, window: Callable[[T], T], peak: float) -> T:
    """Structural similarity in each window of grey pictures a and b (Wang et al. 2004, eq. 13).

    `window` computes local means of a picture; `peak` is the range of its values.
    """
    mean_a, mean_b = window(a), window(b)
    var_a, var_b = window(a * a) - mean_a**2, window(b * b) - mean_b**2
    covariance = window(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def sharpness(picture: Image) -> float:
    """Variance of the luma's Laplacian, grey levels squared."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def luma(picture: Image) -> Array:
    """Grey levels (H,W) float32 in [0, 255], Rec. 601 weights."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def is_well_exposed(frames: Image) -> bool:
    """Whether a clip's first frame is as bright as the clip: |mean luma − the frames' median| ≤ 0.06 of the range.

    frames (T,H,W,3). A clip that fades in starts with a frame that no method can animate well.
    """
    levels = [float(luma(frame).mean()) / 255 for frame in frames]
    return abs(levels[0] - float(np.median(levels))) <= EXPOSURE_TOLERANCE
