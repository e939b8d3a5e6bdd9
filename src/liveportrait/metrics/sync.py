"""Do lips follow a voice? Measures of two curves, and of the sync scorer's scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from liveportrait.networks.voice.sync import SOUND_STEPS, WINDOW, SyncScorer
from liveportrait.types import Array

SHIFT = 5  # frames: 0.2 s
FARTHEST = 15  # frames to each side that a clip's offset is looked for in
CLOSED = 0.25  # share of a clip's usual widest opening (95 % quantile) below which lips count as closed
NEAR = 2  # frames by which a closure may come early or late
LONG = 8  # frames: a closure so long is a pause, a shorter one a plosive or the like


class Sync(NamedTuple):
    """What the scorer says of clips."""

    told: float  # share of windows where the true moment scores higher than one 0.2 s off
    margin: float  # mean of how much higher
    offset: float  # frames, median over clips: where the mean score is highest
    within: float  # share of clips whose offset is one frame or none


def sync(scorer: SyncScorer, clips: Iterable[tuple[Tensor, Tensor]]) -> Sync:
    """Of clips as steps (2 T,128) and lips (T,28) in units of their deviation. Short clips do not count."""
    told, margins, offsets = [], [], []
    for steps, lips in clips:
        begins = range(FARTHEST, min(len(lips), len(steps) // 2) - WINDOW - FARTHEST, 2)
        if len(begins) < 2:
            continue
        with torch.no_grad():
            sounds = torch.stack([steps[2 * begin : 2 * begin + SOUND_STEPS] for begin in begins])
            windows = lips.unfold(0, WINDOW, 1).transpose(1, 2)
            heard, seen = scorer.codes(sounds, windows)
        rows = torch.tensor(begins)
        scores = {shift: (heard * seen[rows + shift]).sum(1) for shift in range(-FARTHEST, FARTHEST + 1)}
        for shift in (-SHIFT, SHIFT):
            margins.append(scores[0] - scores[shift])
        offsets.append(max(scores, key=lambda shift: float(scores[shift].mean())))
    told = [(margin > 0).float() for margin in margins]
    if not offsets:
        return Sync(0.0, 0.0, 0.0, 0.0)
    within = float(np.mean(np.abs(offsets) <= 1))
    return Sync(
        float(torch.cat(told).mean()), float(torch.cat(margins).mean()), float(np.median(offsets)), within
    )


def velocity_ratio(found: Array, true: Array) -> float:
    """Mean speed of a curve (T,) over the true one's."""
    return float(np.abs(np.diff(found)).mean() / max(np.abs(np.diff(true)).mean(), 1e-6))


def closures_found(found: Array, true: Array) -> tuple[list[bool], list[bool]]:
    """For each time that true lips (T,) close: whether the found ones do, within two frames.

    First the closures of pauses, then the short ones, those of plosives. Lips that are open at most a quarter of the
    clip's 95 % quantile are closed.
    """
    limit, found_limit = (CLOSED * max(float(np.quantile(curve, 0.95)), 1e-3) for curve in (true, found))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], true <= limit, [0]]).astype(int)))
    pauses: list[bool] = []
    plosives: list[bool] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        is_found = bool((found[max(begin - NEAR, 0) : end + NEAR] <= found_limit).any())
        (pauses if end - begin >= LONG else plosives).append(is_found)
    return pauses, plosives
