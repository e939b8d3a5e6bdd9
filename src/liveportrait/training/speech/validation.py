"""Figures of V on people that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from liveportrait.data.speech import SpeechClip
from liveportrait.metrics.sync import Sync, SyncMeter, closures_found, sync, velocity_ratio
from liveportrait.motion.voice.features import heard_steps
from liveportrait.motion.voice.voice import Voice
from liveportrait.networks.voice.speech import SPEECH_SCORES, STYLES, SpeechNetwork
from liveportrait.networks.voice.sync import SyncScorer
from liveportrait.training.speech.examples import Heard


@torch.no_grad()
def correlation(network: SpeechNetwork, clips: Sequence[Heard]) -> float:
    """Correlation of the predicted openings with the true ones, the median over clips."""
    found = []
    for clip in clips:
        answer = network(clip.steps.float()[None], torch.zeros(1, STYLES))[0, ::2, 0]
        found.append(float(np.corrcoef(answer[: len(clip.wanted)], clip.wanted[: len(answer), 0])[0, 1]))
    return float(np.nanmedian(found))


def sync_figures(scorer: SyncScorer, clips: Sequence[tuple[Tensor, Tensor]]) -> Sync:
    """The sync figures of clips by the scorer in evaluation mode, see `metrics.sync`."""
    return sync(scorer.eval(), clips)


def speech_figures(voice: Voice, clips: Sequence[SpeechClip], meter: SyncMeter) -> dict[str, float]:
    """V against the truth: medians over clips, shares of closures found, and the sync scores of both."""
    correlations, speeds, spreads = [], [], []
    pauses: list[bool] = []
    plosives: list[bool] = []
    real, ours = [], []
    for clip in clips:
        made = voice.speak(clip.sound)
        found, true = made.lips.numpy(), clip.openings.clip(0)
        correlations.append(float(np.corrcoef(found, true)[0, 1]))
        speeds.append(velocity_ratio(found, true))
        spreads.append(float(found.std() / true.std()))
        for every, some in zip((pauses, plosives), closures_found(found, true), strict=True):
            every += some
        steps = heard_steps(clip.sound, voice.mean, voice.deviation)
        answer = torch.cat([made.lips[:, None], made.scores[:, list(SPEECH_SCORES)]], dim=1)
        real.append((steps, torch.from_numpy(clip.targets) / meter.lips))
        ours.append((steps, answer / meter.lips))
    of_real, of_ours = sync_figures(meter.scorer, real), sync_figures(meter.scorer, ours)
    return {
        "correlation": float(np.nanmedian(correlations)),
        "velocity_ratio": float(np.median(speeds)),
        "spread_ratio": float(np.median(spreads)),
        "pauses": float(np.mean(pauses)) if pauses else 1.0,
        "plosives": float(np.mean(plosives)) if plosives else 1.0,
        **{f"real_{name}": value for name, value in of_real._asdict().items()},
        **{f"ours_{name}": value for name, value in of_ours._asdict().items()},
    }
