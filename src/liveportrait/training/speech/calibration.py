"""Makes V as lively as people are: a regression minimises its error and so predicts too little motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from liveportrait.data.speech import SpeechClip
from liveportrait.metrics.sync import closures_found
from liveportrait.motion.voice.features import voice_steps
from liveportrait.motion.voice.voice import Voice
from liveportrait.networks.voice.speech import OUTPUTS, STYLES
from liveportrait.types import Array

MAX_GAIN = 2.5
STRANGERS_GAIN = 1.15  # V predicts less motion for strangers than for the people it was trained on
# Share of the training people's short closures that V must find. For strangers it is lower: with this value, 0.85 of
# the closures of people left out of a training were found.
CLOSURES = 0.9
MAX_ZONE = 0.25  # of the lips' wide opening (95 % quantile): the largest opening to count as closed
MIN_FRAMES = 50  # of a clip to calibrate on


def predicted(voice: Voice, clip: SpeechClip) -> Tensor:
    """The network's prediction for a clip (T,28), before gain and offset."""
    steps = voice_steps(clip.sound, voice.mean, voice.deviation)
    with torch.no_grad():
        return voice.speech(steps[None], torch.zeros(1, STYLES))[0, ::2][: len(clip.lips)]


def calibrated(voice: Voice, clips: Sequence[SpeechClip]) -> Voice:
    """The voice with gains that match its outputs to the clips, in the geometric mean of spread and speed.

    Gains apply about the mean, so that the mouth's average opening does not change. Lips that are barely open are then
    closed, see `closing`.
    """
    pairs = [
        (predicted(voice, clip), torch.from_numpy(clip.targets))
        for clip in clips
        if len(clip.lips) >= MIN_FRAMES
    ]
    ratios, means = [], []
    for found, wanted in pairs:
        spread = wanted.std(0) / found.std(0).clamp(min=1e-4)
        speed = wanted.diff(dim=0).abs().mean(0) / found.diff(dim=0).abs().mean(0).clamp(min=1e-5)
        ratios.append((spread * speed).sqrt())
        means.append(torch.stack([found.mean(0), wanted.mean(0)]))
    gain = (STRANGERS_GAIN * torch.stack(ratios).median(0).values).clamp(1.0, MAX_GAIN)
    found_mean, wanted_mean = torch.stack(means).mean(0)
    assert gain.shape == (OUTPUTS,)
    offset = found_mean - wanted_mean / gain
    openings = [
        ((gain[0] * (found[:, 0] - offset[0])).numpy(), wanted[:, 0].numpy()) for found, wanted in pairs
    ]
    zone, faster = closing(openings)
    offset[0] += zone / gain[0]
    gain[0] *= faster
    return replace(voice, gain=gain, offset=offset)


def closing(openings: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """The opening below which V's lips count as closed, and the factor that restores the speed lost by that.

    From openings found and true, (T,) each, because V does not quite close lips where people do. The opening is the
    smallest one, in steps of 0.01, at which `CLOSURES` of the short true closures are found; 0 if there are none.
    """
    zone, found = 0.0, [(lips.clip(0), true) for lips, true in openings]
    before = found
    limit = MAX_ZONE * float(np.median([np.quantile(lips, 0.95) for lips, _ in openings]))
    while zone < limit:
        found = [((lips - zone).clip(0), true) for lips, true in openings]
        short = [each for pair in found for each in closures_found(*pair)[1]]
        if not short or np.mean(short) >= CLOSURES:
            break
        zone += 0.01
    slow, fast = (
        float(np.median([np.abs(np.diff(lips)).mean() for lips, _ in each])) for each in (found, before)
    )
    return zone, fast / max(slow, 1e-6)
