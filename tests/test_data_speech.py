"""Sound with labels: kept if the lips follow it, and shifted to match them."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_samples import make_video
from prepare_samples import QUICK, talking

from liveportrait.data.preparation.parts import add_member, npz
from liveportrait.data.preparation.run import prepare
from liveportrait.data.preparation.sound import aligned_sounds, read_spans
from liveportrait.data.speech import LIP_ROWS, read_clips, without_lag
from liveportrait.motion.voice import Voice

LATE = 0.12  # s


@dataclass
class Spoken:
    """A clip of a film at this stage of the preparation."""

    start: int
    frames: int
    labels: dict[str, np.ndarray]


def speech(seconds: float, seed: int) -> np.ndarray:
    """About four syllables per second, each a buzz through two formants of its own."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * 16000)) / 16000
    sound = np.zeros_like(times)
    begin = 0.0
    while begin < seconds:
        length, gap = rng.uniform(0.12, 0.3), rng.uniform(0.02, 0.25)
        first, second = rng.uniform(300, 900), rng.uniform(1000, 2300)
        inside = np.clip((times - begin) / length, 0, 1)
        vowel = np.sin(2 * np.pi * first * times) + 0.6 * np.sin(2 * np.pi * second * times)
        sound += np.sign(np.sin(2 * np.pi * 120 * times)) * vowel * np.sin(np.pi * inside) ** 2
        begin += length + gap
    return (0.2 * sound).astype(np.float32)


def labels_of(sound: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of a face that speaks a sound as V would animate it."""
    said = Voice.load().speak(sound)
    count = len(said.lips)
    points = np.full((count, 111, 2), 100.0)
    up, down, left, right = LIP_ROWS
    points[:, left], points[:, right] = [90, 150], [140, 150]
    points[:, up], points[:, down] = [115, 150], np.stack([np.full(count, 115), 150 + 50 * said.lips], 1)
    return {
        "lmk": (points * 64).astype(np.uint16),
        "rot": np.tile(np.eye(3, dtype=np.float16), (count, 1, 1)),
        "bs": (said.scores.numpy().clip(0, 1) * 255).astype(np.uint8),
    }


def film(path: Path, sound: np.ndarray) -> Path:
    """A video of grey pictures with sound."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        grey = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
        for number in range(len(sound) // 640):
            grey.pts, grey.time_base = number, Fraction(1, 25)
            container.mux(pictures.encode(grey))
        container.mux(pictures.encode(None))
        heard = av.AudioFrame.from_ndarray(np.int16(sound * 32767)[None], format="s16", layout="mono")
        heard.sample_rate = 16000
        container.mux([*track.encode(heard), *track.encode(None)])
    return path


def test_sound_is_kept_if_lips_follow_it_and_shifted_to_match_them(tmp_path: Path) -> None:
    own, other = speech(8, 1), speech(8, 2)
    path = film(tmp_path / "late.mov", np.concatenate([without_lag(own, -LATE), other]))
    labels = labels_of(own)
    clips = [Spoken(0, 200, labels), Spoken(200, 200, labels)]
    (kept, about), (dropped, why) = aligned_sounds(path, clips)  # type: ignore[arg-type]
    assert kept is not None and abs(about["sync"]["lag_ms"] - 1000 * LATE) <= 25
    assert about["sync"]["corrected"] and about["sound"]["samples"] == 200 * 640
    assert dropped is None and "sound" not in why and why["sync"]["lead"] < about["sync"]["lead"]

    with tarfile.open(tmp_path / "speech.tar", "w") as tar:
        add_member(tar, "a.ogg", kept)
        add_member(tar, "a.npz", npz(labels))
        add_member(tar, "a.json", json.dumps(about | {"identity": "p"}).encode())
    (clip,) = read_clips([tmp_path / "speech.tar"], 1, held_out=True)
    loud, wanted = (np.abs(each).reshape(-1, 640).mean(1) for each in (clip.sound, own))
    assert np.corrcoef(loud[5:-5], wanted[5:-5])[0, 1] > 0.85  # 25 ms off


def test_spans_may_extend_beyond_the_sound(tmp_path: Path) -> None:
    path = film(tmp_path / "short.mov", speech(1, 3))
    (sound,) = read_spans(path, [(8000, 32000)])
    assert len(sound) == 24000 + 2 * 9600
    # Begins 0.6 s before the span
    assert np.abs(sound[:1600]).max() == 0 and np.abs(sound[1600:9600]).max() > 0.1
    assert np.abs(sound[20000:]).max() == 0
    assert read_spans(make_video(tmp_path / "silent.mp4", 5), [(0, 3200)]) == []


def test_sound_that_the_lips_do_not_follow_is_dropped(tmp_path: Path) -> None:
    make_video(tmp_path / "tone.mp4", talking(60), rate=25, audio="aac", audio_seconds=2.4)
    done = prepare([tmp_path / "tone.mp4"], tmp_path / "out", QUICK)
    with tarfile.open(done.shards[0]) as tar:
        suffixes = {name.rpartition(".")[2] for name in tar.getnames()}
    assert suffixes == {"mp4", "npz", "json"}
    assert done.statistics["seconds_of_speech"] == 0
    assert list(read_clips(done.shards, 1, held_out=True)) == []


@pytest.mark.parametrize("lag", [0.0, 0.05, -0.05])
def test_removing_a_lag_keeps_the_length_aligned(lag: float) -> None:
    click = np.zeros(16000, np.float32)
    click[8000] = 1
    assert int(np.argmax(without_lag(click, lag))) == 8000 - round(16000 * lag)
