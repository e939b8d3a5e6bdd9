"""V on complete sounds and on streams."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from speech_samples import syllables

from liveportrait.errors import UserError
from liveportrait.face.canonical import EYE_BLINK
from liveportrait.motion.voice import Voice
from liveportrait.motion.voice.features import (
    CODE_DELAY,
    SOUND_RATE,
    CodeStream,
    bundled_listener,
    voice_steps,
)
from liveportrait.motion.voice.performance import Performance
from liveportrait.networks.voice.speech import BANDS, PAGE
from liveportrait.weights.store import parameter_count

LOOK_AHEAD = 0.2  # s


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice.load()


def pieces(voice: Voice, sound: np.ndarray, sizes: tuple[int, ...], fps: Fraction) -> Performance:
    stream = voice.stream(fps, seed=3)
    parts, begin, turn = [], 0, 0
    while begin < len(sound):
        parts.append(stream.feed(sound[begin : begin + sizes[turn % len(sizes)]]))
        begin += sizes[turn % len(sizes)]
        turn += 1
    parts.append(stream.finish())
    return Performance(*(torch.cat(found) for found in zip(*parts, strict=True)))


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_a_stream_equals_the_whole_sound(voice: Voice, fps: Fraction) -> None:
    sound = syllables(3.3)
    whole = voice.speak(sound, fps, seed=3)
    assert len(whole.lips) == int(np.ceil(3.3 * fps))
    for sizes in ((640,), (1, 5000, 37)):
        for found, wanted in zip(pieces(voice, sound, sizes, fps), whole, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_sound_beyond_the_look_ahead_has_no_effect(voice: Voice) -> None:
    sound = syllables(4)
    changed = sound.copy()
    moment = 2.0
    changed[int(moment * SOUND_RATE) :] = 0.3 * np.random.default_rng(1).normal(size=len(sound) // 2)
    first, second = voice.speak(sound), voice.speak(changed)
    same = int((moment - LOOK_AHEAD) * 25)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one[: same + 1], other[: same + 1], atol=1e-5, rtol=1e-5)
    assert (first.lips - second.lips)[same + 1 :].abs().max() > 0.02


def test_frames_are_available_as_soon_as_the_look_ahead_allows(voice: Voice) -> None:
    stream = voice.stream(25)
    given = len(stream.feed(syllables(1.0)).lips)
    assert given >= (1.0 - LOOK_AHEAD) * 25


def test_the_seed_determines_the_motion(voice: Voice) -> None:
    sound = syllables(3)
    first, again, other = voice.speak(sound, seed=1), voice.speak(sound, seed=1), voice.speak(sound, seed=2)
    assert all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
    assert (first.angles - other.angles).abs().max() > 0.5
    assert torch.equal(first.lips, other.lips)


def test_a_voice_opens_the_mouth_and_silence_closes_it(voice: Voice) -> None:
    sound = np.concatenate([syllables(2), np.zeros(2 * SOUND_RATE, np.float32), syllables(2)])
    lips = voice.speak(sound).lips
    assert lips[5:45].max() > 0.1
    assert lips[60:90].max() == 0
    assert lips[105:145].max() > 0.1


def test_the_free_part_moves_within_bounds_and_blinks(voice: Voice) -> None:
    idle = voice.speak(np.zeros(60 * SOUND_RATE, np.float32), seed=5)
    assert idle.angles.std(0).min() > 0.5
    # Angles are relative to the first pose, and both poses are within the bounds.
    assert (idle.angles.abs().max(0).values <= 2 * torch.from_numpy(voice.free.bounds[:3])).all()
    shut = idle.scores[:, EYE_BLINK[0]] > 0.5
    assert 5 <= int((shut[1:] & ~shut[:-1]).sum()) <= 50
    assert torch.isfinite(idle.scores).all()


def test_the_style_changes_the_lips(voice: Voice) -> None:
    sound = syllables(2)
    wide, calm = (voice.speak(sound, style=style).lips for style in ((2, 2, 2), (-2, -2, -2)))
    assert wide.mean() > calm.mean()
    with pytest.raises(UserError, match="a style is 3 numbers"):
        voice.stream(25, style=(1.0,))


def test_unusual_sounds_give_finite_motion(voice: Voice) -> None:
    for sound in (np.zeros(1, np.float32), np.ones(4000, np.float32), np.zeros(0, np.float32)):
        made = voice.speak(sound)
        assert len(made.lips) == -(-len(sound) * 25 // SOUND_RATE)
        assert all(torch.isfinite(part).all() for part in made)


def test_the_voice_is_small(voice: Voice) -> None:
    networks = parameter_count(voice.speech) + parameter_count(bundled_listener())
    assert networks + voice.free.innovations.size < 3_000_000


def test_the_listener_does_not_depend_on_how_a_sound_is_split() -> None:
    sound = syllables(2 * PAGE / 50 + 1.5)
    whole = voice_steps(sound, np.zeros(BANDS, np.float32), np.ones(BANDS, np.float32))[:, 2 * BANDS :]
    code_stream, begin = CodeStream(), 0
    for size in (1, 399, 7_000, 110_000, *[640] * 40, len(sound)):  # small pieces at the end of a block
        code_stream.feed(sound[begin : begin + size])
        begin += size
    found = code_stream.steps(len(whole))
    assert len(found) >= len(sound) * 50 // SOUND_RATE
    torch.testing.assert_close(found, whole[: len(found)], atol=2e-3, rtol=1e-3)
    assert whole[CODE_DELAY:].std(0).min() > 0.2


def test_silence_does_not_change_the_levels() -> None:
    def codes(before: float) -> torch.Tensor:
        still = int(before * SOUND_RATE)
        code_stream = CodeStream()
        code_stream.feed(np.concatenate([np.zeros(still, np.float32), syllables(3)]))
        return code_stream.steps(10_000)[still * 50 // SOUND_RATE + CODE_DELAY + 10 :]

    soon, late = codes(8.0), codes(40.0)  # whole blocks, so that positions are the same
    torch.testing.assert_close(soon, late, atol=0.02, rtol=0.02)


def test_a_missing_listener_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the listener"):
        bundled_listener(tmp_path / "none.safetensors")


def test_an_invalid_voice_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    save_file({"gain": torch.zeros(3)}, path, metadata={"sizes": "{}"})
    with pytest.raises(UserError, match="does not fit these networks"):
        Voice.load(path)
    with pytest.raises(UserError, match="cannot read the voice"):
        Voice.load(tmp_path / "none.safetensors")
