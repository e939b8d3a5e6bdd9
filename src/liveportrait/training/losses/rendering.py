"""Losses of F, W and G: the rendered picture against the driving frame, and the regions they apply to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait.metrics.images import ssim_map
from liveportrait.networks.geometry import pixel_grid
from liveportrait.networks.interface import Pose
from liveportrait.networks.keypoints import (
    IRISES,
    LEFT_LIDS,
    LOWER_OUTER_LIP,
    MOUTH_CORNERS,
    NOSE_TIP,
    OUTER_LIPS,
    RIGHT_LIDS,
)
from liveportrait.training.config import LossWeights

LUMA = (0.299, 0.587, 0.114)
REGIONS = ("whole", "face", "lips")
FACE_MARGIN, LIPS_MARGIN = 1.15, 1.7  # side of the square over the larger side of the points' box
SHARE = {"face": 0.5, "lips": 0.25}  # side of the cut region over the picture's: roughly its natural size
MIN_HALF_SIDE = 0.1  # of a box, crop half side = 1: coinciding points still cut a region


@dataclass(frozen=True)
class RenderWeights(LossWeights):
    """Weights of the terms, and the extra weight of the eyes, mouth and face in pixel losses."""

    picture: float = 4.0
    warp: float = 1.5
    painting: float = 0.8
    gradient: float = 2.0
    structure: float = 0.5
    texture: float = 0.0
    residual: float = 0.5
    still: float = 0.0
    keep: float = 0.04
    certainty: float = 0.05
    perceptual: float = 0.0
    magnified: float = 0.0
    eyes: float = 10.0
    mouth: float = 7.0
    face: float = 1.0


class Rendered(NamedTuple):
    """The picture (B,3,S,S) and the layers it was blended from, see `Generator.layers`."""

    picture: Tensor
    painting: Tensor
    logits: Tensor


def region_weights(keypoints: Tensor, size: int, weights: RenderWeights) -> Tensor:
    """Weight of each pixel (B,1,S,S): 1, more around the eyes, mouth and face of the driving keypoints (B,21,3)."""
    grid = pixel_grid(size, size, keypoints.device)

    def blob(rows: tuple[int, ...], width: float, height: float) -> Tensor:
        away = grid - keypoints[:, list(rows), :2].mean(1)[:, None, None]
        return (-(away[..., 0] ** 2) / (2 * width**2) - away[..., 1] ** 2 / (2 * height**2)).exp()

    eyes = blob(RIGHT_LIDS, 0.08, 0.05) + blob(LEFT_LIDS, 0.08, 0.05)
    mouth = blob(MOUTH_CORNERS + OUTER_LIPS, 0.14, 0.11)
    face = blob((*IRISES, NOSE_TIP, LOWER_OUTER_LIP), 0.4, 0.5)
    return (1 + weights.eyes * eyes + weights.mouth * mouth + weights.face * face)[:, None]


def pyramid_l1(picture: Tensor, target: Tensor, weight: Tensor, levels: int = 4) -> Tensor:
    """Weighted L1 averaged over `levels` scales, each half the size of the one before."""
    total = picture.new_zeros(())
    for level in range(levels):
        if level:
            picture, target, weight = (F.avg_pool2d(t, 2) for t in (picture, target, weight))
        total = total + ((picture - target).abs() * weight).mean() / weight.mean()
    return total / levels


def gradient_l1(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 between horizontal and vertical differences: edges, regardless of shading."""
    error = picture - target
    across = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
    return (across.mean() + down.mean()) / weight.mean()


def structural_similarity(picture: Tensor, target: Tensor) -> Tensor:
    """Mean SSIM (Wang et al. 2004) of luma in 7x7 windows."""
    luma = picture.new_tensor(LUMA)[None, :, None, None]
    a, b = (picture * luma).sum(1, keepdim=True), (target * luma).sum(1, keepdim=True)
    return ssim_map(a, b, lambda x: F.avg_pool2d(x, 7, 1), peak=1).mean()


def laplacian(picture: Tensor) -> Tensor:
    """4-neighbour Laplacian (B,1,S,S) of the mean channel."""
    kernel = picture.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(picture.mean(1, keepdim=True), kernel, padding=1)


def texture(picture: Tensor, target: Tensor, window: int = 8) -> Tensor:
    """L1 between local means of |Laplacian|: as much fine detail as in the target, anywhere within the window."""
    found, wanted = (F.avg_pool2d(laplacian(p).abs(), window) for p in (picture, target))
    return (found - wanted).abs().mean()


