"""Makes a voice as lively as people are: a regression's answers, those of the least error, are too still."""

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

MOST = 2.5  # that an output is raised by
STRANGERS = 1.15  # strangers are answered more timidly than the people of the training
# Share of the short closures of the training people that V shall find. It knows strangers less well: 0.85 of those of
# people left out of a training were found with it.
CLOSURES = 0.9
WIDEST_ZONE = 0.25  # of how wide lips open (95 % quantile), that counts as closed
FEWEST = 50  # frames of a clip that tells


def heard(voice: Voice, clip: SpeechClip) -> Tensor:
    """What the network says of a clip (T,28), before gain and offset."""
    steps = voice_steps(clip.sound, voice.mean, voice.deviation)
    with torch.no_grad():
        return voice.speech(steps[None], torch.zeros(1, STYLES))[0, ::2][: len(clip.lips)]


def calibrated(voice: Voice, clips: Sequence[SpeechClip]) -> Voice:
    """The voice with gains by which spread and speed of its outputs are those of the clips, in the geometric mean.

    They turn about the mean, so that a gain changes nothing of how far a mouth is open on average. Lips are then
    closed where they are hardly open, see `closing`.
    """
    pairs = [
        (heard(voice, clip), torch.from_numpy(clip.targets)) for clip in clips if len(clip.lips) >= FEWEST
    ]
    ratios, means = [], []
    for found, wanted in pairs:
        spread = wanted.std(0) / found.std(0).clamp(min=1e-4)
        speed = wanted.diff(dim=0).abs().mean(0) / found.diff(dim=0).abs().mean(0).clamp(min=1e-5)
        ratios.append((spread * speed).sqrt())
        means.append(torch.stack([found.mean(0), wanted.mean(0)]))
    gain = (STRANGERS * torch.stack(ratios).median(0).values).clamp(1.0, MOST)
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
    """The opening below which V's lips shall be closed, and by how much the rest is to be faster, to make up for it.

    Of openings found and true, (T,) each: V hesitates where people close their lips. The least one, in steps of 0.01,
    at which `CLOSURES` of the short true closures are found; where there are none, 0.
    """
    zone, found = 0.0, [(lips.clip(0), true) for lips, true in openings]
    before = found
    widest = WIDEST_ZONE * float(np.median([np.quantile(lips, 0.95) for lips, _ in openings]))
    while zone < widest:
        found = [((lips - zone).clip(0), true) for lips, true in openings]
        short = [each for pair in found for each in closures_found(*pair)[1]]
        if not short or np.mean(short) >= CLOSURES:
            break
        zone += 0.01
    slow, fast = (
        float(np.median([np.abs(np.diff(lips)).mean() for lips, _ in each])) for each in (found, before)
    )
    return zone, fast / max(slow, 1e-6)
