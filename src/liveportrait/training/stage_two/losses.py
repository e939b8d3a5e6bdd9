"""The terms of stage two's losses (paper section 3.3), and the regions in which they count.

The paper masks the difference between the result and the reconstruction with (1 − M). M is read here as the region
that is *meant* to change: head with hair for stitching, the eyes for R_eyes, mouth and chin for R_lip. So shoulders,
background and the crop's border are what is held.
"""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.networks.interface import HALF_SIDE
from liveportrait.networks.sampling import pixel_grid
from liveportrait.training.stage_two.opening_regressor import Place, places

SOFTNESS = 0.08  # of a region's edge, as a share of its radius
BORDER = 0.06  # width of the border that paste-back blends, half sides
UNIT = 0.1  # displacements are told in tenths of a half side


def ellipse(centre: Tensor, radii: Tensor, size: int) -> Tensor:
    """1 inside, 0 outside, soft between: (B,S,S) of centre (B,2) and radii (B,2), crop in [-1, 1]."""
    away = (pixel_grid(size, size, centre.device) - centre[:, None, None]) / radii[:, None, None]
    return ((1 - away.norm(dim=-1)) / SOFTNESS).sigmoid()


def face_mask(landmarks: Tensor, shift: Tensor, size: int) -> Tensor:
    """The face (B,S,S), from forehead to chin, of landmarks (B,111,2) px of 256 moved by `shift` (B,2)."""
    centre, half = _box(landmarks)
    return ellipse(centre + shift, half, size)


def head_mask(landmarks: Tensor, shift: Tensor, size: int) -> Tensor:
    """The head with hair and some neck (B,S,S), where it is and where it goes when moved by `shift` (B,2)."""
    centre, half = _box(landmarks)
    centre = centre - half * half.new_tensor([0.0, 0.35])  # hair above; 0.2 half heights of neck below
    radii = half * half.new_tensor([1.5, 1.55])
    return torch.maximum(ellipse(centre, radii, size), ellipse(centre + shift, radii, size))


def eye_mask(landmarks: Tensor, size: int) -> Tensor:
    """Both eyes with lids (B,S,S), up to the brows."""
    right, left, _ = places(landmarks)
    return torch.maximum(_around(right, 1.25, 1.6, size), _around(left, 1.25, 1.6, size))


def lip_mask(landmarks: Tensor, size: int) -> Tensor:
    """Mouth and chin (B,S,S), as far down as an open jaw reaches."""
    return _around(places(landmarks)[2], 1.2, 1.2, size)


def outside_difference(picture: Tensor, reconstruction: Tensor, mask: Tensor) -> Tensor:
    """‖(I − I_recon) ⊙ (1 − M)‖₁ of pictures (B,3,S,S) and mask (B,S,S), as a mean over the pixels outside."""
    outside = 1 - mask
    return ((picture - reconstruction).abs().mean(1) * outside).sum() / (outside.sum() + 1e-6)


def flow_length(flow: Tensor, weight: Tensor, reference: Tensor | None = None) -> Tensor:
    """Weighted mean length of what W moves (B,h,w,2), from where it lies or from a reference flow.

    A plain shoulder looks the same wherever it is: pixels would give no gradient. weight (B,h,w).
    """
    rest = pixel_grid(flow.shape[1], flow.shape[2], flow.device) if reference is None else reference
    length = (flow - rest).square().sum(-1).add(1e-8).sqrt()
    return (length * weight).sum() / (weight.sum() + 1e-6) / UNIT


def held_region(head: Tensor) -> Tensor:
    """What stitching holds (B,h,w): everything outside the head, and the crop's four borders whatever lies there."""
    border = pixel_grid(head.shape[1], head.shape[2], head.device).abs().amax(-1) > 1 - BORDER
    return torch.maximum(1 - head, border.to(head.dtype)[None])


def _box(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half size (B,2) of the landmarks' bounding box, crop in [-1, 1]."""
    points = landmarks / HALF_SIDE - 1
    low, high = points.amin(1), points.amax(1)
    return (low + high) / 2, (high - low) / 2


def _around(place: Place, wide: float, high: float, size: int) -> Tensor:
    """An ellipse about a patch, its radii those factors of the patch's half sides."""
    away = pixel_grid(size, size, place.centre.device) - place.centre[:, None, None]
    u, v = (
        (away * axis[:, None, None]).sum(-1) / axis.square().sum(1)[:, None, None] / factor
        for axis, factor in ((place.across, wide), (place.down, high))
    )
    return ((1 - (u**2 + v**2).sqrt()) / SOFTNESS).sigmoid()
