"""What keypoints that are landmarks must be asked for, so that the picture shows an opening.

A picture does not show quite what keypoints are asked for: lips that the source holds closed stay together until their
keypoints are some 0.09 mouth widths apart, wide mouths come out a little small, and lids, which their network places,
fall short when half closed and when wide open. Curves are those of the bundled weights, from pictures of 40 held-out
faces (docs/notes/measurements.md, Openings). What is there already is shown as it is: near the source's own opening
nothing is corrected.
"""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.choices import MAX_OPENING

WIDE, WIDEST = (
    0.32,
    0.6,
)  # mouths fall short by that times the square of the opening, up to which it was measured
LAG, PARTED = 0.1, 0.1  # of closed lips, in mouth widths, and the opening by which it has fallen to 1/e
FULL_FROM = 0.035  # change of the opening from which on the lag counts in full
CLOSED, OPEN = 0.005, 0.03  # ratios of the source at which lips lag in full and no longer
# Openings of an eye in the picture, and what its keypoints are asked for. Asked for more, they show no more than 0.5.
EYES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, MAX_OPENING)
EYES_ASKED = (0.0, 0.06, 0.147, 0.182, 0.221, 0.297, 0.425, 0.59, 0.62, MAX_OPENING)
NEAR = 0.1  # change of the opening from which on a correction counts in full


def asked_of_lips(opening: Tensor, own: Tensor, now: Tensor) -> Tensor:
    """The ratio (B,) that lips go to, to show an opening (B,).

    `own` (B or 1,) is the source's, `now` (B,) what the motion has brought about: a mouth that the jaw has opened shows
    all of it, and what lips open alone falls short.
    """
    alone = opening.clamp(max=WIDEST).square() - torch.minimum(now.clamp(0, WIDEST), opening).square()
    return opening + _moved(opening, own) * WIDE * alone.clamp(min=0) + lag_of_lips(opening, own)


def lag_of_lips(opening: Tensor, own: Tensor) -> Tensor:
    """What lips that the source holds closed lack of an opening (B,)."""
    more = ((opening - own) / FULL_FROM).clamp(0, 1)
    closed = ((OPEN - own) / (OPEN - CLOSED)).clamp(0, 1)
    return LAG * (-opening / PARTED).exp() * more * closed


def asked_of_eyes(opening: Tensor, own: Tensor) -> Tensor:
    """The ratios (B,2) that lids go to by their network, to show openings (B,2); `own` (B or 1,2) is the source's."""
    shown, asked = (opening.new_tensor(knots) for knots in (EYES, EYES_ASKED))
    within = opening.clamp(0, MAX_OPENING)
    piece = torch.searchsorted(shown[1:-1].contiguous(), within.contiguous(), right=True)
    share = (within - shown[piece]) / (shown[piece + 1] - shown[piece])
    return opening + _moved(opening, own) * (torch.lerp(asked[piece], asked[piece + 1], share) - within)


def _moved(opening: Tensor, own: Tensor) -> Tensor:
    """How much of a correction counts, by how far the opening is from the source's own."""
    return ((opening - own).abs() / NEAR).clamp(0, 1)
