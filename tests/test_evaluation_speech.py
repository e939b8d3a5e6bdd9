"""The speech protocol on shards of synthetic people whose lips follow their loudness."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from liveportrait import weights
from liveportrait.apps.cli import main
from liveportrait.data.preparation.parts import add_member
from liveportrait.data.speech import LIP_ROWS, encode_opus, read_clips, remaining_lag, without_lag
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.protocols import speech
from liveportrait.evaluation.protocols.speech import measure_speech, open_speech
from liveportrait.face import default_analyzer
from liveportrait.media import save_image
from liveportrait.metrics.sync import SyncMeter, best_offset, margins
from liveportrait.types import no_progress

FRAMES = 150


def syllables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A modulated buzz of six seconds, and its loudness at 25 frames per second."""
    rng = np.random.default_rng(seed)
    level = np.interp(np.arange(FRAMES), np.arange(40) * 4, rng.uniform(0, 1, 40) * (rng.random(40) < 0.7))
    times = np.arange(640 * FRAMES) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 130 * times)) * np.sin(2 * np.pi * 700 * times)
    return (0.3 * buzz * np.interp(times * 25, np.arange(FRAMES), level)).astype(np.float32), level


def speech_shard(path: Path, late: float = 0.0, count: int = 2) -> Path:
    """A shard of speakers whose sound is `late` seconds late, as stated in its JSON."""
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            sound, level = syllables(number)
            points = np.random.default_rng(0).uniform(60, 200, (FRAMES, 111, 2))
            up, down, left, right = LIP_ROWS
            points[:, [left, right]] = [[100, 150], [140, 150]]
            points[:, up], points[:, down] = [120, 150], np.stack([np.full(FRAMES, 120), 150 + 20 * level], 1)
            scores = np.zeros((FRAMES, 52))
            scores[:, 25] = level * 120
            arrays = io.BytesIO()
            np.savez(
                arrays,
                allow_pickle=False,
                lmk=(points * 64).astype(np.uint16),
                rot=np.tile(np.eye(3, dtype=np.float16), (FRAMES, 1, 1)),
                bs=scores.astype(np.uint8),
            )
            about = {"identity": f"p{number}", "sync": {"lag_ms": 1000 * late, "corrected": False}}
            add_member(tar, f"c{number}.ogg", encode_opus(without_lag(sound, -late)))
            add_member(tar, f"c{number}.npz", arrays.getvalue())
            add_member(tar, f"c{number}.json", json.dumps(about).encode())
    return path


def test_late_sound_is_shifted_onto_the_lips(tmp_path: Path) -> None:
    shard = speech_shard(tmp_path / "late.tar", late=0.12)
    sound, level = syllables(0)
    on_lips, stored = (
        next(read_clips([shard], 1, True, on_lips=each)).sound.reshape(-1, 640) for each in (True, False)
    )
    loud = [np.corrcoef(np.abs(each).mean(1), level)[0, 1] for each in (on_lips, stored)]
    assert loud[0] > 0.95 and loud[1] < loud[0] - 0.1
    assert remaining_lag({"sync": {"lag_ms": 120, "corrected": True}}) == remaining_lag({}) == 0
    assert encode_opus(sound) == encode_opus(sound)


def test_the_bundled_scorer_tells_synchronous_speech_from_delayed() -> None:
    meter = SyncMeter.load()
    sound, level = syllables(1)
    lips = np.zeros((FRAMES, 28), np.float32)
    lips[:, 0], lips[:, 3] = 0.4 * level, 0.4 * level
    scores = meter.scores(sound, lips)
    assert float((margins(scores) > 0).float().mean()) > 0.6 and abs(best_offset(scores)) <= 2
    assert meter.scores(sound[:6400], lips[:10]) == {}


def test_the_command_reports_speech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = speech_shard(tmp_path / "speech.tar")
    main(["evaluate", "compact", str(shard), "--protocol", "speech", "--all", "-o", str(tmp_path / "report")])
    printed = capsys.readouterr().out
    assert "### speech" in printed and "other sound" in printed and "name a photo" in printed
    lines = [
        json.loads(line) for line in (tmp_path / "report" / "metrics.jsonl").read_text().splitlines()[1:]
    ]
    found = {(each["method"], each["metric"]): each["value"] for each in lines}
    assert found["model", "lips"] > 0.3 > found["other_sound", "lips"]
    assert 0 <= found["model", "short_closures"] <= 1 and found["labels", "sync_accuracy"] > 0.5


def test_data_without_speech_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "none.tar", "w"):
        pass
    with pytest.raises(UserError, match="clips have sound"):
        open_speech([str(tmp_path / "none.tar")], None)


def test_a_photo_speaks_and_its_lips_are_measured_in_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "RENDERED_SECONDS", 1)
    photo = tmp_path / "face.png"
    save_image(photo, np.ascontiguousarray(astronaut()[:300, 100:400]))
    data = open_speech([str(speech_shard(tmp_path / "speech.tar")), str(photo)], None)
    context = EvalContext.of(Engine(weights.load("compact", "cpu")), default_analyzer())
    *heard, shown = measure_speech(context, data, count=1, with_tiles=True, progress=no_progress)
    assert [each.driver for each in heard] == ["c0", "c1"] and shown.source == "face.png"
    rendered = shown.methods["rendered"]
    assert rendered.values["found"].mean() == 1 and len(shown.tiles) == 6
    assert rendered.clip_medians["lips"] > 0.2
