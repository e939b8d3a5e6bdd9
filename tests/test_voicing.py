"""Voice detection: noise of any colour and level leaves the mouth closed, and a voice in noise opens it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from speech_samples import syllables

from liveportrait.media.sound.speech import SPEECH_RATE
from liveportrait.motion.voice import Voice
from liveportrait.motion.voice.voicing import NOISE, VOICE, Voicing


def noise(seconds: float, slope: float) -> np.ndarray:
    """Noise of mean square 1 whose power falls with frequency: white 0, pink 1, brown 2."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=int(seconds * SPEECH_RATE)))
    frequencies = np.maximum(np.fft.rfftfreq(int(seconds * SPEECH_RATE), 1 / SPEECH_RATE), 20)
    made = np.fft.irfft(spectrum * frequencies ** (-slope / 2))
    return np.asarray(made / made.std(), np.float32)


@pytest.mark.parametrize("slope", [0, 1, 2])
def test_noise_leaves_the_mouth_closed(slope: float) -> None:
    for level in (0.1, 0.01):
        lips = Voice.load().speak(level * noise(4, slope)).lips
        assert lips.mean() < 0.02 and lips.max() < 0.1


def test_a_voice_in_noise_opens_the_mouth() -> None:
    sound = syllables(4)
    loud = sound.std()
    clean, noisy = (
        Voice.load().speak(sound + part * loud * noise(4, 0)).lips[5:95].numpy() for part in (0, 0.3)
    )
    assert clean.max() > 0.1 and noisy.max() > 0.5 * clean.max()
    assert noisy.mean() > 0.5 * clean.mean()  # the time of opening is not checked: a buzz is not a word


def test_noise_after_a_voice_is_noise_again() -> None:
    hiss = 0.02 * noise(6, 0)
    hiss[: 2 * SPEECH_RATE] += syllables(2)
    lips = Voice.load().speak(hiss).lips
    assert lips[5:45].max() > 0.1 and lips[100:].max() < 0.02


def test_a_pitch_is_distinguished_from_noise_at_any_height() -> None:
    times = np.arange(SPEECH_RATE) / SPEECH_RATE
    for pitch in (80, 120, 200, 350):
        buzz = sum(np.cos(2 * np.pi * pitch * part * times) / part for part in range(1, 12))
        assert Voicing().feed(0.1 * np.asarray(buzz, np.float32))[10:].min() > VOICE + 0.2
    assert Voicing().feed(0.1 * noise(1, 0)).mean() < NOISE
    assert not Voicing().feed(np.zeros(SPEECH_RATE, np.float32)).any()


def test_columns_do_not_depend_on_how_a_sound_is_split() -> None:
    sound = syllables(1)
    whole, parts = Voicing(), Voicing()
    found = torch.cat([parts.feed(part) for part in np.array_split(sound, 9)])
    torch.testing.assert_close(found, whole.feed(sound), atol=1e-5, rtol=1e-4)
