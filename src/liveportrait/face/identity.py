"""The identity of a face: dlib's face recognition ResNet as a torch module, differentiable for the identity loss.

Weights by Davis King (CC0); see models/README.md. Embeddings keep dlib's scale: closer than 0.6 (Euclidean)
is the same person; 0.30 is usual for two photographs of one person, 0.82 for two people.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("models") / "face_identity.safetensors"
SAME_PERSON = 0.6
CHIP_SIDE = 150
# The landmarks, of the 478, that align a chip, and where they lie in the unit face frame: the outer and inner corner
# of the left eye and of the right eye (the subject's), and the base of the nose.
CHIP_LANDMARKS = (263, 362, 33, 133, 2)
CHIP_LAYOUT = (
    (0.8595675, 0.2134982),
    (0.6460605, 0.2289674),
    (0.1205751, 0.2137274),
    (0.3340851, 0.2290643),
    (0.4901123, 0.6277975),
)
CHIP_PADDING = 0.25
MEAN_RGB = (122.782, 117.001, 104.298)
# Output channels of the residual blocks, and whether each halves the resolution.
BLOCKS = (
    *[(32, False)] * 3,
    (64, True),
    *[(64, False)] * 3,
    (128, True),
    *[(128, False)] * 2,
    (256, True),
    *[(256, False)] * 2,
    (256, True),
)


class FaceIdentity(nn.Module):
    """Embeddings (B,128) of aligned chips (B,3,150,150), RGB in [0, 1]."""

    mean: Tensor

    def __init__(self, weights: Path = WEIGHTS) -> None:
        super().__init__()
        stored = {name: value.float() for name, value in load_file(weights).items()}
        strides = [2] + [stride for _, halves in BLOCKS for stride in (2 if halves else 1, 1)]
        for number, stride in enumerate(strides):
            kernel = stored[f"c{number}.weight"]
            padding = 0 if stride == 2 else kernel.shape[2] // 2
            layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], stride, padding)
            self.add_module(f"c{number}", layer)
        self.fc = nn.Linear(BLOCKS[-1][0], 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)
        self.load_state_dict(stored)
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        convolutions = [self.get_submodule(f"c{number}") for number in range(1 + 2 * len(BLOCKS))]
        x = F.max_pool2d(F.relu(convolutions[0]((chips * 255 - self.mean) / 256)), 3, 2)
        for block, (channels, halves) in enumerate(BLOCKS):
            y = convolutions[2 * block + 2](F.relu(convolutions[2 * block + 1](x)))
            shortcut = F.avg_pool2d(x, 2, 2) if halves else x
            height, width = max(y.shape[2], shortcut.shape[2]), max(y.shape[3], shortcut.shape[3])
            x = F.relu(_padded(y, channels, height, width) + _padded(shortcut, channels, height, width))
        return self.fc(x.mean((2, 3)))

    @torch.no_grad()
    def embedding(self, image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embedding (128,) of the face with landmarks (478,3) px in an RGB picture (H,W,3)."""
        picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        points = torch.from_numpy(landmarks[list(CHIP_LANDMARKS), :2]).float()[None]
        return self(align_chips(picture, points))[0].numpy()


def align_chips(images: Tensor, points: Tensor) -> Tensor:
    """Chips (B,3,150,150) from images (B,3,H,W), aligned by the five CHIP_LANDMARKS, points (B,5,2) px.

    The alignment is the least-squares similarity; it is differentiable with respect to the images.
    """
    layout = (CHIP_PADDING + points.new_tensor(CHIP_LAYOUT)) / (2 * CHIP_PADDING + 1) * CHIP_SIDE
    home, centre = layout.mean(0), points.mean(1, keepdim=True)
    a, b = layout - home, points - centre
    energy = (a**2).sum()
    cosine = (a * b).sum((1, 2)) / energy
    sine = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / energy
    turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], 1)
    axis = torch.arange(CHIP_SIDE, device=images.device, dtype=points.dtype)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, -1, 2)
    where = (grid - home) @ turn.transpose(1, 2) + centre
    size = points.new_tensor([images.shape[3], images.shape[2]])
    where = ((where + 0.5) / size * 2 - 1).view(-1, CHIP_SIDE, CHIP_SIDE, 2)
    zoom = float(torch.hypot(cosine, sine).detach().mean())  # picture px per chip px
    if zoom > 1.5:  # averaged first, or sampling would alias
        images = F.avg_pool2d(images, int(zoom // 1.5) + 1)
    return F.grid_sample(images, where, align_corners=False)


def _padded(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1]))
