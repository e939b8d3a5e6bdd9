"""Makes a voice as lively as people are: a regression's answers, those of the least error, are too still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from liveportrait.data.speech import SpeechClip
from liveportrait.motion.voice.features import heard_steps
from liveportrait.motion.voice.voice import Voice
from liveportrait.networks.voice.speech import OUTPUTS, STYLES

MOST = 2.5  # that an output is raised by
STRANGERS = 1.15  # strangers are answered more timidly than the people of the training
FEWEST = 50  # frames of a clip that tells


def heard(voice: Voice, clip: SpeechClip) -> Tensor:
    """What the network says of a clip (T,28), before gain and offset."""
    steps = heard_steps(clip.sound, voice.mean, voice.deviation)
    with torch.no_grad():
        return voice.speech(steps[None], torch.zeros(1, STYLES))[0, ::2][: len(clip.lips)]


def calibrated(voice: Voice, clips: Sequence[SpeechClip]) -> Voice:
    """The voice with gains by which spread and speed of its outputs are those of the clips, in the geometric mean.

    They turn about the mean, so that a gain changes nothing of how far a mouth is open on average.
    """
    ratios, means = [], []
    for clip in clips:
        if len(clip.lips) < FEWEST:
            continue
        found, wanted = heard(voice, clip), torch.from_numpy(clip.targets)
        spread = wanted.std(0) / found.std(0).clamp(min=1e-4)
        speed = wanted.diff(dim=0).abs().mean(0) / found.diff(dim=0).abs().mean(0).clamp(min=1e-5)
        ratios.append((spread * speed).sqrt())
        means.append(torch.stack([found.mean(0), wanted.mean(0)]))
    gain = (STRANGERS * torch.stack(ratios).median(0).values).clamp(1.0, MOST)
    found_mean, wanted_mean = torch.stack(means).mean(0)
    assert gain.shape == (OUTPUTS,)
    return replace(voice, gain=gain, offset=found_mean - wanted_mean / gain)
