"""Colours of a generated crop brought into line with its surroundings, at the seam and smoothly inwards."""

from __future__ import annotations

import cv2
import numpy as np

from liveportrait.face.crop import to_input
from liveportrait.face.runtime import Image

SIDE = 64  # px at which colours are compared: a correction is smooth
SPREAD = 8.0  # px of 64: how far a difference at the seam reaches
ALIKE = 20.0  # grey levels: where crop and source differ by more, something moved, and nothing is compared


def match_at_seam(generated: Image, source: Image, mask: Image) -> Image:
    """The generated crop (S,S,3) with the source's colours (any size) along the soft edge of a mask (M,M) uint8.

    The difference of the two, weighted by how much a place belongs to the edge and by how alike both are there, is
    spread over the crop by normalised convolution (Knutsson and Westin, 1993).
    """
    size = generated.shape[0]
    ours, theirs = (to_input(image, SIDE).astype(np.float32) for image in (generated, source))
    cover = cv2.GaussianBlur(to_input(mask, SIDE).astype(np.float32) / 255, (0, 0), 2.0)
    difference = theirs - ours
    unlike = np.abs(difference).max(axis=2)
    weight = (4 * cover * (1 - cover) * np.exp(-((unlike / ALIKE) ** 2)))[..., None]
    spread = cv2.GaussianBlur(np.concatenate([weight * difference, weight], axis=2), (0, 0), SPREAD)
    correction = spread[..., :3] / (spread[..., 3:] + 1e-3)
    enlarged = cv2.resize(correction, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.rint(generated + enlarged).clip(0, 255).astype(np.uint8)
