"""Batches: a manifest is checked before any work, and an interrupted batch resumes where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from left_behind import leave_behind
from speech_samples import sound_file

from liveportrait import Animator, UserError
from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.batches.lanes import CRASHED, Died, Lane, run_rows
from liveportrait.apps.batches.manifest import Row, read_manifest
from liveportrait.apps.batches.record import FILE, Record
from liveportrait.apps.batches.runner import JobRunner, Outcome
from liveportrait.apps.cli import main
from liveportrait.engine import Engine
from liveportrait.folders import HIDDEN
from liveportrait.media import VideoReader, save_image
from liveportrait.types import Progress, no_progress


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_image(folder / "face.png", portrait())
    save_image(folder / "mirror.png", portrait()[:, ::-1].copy())
    write_video(folder / "driving.mp4", driving_frames(2))
    return folder


def table(folder: Path, *lines: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheets save it
    return path


def rows_of(inputs: Path, out: Path, *lines: str) -> list[Row]:
    return read_manifest(table(inputs, *lines), out, "compact")


def test_results_are_named_after_their_inputs_and_names_are_unique(inputs, tmp_path):
    rows = rows_of(
        inputs,
        tmp_path,
        "source,driving,kind,name,region,compare,smile",
        "face.png,driving.mp4,,,lips,,",
        "face.png,driving.mp4,,,eyes,yes,",
        "face.png,driving.mp4;driving.mp4,,,,,",
        "face.png,mirror.png,animate,,,,",
        "face.png,,,,,,0.5",
        ",driving.mp4,,,,,",
        "face.png,driving.mp4,,Face-driving.mp4,,,",
        "face.png,driving.mp4,,take 1.2,,,",
        "face.png,driving.mp4,,clip.webm,,,",
    )
    assert [row.name for row in rows] == [
        "face-driving-2.mp4",
        "face-driving-3.mp4",
        "face-driving-driving.mp4",
        "face-mirror.png",
        "face.png",
        "driving.safetensors",
        "Face-driving.mp4",
        "take 1.2.mp4",
        "clip.webm",
    ]
    assert [row.line for row in rows] == list(range(2, 11))
    assert rows[1].files[1].name == "face-driving-3_compare.mp4"
    assert rows[2].job.driving == (inputs / "driving.mp4",) * 2
    assert {row.job.out.parent for row in rows} == {tmp_path}
    assert rows[0].job.options.region == "lips" and rows[4].job.options.smile == 0.5
    lines = [
        {"source": "face.png", "driving": ["driving.mp4"], "region": "lips"},
        {"source": str(inputs / "face.png")},
    ]
    path = inputs / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    again = read_manifest(path, tmp_path, "compact")
    assert [row.name for row in again] == ["face-driving.mp4", "face.png"]
    assert again[0].request == rows[0].request != rows[1].request


WRONG = {
    "regoin": ("face.png,driving.mp4,lips", "animate has no option 'regoin'"),
    "region": ("face.png,driving.mp4,knees", "region is 'knees'"),
    "multiplier": ("face.png,driving.mp4,many", "multiplier is 'many'"),
    "smile": ("face.png,driving.mp4,1", "animate has no option 'smile'"),
    "kind": ("face.png,driving.mp4,edit", "edit uses sliders, not DRIVING"),
    "name": ("face.png,driving.mp4,../out.mp4", "without a folder"),
    "expression-from": ("face.png,,gone.png", "gone.png: no such file"),
    "alpha": ("gone.png,driving.mp4,", "gone.png: no such file"),
    "overwrite": ("face.png,driving.mp4,yes", "overwrite cannot be set for a row"),
    "detail": ("face.png,gone.mp4,yes", "gone.mp4: no such file"),
}


def test_a_row_with_a_sound_or_a_text_is_a_speak_job(inputs, tmp_path):
    sound_file(inputs / "hum.wav", np.zeros((160, 1)), 16000)
    head = "source,driving,kind,text,head"
    rows = rows_of(
        inputs,
        tmp_path,
        head,
        "face.png,hum.wav,,,still",
        "face.png,,,Hello.,driving.mp4",
        ",hum.wav,,,",
        "driving.mp4,hum.wav,,,",
    )
    assert [(row.name, row.job.kind) for row in rows] == [
        ("face-hum.mp4", "speak"),
        ("face.mp4", "speak"),
        ("hum.safetensors", "template"),
        ("driving-hum.mp4", "speak"),
    ]
    assert rows[1].job.options.head == inputs / "driving.mp4"
    for wrong, message in (
        ("face.png,face.png,speak,,", "is a picture"),
        ("face.png,,speak,,", "give either SPEECH"),
        ("face.png,hum.wav,animate,,", "hum.wav"),
        ("face.png,,,Hello.,none.mp4", "none.mp4"),
    ):
        with pytest.raises(UserError, match=message):
            rows_of(inputs, tmp_path, head, wrong)


@pytest.mark.parametrize("column", WRONG)
def test_an_invalid_row_is_reported_with_its_line(inputs, tmp_path, column):
    row, sentence = WRONG[column]
    with pytest.raises(UserError, match=f"line 3: .*{sentence}"):
        rows_of(inputs, tmp_path, f"source,driving,{column}", "face.png,driving.mp4,", row)


@pytest.mark.parametrize(
    "name", ["/tmp/a", "a\\b", ".hidden", "CON.mp4", "-o", "a:b", "a\tb", "end.", "x" * 200]
)
def test_non_portable_names_are_refused(inputs, tmp_path, name):
    with pytest.raises(UserError, match="line 2: name"):
        rows_of(inputs, tmp_path, "source,driving,name", f"face.png,driving.mp4,{name}")


def test_invalid_manifests_are_refused(inputs, tmp_path, capsys):
    for lines, sentence in (
        (["source,driving"], "has no rows"),
        (["source,source", "a,b"], "two columns have the same name"),
        (["source,driving", "a,b,c"], "line 2: there are more cells than columns"),
        (
            ["source,driving,name", *["face.png,driving.mp4,same"] * 2],
            "line 3: same.mp4 is already the result of line 2",
        ),
    ):
        with pytest.raises(UserError, match=sentence):
            rows_of(inputs, tmp_path, *lines)
    for name, text, sentence in (
        ("a.jsonl", b"[1]", "line 1 is not a JSON object"),
        ("b.jsonl", b'{"source": ', "line 1 is not JSON"),
        ("c.csv", b"source\n\xff", "is not UTF-8 text"),
        ("d.xlsx", b"PK", "a manifest is .csv or .jsonl"),
    ):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(UserError, match=sentence):
            read_manifest(tmp_path / name, tmp_path, "compact")
    many = table(inputs, "source,smile", *["gone.png,1"] * 12)
    assert main(["batch", str(many), "-o", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("gone.png: no such file") == 10 and "and 2 more" in printed
    assert not (tmp_path / "out").exists()


def test_the_record_stores_the_request_of_each_result(inputs, tmp_path):
    first, second = rows_of(inputs, tmp_path, "source,smile", "face.png,0.5", "mirror.png,0.5")
    with Record.open(tmp_path) as record:
        with pytest.raises(UserError, match="another batch"), Record.open(tmp_path):
            pass
        for row in (first, second):
            record.begin(row)
            row.job.out.write_bytes(b"made")
        record.end(first, Outcome(1, 0.5))
    leave_behind(tmp_path, ".png")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"name": "mirror.png", "state": "do')  # as if killed while writing a line
    with Record.open(tmp_path) as record:
        assert not list(tmp_path.glob(f"{HIDDEN}*"))
        record.check_names([first, second])  # both were begun by a batch
        assert record.is_done(first) and not record.is_done(second)
        (changed,) = rows_of(inputs, tmp_path, "source,smile", "face.png,0.6")
        assert changed.job.out == first.job.out and not record.is_done(changed)
        record.end(second, Outcome(reason="no face"))
    with Record.open(tmp_path) as record:
        assert record.is_done(first) and not record.is_done(second)
        first.job.out.unlink()
        assert not record.is_done(first)
        (own,) = rows_of(inputs, tmp_path, "source,name", "face.png,holiday")
        own.job.out.write_bytes(b"of the user")
        with pytest.raises(UserError, match=r"holiday.png exists and was not made by a batch"):
            record.check_names([own])


class Told(Lane):
    """A worker that records its jobs and dies at some of them."""

    def __init__(self, deadly: str = "", deaths: int = 0) -> None:
        super().__init__()
        self.done: list[str] = []
        self.deadly, self.deaths, self.starts = deadly, deaths, 0

    def _start(self) -> None:
        self.starts += 1

    def _do(self, job, progress: Progress) -> Outcome:
        if job.out.name == self.deadly and self.deaths:
            self.deaths -= 1
            raise Died
        self.done.append(job.out.name)
        return Outcome(1)

    def _stop(self) -> None:
        pass


def test_rows_with_the_same_source_share_a_worker_and_a_crash_affects_only_its_own_job(inputs, tmp_path):
    smiles = ("0.1", "0.2", "0.3", "0.4")
    rows = rows_of(
        inputs,
        tmp_path,
        "source,smile",
        *(f"{who}.png,{smile}" for smile in smiles for who in ("face", "mirror")),
    )
    lanes = [Told(), Told()]
    outcomes = {row.name: outcome for row, outcome in run_rows(rows, lanes, lambda row: no_progress)}
    assert len(outcomes) == 8 and not any(outcome.reason for outcome in outcomes.values())
    for lane in lanes:
        # A worker that has finished its source helps with the other one.
        assert len({name.split("-")[0].split(".")[0] for name in lane.done[:3]}) <= 1
    once, twice = Told("face.png", 1), Told("face.png", 2)
    for lane, reason in ((once, ""), (twice, CRASHED)):
        outcomes = {row.name: outcome for row, outcome in run_rows(rows, [lane], lambda row: no_progress)}
        assert outcomes.pop("face.png").reason == reason
        assert not any(outcome.reason for outcome in outcomes.values())
    for lane in (*lanes, once, twice):
        lane.close()


def test_a_repeated_source_is_opened_once_and_gives_the_same_result(inputs, tmp_path, monkeypatch):
    animator = Animator(Engine(bundled_networks()))
    rows = rows_of(
        inputs,
        tmp_path,
        "source,driving,smile",
        "face.png,,0.5",
        "face.png,driving.mp4,",
        "mirror.png,,0",
        "driving.mp4,,1",
    )
    opened = []
    monkeypatch.setattr(
        Animator,
        "open",
        lambda self, *given, __open=Animator.open: opened.append(given[0].name) or __open(self, *given),
    )
    runner = JobRunner(LoadOptions(), animator)
    outcomes = [runner.attempt(row.job) for row in rows]
    assert [each.reason for each in outcomes] == [""] * 4
    assert opened == ["face.png", "mirror.png", "driving.mp4"]
    animator.animate(inputs / "face.png", inputs / "driving.mp4", tmp_path / "alone.mp4")
    with VideoReader(tmp_path / "alone.mp4") as alone, VideoReader(rows[1].job.out) as together:
        assert all(np.array_equal(*frames) for frames in zip(alone, together, strict=True))
    save_image(inputs / "grey.png", portrait() // 9 * 0 + 128)
    (blank,) = rows_of(inputs, tmp_path, "source,smile", "grey.png,1")
    assert "no face" in runner.attempt(blank.job).reason


def test_a_killed_batch_resumes(inputs, tmp_path, capsys):
    save_image(inputs / "blank.png", portrait() // 9 * 0 + 128, overwrite=True)
    count = 12
    rows = [f"{'mirror' if index % 2 else 'face'}.png,,{index / 20}" for index in range(count)]
    path, out = (
        table(inputs, "source,driving,smile", *rows, "blank.png,,1", "face.png,driving.mp4,"),
        tmp_path / "out",
    )
    arguments = ["batch", str(path), "-o", str(out)]
    running = subprocess.Popen([sys.executable, "-m", "liveportrait", *arguments])
    end = time.monotonic() + 300  # on a starved machine
    while len(list(out.glob("[!.]*.png"))) < 3:
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = [json.loads(line)["name"] for line in (out / FILE).read_text().splitlines() if '"done"' in line]
    assert 2 <= len(done) < count
    made = {name: os.stat(out / name).st_mtime_ns for name in done}
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert f"{len(done)} of 14 results are complete already" in printed.out
    assert "1 of 14 jobs failed" in printed.err and "line 14, blank.png: no face" in printed.err
    assert {name: os.stat(out / name).st_mtime_ns for name in done} == made
    assert len(list(out.glob("*.png"))) == count and (out / "face-driving.mp4").exists()
    assert not list(out.glob(f"{HIDDEN}*"))
