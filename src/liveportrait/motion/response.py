"""The openings to request of landmark keypoints so that the picture shows a given opening.

Pictures do not show exactly what the keypoints say: lips that are closed in the source stay together until their
keypoints are about 0.09 mouth widths apart, wide mouths come out slightly too small, and lids, which their network
moves, fall short when half closed and when wide open. The curves are those of the bundled weights, measured on pictures
of 40 held-out faces (docs/notes/measurements.md, Openings). Near the source's own opening nothing is corrected.
"""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import MAX_OPENING

WIDE, WIDEST = 0.32, 0.6  # mouths fall short by WIDE times the square of the opening, measured up to WIDEST
LAG, PARTED = 0.1, 0.1  # lag of closed lips, in mouth widths, and the opening at which it has fallen to 1/e
FULL_FROM = 0.035  # change of the opening from which the lag is fully compensated
CLOSED, OPEN = 0.005, 0.03  # ratios of the source's lips at which the lag is full, and zero
# Openings of an eye in the picture, and those to request of its keypoints. Above 0.5 the picture no longer follows.
EYES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, MAX_OPENING)
EYES_ASKED = (0.0, 0.06, 0.147, 0.182, 0.221, 0.297, 0.425, 0.59, 0.62, MAX_OPENING)
NEAR = 0.1  # change of the opening from which corrections apply in full


def asked_of_lips(opening: Tensor, own: Tensor, now: Tensor) -> Tensor:
    """The ratio (B,) to request of the lips so that they show an opening (B,).

    `own` (B or 1,) is the source's, `now` (B,) that of the motion: an opening by the jaw is shown in full, while the
    part that only the lips open falls short.
    """
    alone = opening.clamp(max=WIDEST).square() - torch.minimum(now.clamp(0, WIDEST), opening).square()
    return opening + _moved(opening, own) * WIDE * alone.clamp(min=0) + lag_of_lips(opening, own)


def lag_of_lips(opening: Tensor, own: Tensor) -> Tensor:
    """The amount by which lips that are closed in the source fall short of an opening (B,)."""
    more = ((opening - own) / FULL_FROM).clamp(0, 1)
    closed = ((OPEN - own) / (OPEN - CLOSED)).clamp(0, 1)
    return LAG * (-opening / PARTED).exp() * more * closed


def asked_of_eyes(opening: Tensor, own: Tensor) -> Tensor:
    """The ratios (B,2) to request of the lids' network so that they show openings (B,2); `own` (B or 1,2): source's."""
    shown, asked = (opening.new_tensor(knots) for knots in (EYES, EYES_ASKED))
    within = opening.clamp(0, MAX_OPENING)
    piece = torch.searchsorted(shown[1:-1].contiguous(), within.contiguous(), right=True)
    share = (within - shown[piece]) / (shown[piece + 1] - shown[piece])
    return opening + _moved(opening, own) * (torch.lerp(asked[piece], asked[piece + 1], share) - within)


def _moved(opening: Tensor, own: Tensor) -> Tensor:
    """Weight of a correction, by how far the opening is from the source's own."""
    return ((opening - own).abs() / NEAR).clamp(0, 1)
