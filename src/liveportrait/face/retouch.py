"""Retouching of a generated crop before it is pasted: colours brought into line with the source, detail given back."""

from __future__ import annotations

import cv2
import numpy as np

from liveportrait.face.crop import to_input
from liveportrait.types import Image

# Colours at the seam.
SIDE = 64  # px at which they are compared: a correction is smooth
SPREAD = 8.0  # px of 64: how far a difference at the seam reaches
COLOUR_ALIKE = 20.0  # grey levels: crop and source that differ by more show something that moved

# Detail.
BROAD = 3.0  # px of the generated picture: structures coarser than this are the generated ones
DETAIL_ALIKE = 9.0  # grey levels by which the two may differ, broadly, where they show the same thing
FINE = 1.2  # px: and so may what is left of their structures at this blur, which the model still draws
STRAIN = 0.35  # change of the flow from one px to the next at which it is not believed: a fold or a tear
LARGEST = 1024  # px: no crop is worked on at a higher resolution


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
    weight = (4 * cover * (1 - cover) * np.exp(-((unlike / COLOUR_ALIKE) ** 2)))[..., None]
    spread = cv2.GaussianBlur(np.concatenate([weight * difference, weight], axis=2), (0, 0), SPREAD)
    correction = spread[..., :3] / (spread[..., 3:] + 1e-3)
    enlarged = cv2.resize(correction, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.rint(generated + enlarged).clip(0, 255).astype(np.uint8)


def with_detail(generated: Image, source: Image, crop: Image) -> Image:
    """The generated picture (S,S,3) with detail at the size (C,C,3) of `crop`, the source's crop from its frame.

    `source` (any size) is that crop as the networks saw it. The way from one to the other is dense optical flow
    (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", 2016).
    """
    size, full = generated.shape[0], crop.shape[0]
    flow = _flow(generated, to_input(source, size))
    carried = _along(crop, flow, full)
    small = to_input(carried, size).astype(np.float32)
    ours = generated.astype(np.float32)
    broad, broad_carried = (cv2.GaussianBlur(image, (0, 0), BROAD) for image in (ours, small))
    fine, fine_carried = (cv2.GaussianBlur(image, (0, 0), FINE) for image in (ours, small))
    unlike = np.maximum(np.abs(broad - broad_carried), np.abs(fine - fine_carried)).max(axis=2) / DETAIL_ALIKE
    doubt = unlike**2 + (_strain(flow) / STRAIN) ** 2
    share = cv2.GaussianBlur(np.exp(-doubt), (0, 0), BROAD / 2)[..., None]
    # share · (carried + broad − broad_carried) + (1 − share) · generated, the part without detail enlarged.
    base = share * (broad - broad_carried) + (1 - share) * ours
    both = np.concatenate([base, share], axis=2)
    both = cv2.resize(both, (full, full), interpolation=cv2.INTER_LINEAR) if full != size else both
    return np.rint(both[..., :3] + both[..., 3:] * carried).clip(0, 255).astype(np.uint8)


def _flow(generated: Image, source: Image) -> np.ndarray:
    """(S,S,2) px: generated(p) shows what source(p + flow(p)) shows."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (generated, source)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32)))


def _strain(flow: np.ndarray) -> np.ndarray:
    """(S,S) how fast the flow changes around each px, px a px."""
    changes = [cv2.Sobel(flow, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1))]
    return np.sqrt(sum((change**2).sum(axis=2) for change in changes))


def _along(crop: Image, flow: np.ndarray, full: int) -> Image:
    """The crop (C,C,3) moved by a flow (S,S,2), px of its own size."""
    ratio = full / flow.shape[0]
    enlarged = cv2.resize(flow, (full, full), interpolation=cv2.INTER_LINEAR) * np.float32(ratio)
    x, y = np.meshgrid(*2 * [np.arange(full, dtype=np.float32)])
    moved = cv2.remap(
        crop, x + enlarged[..., 0], y + enlarged[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)
