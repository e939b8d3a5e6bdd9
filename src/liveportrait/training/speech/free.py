"""Fits the free part of a voice's motion (`motion.voice.free`) to people who speak, within seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait.data.speech import SpeechClip
from liveportrait.face.canonical import BROW_INNER_UP, BROWS_DOWN, BROWS_OUTER_UP, EYE_BLINK
from liveportrait.motion.lifting import label_turns
from liveportrait.motion.voice.features import MelStream
from liveportrait.motion.voice.free import (
    BLINK_AFTER,
    BLINK_BEFORE,
    BLINK_RATE,
    CHANNELS,
    HAZARD_EDGES,
    LOUDNESS_DELAY,
    ORDER,
    FreeNumbers,
)
from liveportrait.motion.voice.voice import LOUDNESS_COLUMNS, loudness_of
from liveportrait.networks.geometry import euler_degrees
from liveportrait.types import Array

STRIDE = 2  # label frames per step
RIDGE = 1e-2
MAX_INNOVATIONS = 2000
MIN_BOUND = 1e-3
BOUND = 0.995  # quantile of a channel's magnitude that bounds it
SHUT = 0.45  # score above which lids count as closed


def free_channels(clip: SpeechClip) -> NDArray[np.float64]:
    """Head in degrees, gaze and brows (T,8) at 25 frames per second, relative to the clip's median."""
    angles = torch.stack(euler_degrees(torch.from_numpy(label_turns(clip.rotation))), dim=1).double().numpy()
    s = clip.scores.astype(np.float64)
    across = (s[:, 15] + s[:, 14] - s[:, 13] - s[:, 16]) / 2
    up = (s[:, 17] + s[:, 18] - s[:, 11] - s[:, 12]) / 2
    brows = np.stack(
        [s[:, BROW_INNER_UP], s[:, list(BROWS_OUTER_UP)].mean(1), s[:, list(BROWS_DOWN)].mean(1)], axis=1
    )
    channels = np.concatenate([angles, across[:, None], up[:, None], brows], axis=1)
    # A blink pulls the gaze down and moves the brows: interpolate them between its edges.
    closed = s[:, list(EYE_BLINK)].mean(1) > SHUT / 2
    closed = np.convolve(closed, np.ones(5), "same") > 0
    if closed.any() and not closed.all():
        frames = np.arange(len(s))
        for column in range(3, CHANNELS):
            channels[closed, column] = np.interp(frames[closed], frames[~closed], channels[~closed, column])
    return np.asarray(channels - np.median(channels, axis=0))


def loudness(clip: SpeechClip, mean: Array, deviation: Array) -> NDArray[np.float64]:
    """Loudness (n,) of each step, at 12.5 Hz."""
    _, power = MelStream(mean, deviation).feed(clip.sound)
    steps = len(power) // LOUDNESS_COLUMNS
    return np.array(
        [loudness_of(v) for v in power[: steps * LOUDNESS_COLUMNS].view(steps, -1).mean(1).tolist()]
    )


def fit_free(clips: Sequence[SpeechClip], mean: Array, deviation: Array, seed: int = 0) -> FreeNumbers:
    """The autoregressive process of these people's motion: a regression within clips, and its residuals."""
    known, following, all_channels = [], [], []
    for clip in clips:
        channels, loud = free_channels(clip), loudness(clip, mean, deviation)
        all_channels.append(channels)
        for phase in range(STRIDE):
            steps = channels[phase::STRIDE]
            for step in range(ORDER, min(len(steps), len(loud))):
                past = steps[step - ORDER : step][::-1].ravel()
                known.append(np.append(past, loud[max(step - LOUDNESS_DELAY, 0)]))
                following.append(steps[step])
    inputs, outputs = np.array(known), np.array(following)
    scale = inputs.std(0) + 1e-6
    whitened = inputs / scale
    solved = np.linalg.solve(
        whitened.T @ whitened + RIDGE * len(inputs) * np.eye(len(scale)), whitened.T @ outputs
    )
    matrix = (solved / scale[:, None]).T
    innovations = outputs - inputs @ matrix.T
    chosen = np.random.default_rng(seed).choice(
        len(innovations), min(MAX_INNOVATIONS, len(innovations)), replace=False
    )
    picked = innovations[chosen] - innovations.mean(0)
    bounds = np.maximum(np.quantile(np.abs(np.concatenate(all_channels)), BOUND, axis=0), MIN_BOUND)
    hazard, blink = fit_blinks(clips)
    return FreeNumbers(matrix, picked, bounds, hazard, blink)


def fit_blinks(clips: Sequence[SpeechClip]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Blinks per second by time since the last one (6,), and the mean shape of a blink (17,)."""
    events, exposure = np.zeros(len(HAZARD_EDGES) + 1), np.zeros(len(HAZARD_EDGES) + 1)
    shapes, total, seconds = [], 0, 0.0
    for clip in clips:
        closed = clip.scores[:, list(EYE_BLINK)].mean(1)
        closed = np.maximum(closed - np.median(closed), 0)
        found = blinks_of(closed)
        total, seconds = total + len(found), seconds + len(closed) / BLINK_RATE
        for deepest in found:
            if BLINK_BEFORE <= deepest < len(closed) - BLINK_AFTER:
                shape = closed[deepest - BLINK_BEFORE : deepest + BLINK_AFTER + 1]
                shapes.append(shape / max(shape.max(), 1e-6))
        for begin, end in zip(found, [*found, len(closed)][1:], strict=True):
            since = np.arange(1, end - begin + 1) / BLINK_RATE
            rows = np.searchsorted(HAZARD_EDGES, since)
            np.add.at(exposure, rows, 1 / BLINK_RATE)
            if end < len(closed):
                events[rows[-1]] += 1
    usual = total / seconds
    hazard = (events + usual) / (exposure + 1)  # shrunk to the average rate where there are few data
    mean = (
        np.mean(shapes, axis=0)
        if shapes
        else np.exp(-((np.arange(-BLINK_BEFORE, BLINK_AFTER + 1) / 2.0) ** 2))
    )
    edge = min(mean[0], mean[-1])
    shape = np.clip((mean - edge) / (1 - edge), 0, 1)
    shape[[0, -1]] = 0
    return hazard, shape


def blinks_of(closed: NDArray[np.floating]) -> list[int]:
    """The frame at which lids are closed most, for each blink; `closed` (T,) is 0 for open lids."""
    found: list[int] = []
    shut = closed > SHUT
    edges = np.flatnonzero(np.diff(np.concatenate([[0], shut, [0]]).astype(int)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin <= BLINK_RATE * 0.6:  # longer ones are eyes kept closed
            found.append(int(begin + np.argmax(closed[begin:end])))
    return found
