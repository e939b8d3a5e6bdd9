"""Sounds to speak, and a voice that reacts only to their loudness."""

from __future__ import annotations

import os
import wave
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from liveportrait.face.canonical import EYE_BLINK, JAW_OPEN
from liveportrait.media.sound.speech import SPEECH_RATE, Speech
from liveportrait.motion.voice import Performance


class LoudVoice:
    """Opens the mouth by the sound's loudness, nods a little, and blinks every two seconds."""

    def __init__(self, fps: Fraction = Fraction(25), seed: int = 0) -> None:
        self._fps, self._seed = fps, seed
        self._rest, self._heard, self._given = np.zeros(0, np.float32), 0, 0

    def feed(self, samples: Speech) -> Performance:
        """The frames that are complete so far."""
        self._rest = np.concatenate([self._rest, samples])
        self._heard += len(samples)
        return self._frames(int(self._heard * self._fps / SPEECH_RATE))

    def finish(self) -> Performance:
        """The last, incomplete frame, if there is one."""
        return self._frames(-(-self._heard * self._fps // SPEECH_RATE))

    def _frames(self, end: int) -> Performance:
        count, first = end - self._given, self._given
        edges = [int((first + row) * SPEECH_RATE / self._fps) for row in range(count + 1)]
        done = self._heard - len(self._rest)
        loud = [
            float(np.sqrt(np.mean(np.square(self._rest[a - done : b - done])))) if b > a else 0.0
            for a, b in pairwise(edges)
        ]
        self._rest, self._given = self._rest[max(edges[-1] - done, 0) :], end
        lips = torch.nan_to_num(torch.tensor(loud).reshape(-1) * 3).clamp(0, 0.5)
        times = torch.arange(first, end) / float(self._fps)
        performance = Performance.at_rest(count)
        performance.scores[:, JAW_OPEN] = lips
        for eye in EYE_BLINK:
            performance.scores[:, eye] = ((times % 2 - 1.8).abs() < 0.1).float()
        performance.angles[:, 0] = 3 * torch.sin(3 * times + self._seed)
        performance.angles[:, 1] = 4 * torch.sin(1.7 * times)
        return performance._replace(lips=lips)


def syllables(seconds: float, seed: int = 0) -> np.ndarray:
    """Four syllables per second: a buzz with two formants, switched on and off."""
    times = np.arange(int(seconds * SPEECH_RATE)) / SPEECH_RATE
    buzz = np.sign(np.sin(2 * np.pi * 130 * times)) + 0.05 * np.random.default_rng(seed).normal(
        size=len(times)
    )
    vowel = buzz * (np.sin(2 * np.pi * 700 * times) + 0.6 * np.sin(2 * np.pi * 1200 * times))
    return (0.2 * vowel * np.maximum(np.sin(2 * np.pi * 4 * times), 0) ** 2).astype(np.float32)


def sound_file(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Write samples (N,C) in [-1, 1] as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def reader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace espeak-ng by a program that hums for 0.2 s and writes its input to `folder`/asked."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    hum = 0.3 * np.sin(np.arange(3200) / 12)[:, None]
    sound_file(folder / "hum.wav", hum, SPEECH_RATE)
    program = programs / "espeak-ng"
    # It is called with: --stdin -b 1 -w OUT, and optionally -v VOICE.
    program.write_text(
        f'#!/bin/sh\nout="$5"\necho "$1 $2 $3 $6 $7 $(cat)" > "{folder}/asked"\ncp "{folder}/hum.wav" "$out"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