def unneeded_painting(logits: Tensor, warped: Tensor, target: Tensor) -> Tensor:
    """Mean painting where the warped source was already right; L1 alone would settle for a blurry mixture."""
    right = (-12 * (warped - target).abs().mean(1, keepdim=True)).exp().detach()
    return ((1 - logits.sigmoid()) * right).mean()


def overcertainty(logits: Tensor, free: float = 4.0) -> Tensor:
    """Squared excess of mask logits over ±free: a mask that is certain before the painting is good stops learning."""
    return F.relu(logits.abs() - free).square().mean()


def unneeded_motion(flow: Tensor, source: Tensor, target: Tensor, source_pose: Pose, pose: Pose) -> Tensor:
    """Mean length of the displacement where both pictures show the same still background.

    Flow (B,h,w,2) in [-1, 1]. Background lies more than 1.6 scales from either head's centre; it is still where the
    largest difference in a 9x9 window is small. Without this term a wall behind a moving head bends with it.
    """
    height, width = flow.shape[1:3]
    grid = pixel_grid(height, width, flow.device)
    small, wanted = (F.interpolate(p, size=(height, width), mode="area") for p in (source, target))
    gap = F.max_pool2d((small - wanted).abs().mean(1), 9, 1, 4)
    outside = torch.ones_like(gap)
    for face in (source_pose, pose):
        centre = face.keypoints[:, :, :2].mean(1)[:, None, None]
        outside = outside * ((grid - centre).norm(dim=-1) > 1.6 * face.scale[:, :, None])
    weight = ((-20 * gap).exp() * outside).detach()
    return ((flow - grid).norm(dim=-1) * weight).mean() / 0.1


def render_losses(
    rendered: Rendered, warped: dict[str, Tensor], target: Tensor, weight: Tensor
) -> dict[str, Tensor]:
    """The unweighted terms for what G made and what W moved, against the driving frame."""
    picture, painting, logits = rendered
    return {
        "picture": pyramid_l1(picture, target, weight),
        "warp": pyramid_l1(warped["image"], target, weight, levels=3),
        "painting": pyramid_l1(painting, target, weight, levels=3),
        "gradient": gradient_l1(picture, target, weight),
        "structure": 1 - structural_similarity(picture, target),
        "texture": texture(picture.float(), target),
        "residual": warped["residual"].abs().mean() / 0.1,
        "keep": unneeded_painting(logits, warped["image"], target),
        "certainty": overcertainty(logits),
    }


def box_around(points: Tensor, margin: float) -> Tensor:
    """Square boxes (B,3): centre x, centre y and half side, in [-1, 1] coordinates, around points (B,N,≥2)."""
    planar = points[..., :2].detach()
    low, high = planar.amin(1), planar.amax(1)
    half = (high - low).amax(1, keepdim=True) / 2 * margin
    return torch.cat([(low + high) / 2, half.clamp(min=MIN_HALF_SIDE)], 1)


def crop(pictures: Tensor, box: Tensor, side: int) -> Tensor:
    """The boxes (B,3) cut out of pictures (B,C,S,S), resized bilinearly to (B,C,side,side).

    Pixels outside the picture repeat its border. Gradients reach the pictures, not the boxes.
    """
    theta = torch.zeros(len(box), 2, 3, device=box.device)
    theta[:, 0, 0] = theta[:, 1, 1] = box[:, 2]
    theta[:, :, 2] = box[:, :2]
    grid = F.affine_grid(theta, [len(box), pictures.shape[1], side, side], align_corners=False)
    return F.grid_sample(pictures.float(), grid, padding_mode="border", align_corners=False)


def cut_regions(pictures: Tensor, boxes: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entire pictures and each region that has boxes, at its share of their size (a multiple of 16 px)."""
    side = pictures.shape[-1]
    cut = {"whole": pictures}
    for name, box in boxes.items():
        cut[name] = crop(pictures, box, max(32, int(side * SHARE[name]) // 16 * 16))
    return cut


def face_and_lips(face_points: Tensor, lip_points: Tensor) -> dict[str, Tensor]:
    """The boxes of both regions around landmarks (B,N,≥2) of the face and (B,M,≥2) of the lips."""
    return {"face": box_around(face_points, FACE_MARGIN), "lips": box_around(lip_points, LIPS_MARGIN)}
