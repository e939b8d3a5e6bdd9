"""The training of V on synthetic people whose lips follow their loudness."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from liveportrait.data.speech import SpeechClip
from liveportrait.metrics.sync import SyncMeter, closures_found, sync, velocity_ratio
from liveportrait.motion.voice import Voice
from liveportrait.networks.voice.speech import BANDS, OUTPUTS, SpeechSizes
from liveportrait.networks.voice.sync import SyncScorer
from liveportrait.training.config import Schedule
from liveportrait.training.speech.calibration import CLOSURES, calibrated, closing, predicted
from liveportrait.training.speech.examples import Examples, of_tract, usual_levels, varied
from liveportrait.training.speech.free import blinks_of, fit_free
from liveportrait.training.speech.run import SpeechConfig, train, train_scorer
from liveportrait.training.speech.validation import speech_figures

FRAMES = 150


def clip(seed: int) -> SpeechClip:
    """Six seconds of a hoarse buzz of varying loudness, lips that open with it, a nod and two blinks."""
    rng = np.random.default_rng(seed)
    knots = rng.uniform(0, 1, 60) * (rng.random(60) < 0.7)
    times = np.arange(FRAMES) / 25
    level = np.interp(times, np.arange(60) / 9, knots)
    moments = np.arange(640 * FRAMES) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 120 * moments)) + 0.3 * rng.normal(size=len(moments))
    sound = np.interp(moments, times, level) * buzz * 0.2
    scores = np.full((FRAMES, 52), 0.1, np.float32)
    scores[:, 25] = 0.5 * level
    for blink in (40, 100):
        scores[blink : blink + 4, [9, 10]] = 0.9
    angle = np.deg2rad(5) * np.sin(times + seed)
    turn = np.tile(np.eye(3, dtype=np.float32), (FRAMES, 1, 1))
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    lips = (0.02 + 0.4 * level).astype(np.float32)
    return SpeechClip(f"c{seed}", f"p{seed}", sound.astype(np.float32), turn, scores, lips)


@pytest.fixture(scope="module")
def people() -> list[SpeechClip]:
    return [clip(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def examples(people: list[SpeechClip]) -> Examples:
    return Examples(people, *usual_levels(people))


def settings(folder: Path, steps: int) -> SpeechConfig:
    return SpeechConfig(
        output=str(folder),
        average_decay=0.9,
        sizes=SpeechSizes(width=16, dilations=(1, 2), dropout=0.1),
        schedule=Schedule(4 * steps, 4, 5e-3, warmup_steps=5),
        scorer=Schedule(4 * steps, 4, 3e-3, warmup_steps=5),
    )


def test_v_learns_and_a_stopped_run_resumes_exactly(
    tmp_path: Path, people: list[SpeechClip], examples: Examples
) -> None:
    levels = usual_levels(people)
    whole = settings(tmp_path / "whole", 60)
    network = train(whole, examples, people[:1], *levels)

    parts = dataclasses.replace(whole, output=str(tmp_path / "parts"))

    class Stopped(Exception):
        pass

    def until(count: int) -> Examples:
        """Examples that stop after `count` batches, as if the run were killed."""
        short = Examples.__new__(Examples)
        short.__dict__.update(examples.__dict__)

        def batches(seed: int, size: int, start: int = 0):
            for number, batch in enumerate(examples.batches(seed, size, start)):
                if number == count:
                    raise Stopped
                yield batch

        short.batches = batches  # type: ignore[method-assign]
        return short

    with pytest.raises(Stopped):
        train(dataclasses.replace(parts, checkpoint_seconds=0), until(20), people[:1], *levels)
    assert (tmp_path / "parts" / "speech.safetensors").exists()
    resumed = train(parts, examples, people[:1], *levels)
    for name, value in network.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name

    free = fit_free(people, *levels)
    voice = calibrated(Voice(network, torch.ones(OUTPUTS), torch.zeros(OUTPUTS), *levels, free), people)
    stranger = clip(9)
    answer = voice.speak(stranger.sound).lips.numpy()
    assert np.corrcoef(answer, stranger.openings)[0, 1] > 0.6
    assert velocity_ratio(predicted(voice, stranger)[:, 0].numpy(), stranger.openings) > 0.2
    path = tmp_path / "voice.safetensors"
    voice.save(path, {"examples": 1})
    again = Voice.load(path).speak(stranger.sound).lips.numpy()
    assert np.abs(answer - again).max() < 0.02  # float16


def test_the_scorer_finds_the_true_offset(
    tmp_path: Path, people: list[SpeechClip], examples: Examples
) -> None:
    levels = usual_levels(people)
    scorer = train_scorer(settings(tmp_path, 100), examples, people[:1], *levels)
    checks = Examples([clip(9)], *levels).clips[0][0]
    steps, lips = checks.steps[:, : 2 * BANDS].float(), checks.wanted / examples.deviation
    true = sync(scorer.eval(), [(steps, lips)])
    late = sync(scorer, [(steps, lips.roll(7, 0))])
    assert true.accuracy > 0.75 and true.margin > 0.05 and abs(true.offset) <= 1
    assert abs(late.offset - 7) <= 1 and late.margin < true.margin
    voice = Voice.load()
    meter = SyncMeter(scorer, *levels, examples.deviation)
    meter.save(tmp_path / "scorer.safetensors")
    figures = speech_figures(voice, [clip(9)], SyncMeter.load(tmp_path / "scorer.safetensors"))
    assert figures["real_accuracy"] > 0.75 and 0 <= figures["pauses"] <= 1


def test_clips_too_short_to_score_do_not_count() -> None:
    assert sync(SyncScorer(), [(torch.zeros(20, 128), torch.zeros(10, 28))]).margin == 0


def test_closures_are_classified_by_their_length() -> None:
    true = np.full(100, 0.3, np.float32)
    true[20:23], true[60:80] = 0, 0
    only_pause = np.full(100, 0.3, np.float32)
    only_pause[60:80] = 0
    assert closures_found(true, true) == ([True], [True])
    assert closures_found(only_pause, true) == ([True], [False])


def test_blinks_are_counted_but_not_closed_eyes(people: list[SpeechClip]) -> None:
    closed = people[0].scores[:, 9]
    assert len(blinks_of(closed)) == 2
    assert blinks_of(np.ones(100)) == []
    free = fit_free(people, *usual_levels(people))
    assert free.blink.max() > 0.9 and free.blink[0] == 0
    assert (free.hazard > 0).all()


def test_barely_open_lips_are_closed() -> None:
    true = np.abs(np.sin(np.arange(200) / 3)).astype(np.float32) * 0.3
    shy = 0.06 + 0.6 * true  # never closed
    zone, faster = closing([(shy, true)])
    assert 0 < zone < 0.08 and faster >= 0.99
    assert np.mean(closures_found((shy - zone).clip(0), true)[1]) >= CLOSURES
    assert closing([(true, true)])[0] == 0
    paused = np.where(np.arange(200) < 150, 0.3, 0).astype(np.float32)  # no short closure: nothing to find
    assert closing([(paused + 0.1, paused)])[0] == 0


def test_codes_are_dropped_for_the_entire_window() -> None:
    codes = varied(torch.ones(60, 256), np.random.default_rng(0))[:, 128:]
    left_out = (codes == 0).all(0)
    assert 0.05 < left_out.float().mean() < 0.3
    assert (codes[:, ~left_out] != 0).all()


def test_another_vocal_tract_shifts_the_bands(examples: Examples) -> None:
    steps = torch.zeros(4, 128)
    steps[:, [20, 84]] = 1  # one band of both columns
    longer, shorter, same = (of_tract(steps, stretch).view(4, 2, 64) for stretch in (0.9, 1.1, 1.0))
    assert torch.equal(same, steps.view(4, 2, 64))
    assert (longer.argmax(-1) < 20).all() and (shorter.argmax(-1) > 20).all()
