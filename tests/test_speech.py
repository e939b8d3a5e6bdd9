"""Speaking portraits: from sound to motion, in files and live."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from animation_samples import portrait, source_frames, write_sound, write_video
from skimage.data import chelsea
from speech_samples import LoudVoice, sound_file

from liveportrait import Animator, SourceOptions, UserError
from liveportrait.animation.speaking import voice as voices
from liveportrait.animation.speaking.driver import SpeechDriver
from liveportrait.animation.speaking.opening import open_speech_driver
from liveportrait.animation.speaking.options import SpeakingOptions, SpeakOptions, SpeechOptions
from liveportrait.face.canonical import EYE_BLINK, JAW_OPEN, MOUTH_SMILE
from liveportrait.face.measures import lip_ratio
from liveportrait.media import VideoReader, save_image
from liveportrait.media.sound.speech import (
    SPEECH_RATE,
    SpeechResampler,
    count_speech_samples,
    is_sound,
    read_speech,
)
from liveportrait.motion.voice import Performance, animate_mean_face
from liveportrait.motion.voice.performance import OPEN_EYE
from liveportrait.networks.geometry import euler_degrees


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator.load("compact", threads=1)


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "voice_for", lambda session, options, fps: LoudVoice(fps, options.seed))


def bursts(seconds: float = 1.2, rate: int = SPEECH_RATE) -> np.ndarray:
    """Silence, a tone, silence: a third each."""
    times = np.arange(int(seconds * rate)) / rate
    loud = (times > seconds / 3) & (times < 2 * seconds / 3)
    return (0.15 * np.sin(2 * math.pi * 220 * times) * loud).astype(np.float32)


def opened(animator: Animator, speech: object, **options: object) -> SpeechDriver:
    session = animator.open(portrait()).session()
    return open_speech_driver(session, speech, SpeechOptions(**options))


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (192000, 1), (48000, 8), (44100, 2)])
def test_any_rate_and_number_of_channels_is_accepted(tmp_path: Path, rate: int, channels: int) -> None:
    path = sound_file(tmp_path / "a.wav", np.tile(bursts(1.2, rate)[:, None], (1, channels)), rate)
    heard = np.concatenate(list(read_speech(path)))
    assert abs(len(heard) - 1.2 * SPEECH_RATE) < 0.02 * SPEECH_RATE
    before, loud, after = (float(third.std()) for third in np.array_split(heard, 3))
    assert loud > 0.05 and before < 0.005 and after < 0.01


def test_inputs_without_sound_are_refused_in_one_sentence(tmp_path: Path, animator: Animator) -> None:
    silent = write_video(tmp_path / "silent.mp4", source_frames(3, 3))
    picture = tmp_path / "a.png"
    save_image(picture, portrait())
    text = tmp_path / "a.wav"
    text.write_text("no sound")
    for path, message in ((silent, "has no sound"), (picture, "is a picture"), (text, "cannot be read")):
        with pytest.raises(UserError, match=message):
            opened(animator, path)
    with pytest.raises(UserError, match="mono samples"):
        opened(animator, np.zeros((2, 100), np.float32))


def test_one_sample_is_one_frame_at_rest(animator: Animator, tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", np.ones((1, 1), np.float32), SPEECH_RATE)
    driver = opened(animator, path)
    (batch,) = driver.play(animator.open(portrait()).session())
    assert len(batch) == driver.frames == 1
    assert torch.equal(batch.motion.expression, driver.start(0).motion.expression)


def test_clipped_and_broken_samples_stay_finite(animator: Animator) -> None:
    noise = np.random.default_rng(0).normal(0, 50, SPEECH_RATE // 4).astype(np.float32)
    noise[::7], noise[1::7] = np.nan, np.inf
    driver = opened(animator, noise)
    for batch in driver.play(animator.open(portrait()).session()):
        assert batch.motion.expression.isfinite().all() and batch.ratios.max() <= 0.8


def test_the_mean_face_moves_as_requested(animator: Animator) -> None:
    performance = Performance.at_rest(3)
    performance.scores[1, JAW_OPEN] = 0.6
    performance.scores[2, list(EYE_BLINK)] = 1
    performance.lips[1] = 0.3
    performance.angles[2, 1] = 10
    acted = animate_mean_face(animator.engine, performance)
    assert not acted.motion.expression[0].any()
    assert torch.allclose(acted.ratios[:, 2], torch.tensor([0.0, 0.3, 0.0]))
    assert torch.allclose(acted.ratios[:, 0], torch.tensor([OPEN_EYE, OPEN_EYE, 0.0]))
    assert acted.motion.expression[1, 17, 1] > 0.1  # the chin goes down
    assert float(euler_degrees(acted.motion.rotation)[1][2]) == pytest.approx(10, abs=0.1)


def test_a_mouth_opens_with_the_voice_and_rests_in_silence(animator: Animator) -> None:
    shown = list(animator.open(portrait()).speak(bursts(), SpeakingOptions(fps=10, head="still")))
    assert len(shown) == 12
    ratios = [
        float(lip_ratio(animator.analyzer.detect(frame)[0].landmarks)[0])
        for frame in (shown[0], shown[6], shown[11])
    ]
    assert ratios[1] > 0.15
    assert max(ratios[0], ratios[2]) < 0.02  # she smiles with her teeth in the photo
    smiles = [
        animator.analyzer.blendshapes(animator.analyzer.detect(frame)[0])[MOUTH_SMILE[0]]
        for frame in (portrait(), shown[11])
    ]
    assert 0.2 < smiles[1] < 0.9 * smiles[0]  # part of the smile stays


def test_a_sound_that_starts_loud_opens_the_mouth_gradually(animator: Animator) -> None:
    loud = (0.15 * np.sin(np.arange(SPEECH_RATE // 2) / 12)).astype(np.float32)
    driver = opened(animator, loud, head="still")
    ratios = torch.cat([part.ratios for part in driver.play(animator.open(portrait()).session())])
    lips = ratios[:, 2]
    assert lips[0] == 0 and lips[4:].min() > 0.2
    assert float(lips.diff().abs().max()) < 0.4 * float(lips.max())


def test_options_keep_head_and_lids_still(animator: Animator) -> None:
    speech = np.tile(bursts(), 2)

    def acted(**options: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        driver = opened(animator, speech, **options)
        parts = list(driver.play(animator.open(portrait()).session()))
        angles = torch.cat([euler_degrees(part.motion.rotation)[1] for part in parts])
        ratios = torch.cat([part.ratios for part in parts])
        return angles, ratios[:, 0], ratios[:, 2]

    angles, eyes, lips = acted()
    assert angles.abs().max() > 1 and eyes.min() < 0.05
    angles, eyes, half = acted(head="still", blink=False, strength=0.5)
    assert not angles.any() and eyes.min() > 0.3
    assert torch.allclose(half, lips / 2)


def test_a_template_of_a_sound_gives_the_same_result_as_the_sound(animator: Animator, tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", bursts()[:, None], SPEECH_RATE)
    assert is_sound(path)
    report = animator.template(path, tmp_path / "talk.safetensors", speaking=SpeechOptions(fps=10))
    assert (report.frames, report.fps) == (12, Fraction(10))
    options = SpeakingOptions(fps=10, mark=False)  # the marks name the driver
    with animator.open(portrait()) as opened:
        spoken, driven = (
            opened.speak(path, options),
            opened.drive(tmp_path / "talk.safetensors", options.driving(False)),
        )
        with spoken, driven:
            for _ in range(7):
                one, other = next(spoken), next(driven)
        assert np.abs(one.astype(int) - other).max() <= 2


def test_a_video_speaks_new_words(animator: Animator, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", source_frames(12, 12), write_sound(tmp_path / "own.wav"))
    path = sound_file(tmp_path / "a.wav", bursts(0.4)[:, None], SPEECH_RATE)
    report = animator.speak(film, path, tmp_path / "out.mp4")
    assert report.frames == 12 and report.fps == Fraction(30000, 1001)
    before, after = list(VideoReader(film)), list(VideoReader(tmp_path / "out.mp4"))
    assert count_speech_samples(tmp_path / "out.mp4") > 0.3 * SPEECH_RATE
    head = np.s_[:40]  # above the eyes
    assert np.abs(before[6][head].astype(int) - after[6][head]).mean() < 6
    assert len(after) == 12


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"strength": 3}, {"fps": 0}, {"seed": -1}):
        with pytest.raises(UserError):
            SpeechOptions(**wrong)


def test_animals_and_photos_without_a_face_cannot_speak(animator: Animator) -> None:
    cat = np.pad(chelsea(), ((50, 100), (50, 100), (0, 0)), "edge")
    with animator.open(cat) as opened, pytest.raises(UserError, match="shows an animal: a voice moves"):
        opened.speak(bursts())
    with (
        animator.open(cat) as opened,
        opened.live() as live,
        pytest.raises(UserError, match="shows an animal"),
    ):
        live.voice()
    plain = np.full((256, 256, 3), 128, np.uint8)
    uncut = animator.open(plain, SourceOptions(crop=False))
    with uncut, pytest.raises(UserError, match="no face was found"):
        uncut.speak(bursts())
    with pytest.raises(UserError, match="subject animal"):
        SpeakOptions(subject="animal")


def test_a_live_voice_yields_frames_with_their_sound(animator: Animator) -> None:
    speech = bursts(0.6)
    with animator.open(portrait()).live() as live, live.voice(SpeechOptions(fps=10, head="still")) as voice:
        idle = voice.frame()
        voice.feed(speech[:5000])
        voice.feed(speech[5000:])
        assert voice.waiting == pytest.approx(0.6)
        given = [voice.frame() for _ in range(4)]
        rest = voice.skip()
        voice.interrupt()
        assert voice.waiting == 0 and not voice.skip().any()
    sound = np.concatenate([*(frame.sound for frame in given), rest])
    assert not idle.sound.any() and np.array_equal(sound, speech[: len(sound)])
    opened = [
        float(lip_ratio(animator.analyzer.detect(each.picture)[0].landmarks)[0]) for each in (idle, given[3])
    ]
    assert opened[0] < 0.06 and opened[1] > 0.12
    with pytest.raises(UserError, match="closed"):
        voice.frame()


def _pass(now: list[float], seconds: float) -> None:
    now[0] += seconds


def test_late_frames_are_skipped_but_not_their_sound(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("liveportrait.animation.speaking.live.time.monotonic", lambda: now[0])
    monkeypatch.setattr("liveportrait.animation.speaking.live.time.sleep", partial(_pass, now))
    speech = bursts(0.6)
    with animator.open(portrait()).live() as live, live.voice(SpeechOptions(fps=25)) as voice:
        voice.feed(speech)
        heard = []
        for frame in voice.frames():
            heard.append(frame.sound)
            now[0] += 0.1
            if now[0] > 0.35:
                break
    assert max(map(len, heard)) >= 2 * 640 and sum(map(len, heard)) >= 0.3 * SPEECH_RATE
    assert np.array_equal(np.concatenate(heard), speech[: sum(map(len, heard))])


def test_a_live_voice_consumes_sound_at_its_rate(animator: Animator) -> None:
    speech = np.linspace(0.01, 0.1, 14400, dtype=np.float32)
    with (
        animator.open(portrait()).live() as live,
        live.voice(SpeechOptions(fps=10, head="still"), 24000) as voice,
    ):
        voice.feed(speech)
        assert (voice.said, voice.due, voice.waiting) == (0, len(speech), pytest.approx(0.6))
        late, *given = (voice.skip() for _ in range(3))
        assert voice.said == 2 * 2400 and voice.due == len(speech)
        voice.interrupt()
        assert voice.due == voice.said and not any(voice.skip().any() for _ in range(3))
    assert not late.any() and np.array_equal(np.concatenate(given), speech[:4800])
    with animator.open(portrait()).live() as live, pytest.raises(UserError, match="rate is 4000 Hz"):
        live.voice(rate=4000)


@pytest.mark.parametrize("rate", [8000, 24000, 192000])
def test_a_sound_in_pieces_is_resampled(rate: int) -> None:
    times = np.arange(rate) / rate
    sound = (0.5 * np.sin(2 * math.pi * 300 * times)).astype(np.float32)
    change = SpeechResampler(rate)
    found = np.concatenate([change(part) for part in np.array_split(sound, 77)])
    assert SPEECH_RATE - 64 <= len(found) <= SPEECH_RATE
    wanted = 0.5 * np.sin(2 * math.pi * 300 * np.arange(len(found)) / SPEECH_RATE)
    assert np.abs(found - wanted)[200:].max() < 0.02


def test_skipping_frames_together_equals_skipping_them_one_by_one(animator: Animator) -> None:
    speech, options = bursts(0.6), SpeechOptions(fps=10)
    opened = animator.open(portrait())
    with opened.live() as live, live.voice(options) as one, live.voice(options) as other:
        one.feed(speech)
        other.feed(speech)
        sounds = [one.skip() for _ in range(3)]
        picture, sound = one.frame()
        both = other.frame(left_out=3)
    assert np.array_equal(both.sound, np.concatenate([*sounds, sound])) and both.sound.any()
    assert np.abs(both.picture.astype(int) - picture).max() <= 1


def test_parallel_frames_equal_sequential_ones(animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animator.engine, "threads", 2)
    speech, options = bursts(0.6), SpeechOptions(fps=10)
    opened = animator.open(portrait())
    with opened.live() as live, live.voice(options) as one, live.voice(options) as other:
        one.feed(speech)
        other.feed(speech)
        expected = [one.frame(left_out) for left_out in (2, 0, 1)]
        assert other.at_once == 2 and other.begin(2).result(60).shape == expected[0].picture.shape
        other.begin()
        assert other.said == 0 and other.due == len(speech)
        given = [other.take()]
        other.begin(1)
        given += [other.frame(), other.frame()]  # frames in progress come next
        assert other.said == one.said
        for ours, theirs in zip(given, expected, strict=True):
            assert np.array_equal(ours.sound, theirs.sound)
            assert np.abs(ours.picture.astype(int) - theirs.picture).max() <= 1
        # Interrupted speech is silent, even if its picture is already being rendered.
        other.feed(speech)
        other.begin(4)
        other.interrupt()
        assert not other.take().sound.any() and other.said == other.due == one.said


def test_the_voice_pauses_while_no_frames_are_requested(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("liveportrait.animation.speaking.live.time.monotonic", lambda: now[0])
    monkeypatch.setattr("liveportrait.animation.speaking.live.time.sleep", partial(_pass, now))
    with animator.open(portrait()).live() as live, live.voice(SpeechOptions(fps=10)) as voice:
        frames = voice.frames()
        next(frames)
        now[0] += 30
        voice.feed(bursts(0.6))
        assert len(next(frames).sound) == SPEECH_RATE // 10
