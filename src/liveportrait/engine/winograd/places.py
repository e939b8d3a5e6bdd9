"""The six places of Winograd's F(4x4, 3x3), and kernels valued there.

The usual places are 0, 1, -1, 2, -2 and infinity. Rounding errors grow by the norms of the three changes of form:
10.8 times on both axes there, but only 4.75 times with 2/3 and 3/2 in the place of 1 and 2, which is next to the best
that two pairs can do.
"""

from __future__ import annotations

import torch
from torch import Tensor

OUT, IN = 4, 6  # side of a tile, of outputs and of inputs

NEAR, FAR = 2 / 3, 3 / 2  # the places, beside 0 and infinity; their product is 1
NEAR2, FAR2 = NEAR**2, FAR**2

# How a kernel's three weights are valued at 0, ±NEAR, ±FAR and infinity.
KERNEL = (
    (1, 0, 0),
    *(tuple(place**power / (2 * NEAR2 * (NEAR2 - FAR2)) for power in range(3)) for place in (NEAR, -NEAR)),
    *(tuple(place**power / (2 * FAR2 * (FAR2 - NEAR2)) for power in range(3)) for place in (FAR, -FAR)),
    (0, 0, 1),
)


def valued(weight: Tensor) -> Tensor:
    """Kernels (O,C,3,3) at 6 by 6 places: (36,C,O), columns before rows as tiles have them."""
    kernel = torch.tensor(KERNEL, dtype=torch.float64, device=weight.device)
    values = torch.einsum("ia,jb,ocab->jico", kernel, kernel, weight.double())
    return values.flatten(0, 1).to(weight.dtype).contiguous()


def valued_in_depth(weight: Tensor) -> Tensor:
    """Kernels (O,C,3,H,W) at 6 places of their depth: (6,O,C,H,W)."""
    kernel = torch.tensor(KERNEL, dtype=torch.float64, device=weight.device)
    return torch.einsum("ia,ocahw->iochw", kernel, weight.double()).to(weight.dtype)
