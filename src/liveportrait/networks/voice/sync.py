"""The sync scorer: how well a window of sound and a window of lip motion match."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.networks.voice.speech import BANDS, OUTPUTS

WINDOW = 10  # frames at 25 per second: 0.4 s
SOUND_STEPS = 20  # at 50 per second, in the same time
WIDTH, CODE = 96, 64


class SyncScorer(nn.Module):
    """Two encoders whose codes are similar if sound and lips are from the same moment."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.sound = _encoder(2 * BANDS, SOUND_STEPS // 4, dropout)
        self.lips = _encoder(OUTPUTS, WINDOW // 4, dropout)
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def codes(self, sound: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
        """Unit codes (B,64) and (B',64) of sounds (B,20,128) and of lips (B',10,28).

        Lips are the speech network's outputs, in units of their deviation. The window's mean is subtracted, as the
        average opening of a mouth says nothing about timing.
        """
        moved = lips - lips.mean(1, keepdim=True)
        return (
            F.normalize(self.sound(sound.transpose(1, 2)), dim=1),
            F.normalize(self.lips(moved.transpose(1, 2)), dim=1),
        )

    def forward(self, sound: Tensor, lips: Tensor) -> Tensor:
        """Scores (B,) of pairs, -1 to 1."""
        heard, seen = self.codes(sound, lips)
        return (heard * seen).sum(1)


def _encoder(inputs: int, steps: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout1d(dropout / 2),
        nn.Conv1d(inputs, WIDTH, 3, padding=1),
        nn.SiLU(),
        nn.Conv1d(WIDTH, WIDTH, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Dropout1d(dropout),
        nn.Conv1d(WIDTH, WIDTH, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(WIDTH * steps, CODE),
    )
