"""The window that W's displacement is multiplied by in a pinned pose: the face moves, shoulders and border stay.

The paper's stitching moves keypoints so that shoulders stay. Here the flow is a first-order motion of the whole head,
known in closed form, and shoulders follow it through the rigid pose as much as through keypoints; what keypoints alone
can do about it costs the head a fifth of its motion. So the flow itself is faded out below the chin, away from the
head and towards the crop's border. The neck between is stretched; the face moves as without stitching.
"""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.networks.keypoints import CHIN, FOREHEAD
from liveportrait.networks.sampling import pixel_grid

BORDER = 0.1  # over this much, half sides, everything comes to rest towards the border
SHOULDERS = (0.28, 0.62)  # height in the crop over which what is not face comes to rest
# Distances in face heights (forehead to chin), from the face's middle: where following ends, where rest begins.
FACE = ((0.51, 0.62), (0.55, 0.9), (0.5, 0.75))  # downwards, upwards, sideways
HEAD = ((0.54, 0.9), (0.85, 1.35), (0.65, 1.25))  # with hair and neck


def moving_window(keypoints: Tensor, height: int, width: int) -> Tensor:
    """1 where W's displacement counts in full, 0 where nothing moves, (B,H,W) for driving keypoints (B,21,3)."""
    grid = pixel_grid(height, width, keypoints.device)[None]
    chin, forehead = keypoints[:, CHIN, :2], keypoints[:, FOREHEAD, :2]
    size = (chin - forehead).square().sum(1, keepdim=True).clamp(min=1e-4).sqrt()  # (B,1)
    down = (chin - forehead) / size
    right = torch.stack([-down[:, 1], down[:, 0]], 1)
    away = (grid - ((chin + forehead) / 2)[:, None, None]) / size[:, None, None]
    v = (away * down[:, None, None]).sum(-1)
    u = (away * right[:, None, None]).sum(-1).abs()
    low, high = SHOULDERS
    above_shoulders = _falling((grid[..., 1] - low) / (high - low))
    following = torch.maximum(_region(u, v, FACE), _region(u, v, HEAD) * above_shoulders)
    return following * _falling(1 - (1 - grid.abs().amax(-1)) / BORDER)


def _region(u: Tensor, v: Tensor, reach: tuple[tuple[float, float], ...]) -> Tensor:
    down, up, side = (
        (value - near) / (far - near) for value, (near, far) in zip((v, -v, u), reach, strict=True)
    )
    vertical, sideways = torch.maximum(down, up).clamp(0, 1), side.clamp(0, 1)
    return _falling((vertical.square() + sideways.square()).clamp(min=1e-8).sqrt())


def _falling(t: Tensor) -> Tensor:
    """From 1 at 0 to 0 at 1, smoothly."""
    t = t.clamp(0, 1)
    return 1 - t * t * (3 - 2 * t)
