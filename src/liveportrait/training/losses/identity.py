"""L_faceid: the rendered face must be recognised as the person driving it (in training, the source's person)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.face.identity import CHIP_LANDMARKS, align_chips
from liveportrait.motion.lifting import KEYPOINTS, MESH_ROWS

CHIP_ROWS = tuple(MESH_ROWS.index(row) for row in CHIP_LANDMARKS)  # of the 111 labelled landmarks
RIDGE = 1e-3


def chip_map(landmarks: NDArray[np.float32]) -> Tensor:
    """Where a recogniser's five alignment points lie among the 21 keypoint landmarks: (5,21), rows sum to 1.

    Least squares on labelled frames, landmarks (N,111,2). Being affine it commutes with every similarity, so it
    holds for augmented pictures of which only the keypoints are known.
    """
    keypoints, chips = landmarks[:, list(KEYPOINTS)], landmarks[:, list(CHIP_ROWS)]
    centre = keypoints.mean(1, keepdims=True)
    unit = np.sqrt(np.square(keypoints - centre).mean())
    x = ((keypoints - centre) / unit).transpose(0, 2, 1).reshape(-1, keypoints.shape[1]).astype(np.float64)
    y = ((chips - centre) / unit).transpose(0, 2, 1).reshape(-1, len(CHIP_ROWS)).astype(np.float64)
    solved = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y).T
    solved += (1 - solved.sum(1, keepdims=True)) / x.shape[1]
    return torch.from_numpy(solved.astype(np.float32))


def identity_distance(network: nn.Module, pictures: Tensor, targets: Tensor, points: Tensor) -> Tensor:
    """Mean Euclidean distance of embeddings of faces in pictures and targets (B,3,S,S); 0.6 is another person.

    points (B,5,2) in [-1, 1], where both have their alignment points; network: aligned chips -> embeddings.
    """
    where = (points + 1) / 2 * pictures.shape[-1] - 0.5
    with torch.no_grad():
        wanted = network(align_chips(targets.float(), where))
    found = network(align_chips(pictures.float(), where))
    return (found - wanted).square().sum(1).add(1e-8).sqrt().mean()
