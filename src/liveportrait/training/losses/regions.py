"""Face and lips cut out of pictures, differentiably, where landmarks say they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REGIONS = ("whole", "face", "lips")
FACE_MARGIN, LIPS_MARGIN = 1.15, 1.7  # side of the square over the larger side of the points' box
SHARE = {"face": 0.5, "lips": 0.25}  # side of the cut picture over the picture's: about its natural size
SMALLEST = 0.1  # half side of a box, crop half side = 1: points that fell together still cut something


def box_around(points: Tensor, margin: float) -> Tensor:
    """Square boxes (B,3): centre x, centre y and half side, in [-1, 1] coordinates, around points (B,N,≥2)."""
    planar = points[..., :2].detach()
    low, high = planar.amin(1), planar.amax(1)
    half = (high - low).amax(1, keepdim=True) / 2 * margin
    return torch.cat([(low + high) / 2, half.clamp(min=SMALLEST)], 1)


def crop(pictures: Tensor, box: Tensor, side: int) -> Tensor:
    """The boxes (B,3) cut out of pictures (B,C,S,S) and resized to (B,C,side,side), bilinear.

    Outside the picture its border continues. Gradients reach the pictures, not the boxes.
    """
    theta = torch.zeros(len(box), 2, 3, device=box.device)
    theta[:, 0, 0] = theta[:, 1, 1] = box[:, 2]
    theta[:, :, 2] = box[:, :2]
    grid = F.affine_grid(theta, [len(box), pictures.shape[1], side, side], align_corners=False)
    return F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)


def cut_regions(pictures: Tensor, boxes: dict[str, Tensor]) -> dict[str, Tensor]:
    """The whole pictures and each region that has boxes, at its share of their size (a multiple of 16 px)."""
    side = pictures.shape[-1]
    cut = {"whole": pictures}
    for name, box in boxes.items():
        cut[name] = crop(pictures, box, max(32, int(side * SHARE[name]) // 16 * 16))
    return cut


def face_and_lips(face_points: Tensor, lip_points: Tensor) -> dict[str, Tensor]:
    """The boxes of both regions around landmarks (B,N,≥2) of the face and (B,M,≥2) of the lips."""
    return {"face": box_around(face_points, FACE_MARGIN), "lips": box_around(lip_points, LIPS_MARGIN)}
