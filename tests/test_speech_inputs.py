"""Unusual sounds and texts are spoken, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from animation_samples import portrait
from speech_samples import LoudVoice, sound_file

from liveportrait import Animator, Portrait, SpeechOptions, UserError
from liveportrait.animation.speaking import voice as voices
from liveportrait.animation.speaking.opening import open_speech_driver
from liveportrait.apps.jobs import SpeakJobOptions
from liveportrait.apps.speak import Speak
from liveportrait.media.sound.speech import SPEECH_RATE
from liveportrait.motion.voice import Voice

NO_SOUND: dict[str, Any] = {
    "whole numbers": np.zeros(1600, np.int32),
    "stereo": np.zeros((1600, 2), np.float32),
    "a number": 0.5,
    "nothing": None,
    "texts": np.array(["la", "la"]),
    "truth": np.ones(1600, bool),
    "waves": np.zeros(1600, np.complex64),
}
HELD: dict[str, Any] = {
    "no samples": np.zeros(0, np.float32),
    "one sample": np.ones(1, np.float32),
    "no numbers": np.full(6400, np.nan, np.float32),
    "endless": np.full(6400, np.inf, np.float64),
    "far too loud": np.full(6400, 1e30, np.float64),
    "halves": np.ones(6400, np.float16),
    "a list": [0.1] * 6400,
    "backwards": np.linspace(-1, 1, 6400, dtype=np.float32)[::-1],
    "big end first": np.linspace(-1, 1, 6400).astype(">f4"),
}


@pytest.fixture(scope="module")
def opened() -> Portrait:
    return Animator.load("compact", threads=1).open(portrait())


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "voice_for", lambda session, options, fps: LoudVoice(fps, options.seed))


@pytest.mark.parametrize("sound", NO_SOUND.values(), ids=NO_SOUND)
def test_values_that_are_not_sound_are_refused(opened: Portrait, loud: None, sound: Any) -> None:
    with pytest.raises(UserError, match="mono samples"):
        open_speech_driver(opened.session(), sound, SpeechOptions())
    with opened.live() as live, live.voice() as voice:
        with pytest.raises(UserError, match="mono samples"):
            voice.feed(sound)
        assert voice.due == 0


def test_unusual_samples_are_accepted(opened: Portrait) -> None:
    with opened.live() as live, live.voice() as voice:
        for sound in HELD.values():
            voice.feed(sound)
        given = [voice.skip() for _ in range(100)]
        assert voice.said == voice.due == sum(map(len, HELD.values()))
        picture, _ = voice.frame()
    heard = np.concatenate(given)
    assert heard.dtype == np.float32 and np.isfinite(heard).all() and np.abs(heard).max() <= 1
    assert picture.shape == portrait().shape


def test_16_bit_samples_come_back_unchanged(opened: Portrait, loud: None) -> None:
    sound = np.arange(-32768, 32768, 8, dtype=np.int16)
    with opened.live() as live, live.voice(SpeechOptions(fps=5)) as voice:
        voice.feed(sound)
        frames = [voice.frame() for _ in range(5)]
    heard = np.concatenate([frame.pcm for frame in frames])
    start = int(np.argmax(heard != 0))
    np.testing.assert_array_equal(heard[start : start + len(sound)], sound)


def test_an_excessive_length_is_refused(opened: Portrait, loud: None) -> None:
    with opened.live() as live, live.voice() as voice:
        with pytest.raises(UserError, match="take frames as fast as sound is fed"):
            for _ in range(11):
                voice.feed(np.zeros(60 * SPEECH_RATE, np.float32))
        assert voice.waiting == 600


@pytest.mark.parametrize("kept", [0, 20, 44, 45, 2000])
def test_a_truncated_file_is_spoken_or_refused(
    opened: Portrait, loud: None, tmp_path: Path, kept: int
) -> None:
    whole = sound_file(tmp_path / "whole.wav", np.ones((3200, 1)) / 2, SPEECH_RATE)
    half = tmp_path / "half.wav"
    half.write_bytes(whole.read_bytes()[:kept])
    try:
        driver = open_speech_driver(opened.session(), half, SpeechOptions())
    except UserError as error:
        assert str(half) in str(error) and kept < 2000
    else:
        assert driver.frames == 2 and sum(map(len, driver.play(opened.session()))) == 2


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    for text in ("", "  \n"):
        speaking = SpeakJobOptions(text=text)
        with pytest.raises(UserError, match="to say"):
            Speak(Path("me.jpg"), tmp_path / "out.mp4", speaking=speaking).run()
    assert not list(tmp_path.iterdir())


def test_a_long_silence_is_motionless_and_uses_no_memory() -> None:
    voice, second = Voice.load().stream(25), np.zeros(SPEECH_RATE, np.float32)
    sizes = []
    for _ in range(60):
        performance = voice.feed(second)
        assert not performance.lips.any()
        sizes.append(sum(value.numel() for value in vars(voice).values() if hasattr(value, "numel")))
    assert max(sizes[30:]) <= max(sizes[:30])
