"""Preparation from raw files to shards: what is kept is labelled correctly, what is dropped is reported."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_samples import make_video
from prepare_samples import QUICK, scene, talking, write_talking
from skimage.data import chelsea, coffee

from liveportrait.apps.cli import main
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.report import angles
from liveportrait.data.preparation.run import Prepared, prepare
from liveportrait.data.shards import Entry, Sample, read_entries
from liveportrait.errors import UserError
from liveportrait.face import default_analyzer
from liveportrait.media import VideoReader, load_image, save_image
from liveportrait.motion.lifting import AXES, MESH_ROWS
from liveportrait.training.data.corpus import build_corpus, load_corpus

FADE = 12


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    """The prepared shards of a folder with every kind of good and bad input."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "deep").mkdir()
    bare = cv2.resize(np.ascontiguousarray(coffee()[:300, :400]), (400, 300))
    # A fade from white, then the face, then a cut to a cup of coffee.
    clip = talking(36)
    faded = [
        (frame * (k / FADE) + 255 * (1 - k / FADE)).astype(np.uint8) if k < FADE else frame
        for k, frame in enumerate(clip)
    ]
    make_video(folder / "talk.mp4", [*faded, *[bare] * 30], rate=25, options={"crf": "14"})
    # The same recording: smaller, cropped differently, with worse encoding.
    smaller = [
        cv2.resize(frame[10:, 30:380], (314, 260), interpolation=cv2.INTER_AREA) for frame in clip[22:]
    ]
    make_video(folder / "deep" / "again.mp4", smaller, rate=25, options={"crf": "26"})
    make_video(folder / "still.mp4", [scene()] * 14, rate=25)
    blurred = [cv2.GaussianBlur(frame, (0, 0), 3) for frame in talking(14, seed=3)]
    make_video(folder / "blurred.mp4", blurred, rate=25)
    make_video(folder / "slow.mp4", talking(6), rate=5)
    whole = (folder / "talk.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.md").write_text("not a video")
    save_image(folder / "photo.png", np.ascontiguousarray(scene(smile=20)[:, ::-1]))
    save_image(folder / "cat.png", chelsea())
    (folder / "copy.png").write_bytes((folder / "photo.png").read_bytes())
    return folder, prepare([folder], folder.parent / f"{folder.name}-shards", QUICK)


def entries(done: Prepared) -> list[Entry]:
    return [entry for shard in done.shards for entry in read_entries(shard)]


def about(done: Prepared) -> dict[str, dict]:
    found = {}
    for shard in done.shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    found[member.name[:-5]] = json.loads(tar.extractfile(member).read())
    return found


def dropped(done: Prepared) -> dict[str, list[dict]]:
    lines = (done.shards[0].parent / "dropped.jsonl").read_text().splitlines()
    found: dict[str, list[dict]] = {}
    for line in map(json.loads, lines):
        found.setdefault(line["input"], []).append(line)
    return found


def test_one_clip_and_one_picture_are_kept(prepared: tuple[Path, Prepared]) -> None:
    _, done = prepared
    kept = entries(done)
    assert all(isinstance(entry, Sample) for entry in kept)
    assert sorted(about(done)[entry.key]["path"] for entry in kept) == ["copy.png", "talk.mp4"]
    assert len({entry.identity for entry in kept}) == 1  # the mirrored photograph is the same woman
    for entry in kept:
        frames = entry.frames()
        assert frames.shape[1:] == (256, 256, 3)
        assert isinstance(entry, Sample) and len(frames) == len(entry.landmarks) == len(entry.measured)


def test_dropped_inputs_are_reported_with_the_reason(prepared: tuple[Path, Prepared]) -> None:
    _, done = prepared
    reasons = {name: {line["reason"] for line in lines} for name, lines in dropped(done).items()}
    assert reasons["talk.mp4"] == {"fade", "no face"}
    assert reasons["deep/again.mp4"] == {"duplicate"}
    assert reasons["still.mp4"] == {"static"}
    assert reasons["blurred.mp4"] == {"blurred"}
    assert reasons["slow.mp4"] == {"low frame rate"}
    assert reasons["cut.mp4"] == reasons["notes.md"] == {"unreadable"}
    assert reasons["cat.png"] == {"no face"}
    assert reasons["photo.png"] == {"duplicate"}
    assert set(reasons) | {"copy.png"} == {str(p.relative_to(prepared[0])) for p in prepared[0].rglob("*.*")}


def test_the_clip_starts_after_the_fade_and_ends_at_the_cut(prepared: tuple[Path, Prepared]) -> None:
    _, done = prepared
    clip = next(entry for entry in entries(done) if entry.is_video)
    facts = about(done)[clip.key]
    start = round(facts["src_start_s"] * 25)
    assert start + facts["frames"] == 36
    assert FADE - 1 <= start <= FADE + 3
    gone = next(line for line in dropped(done)["talk.mp4"] if line["reason"] == "no face")
    assert (gone["start_s"], gone["end_s"]) == (36 / 25, 66 / 25)


def test_labels_match_the_stored_frames(prepared: tuple[Path, Prepared]) -> None:
    _, done = prepared
    analyzer = default_analyzer()
    clip = next(entry for entry in entries(done) if entry.is_video)
    assert isinstance(clip, Sample)
    frames = clip.frames()
    for number in (0, len(frames) - 1):
        face = analyzer.detect(frames[number], smallest=60)[0]
        gap = np.linalg.norm(face.landmarks[list(MESH_ROWS), :2] - clip.landmarks[number], axis=1)
        assert gap.mean() < 1.5, "px of 256"
        assert np.abs(analyzer.blendshapes(face) - clip.blendshapes[number]).mean() < 0.05
    assert np.abs(clip.rotation @ clip.rotation.transpose(0, 2, 1) - np.eye(3)).max() < 2e-3


def test_a_mirrored_face_has_the_mirrored_rotation(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", scene())
    save_image(tmp_path / "b.png", np.ascontiguousarray(scene()[:, ::-1]))
    turned = [
        angles(entries(prepare([tmp_path / name], tmp_path / f"{name}-out", QUICK))[0].rotation.astype(float))
        for name in ("a.png", "b.png")
    ]
    for name, sign in (("yaw", -1), ("pitch", 1), ("roll", -1)):
        assert abs(turned[0][name][0] - sign * turned[1][name][0]) < 3, name
    assert turned[0]["roll"][0] < -2  # she leans her head to the picture's right: clockwise


def test_training_reads_the_prepared_shards(prepared: tuple[Path, Prepared], tmp_path: Path) -> None:
    _, done = prepared
    build_corpus(done.shards, tmp_path / "corpus", frames_per_clip=8, one_in=10**9, seed=0)
    corpus = load_corpus(tmp_path / "corpus")
    assert len(corpus.clip) == 9  # eight frames of the clip, and the picture
    yaw = angles(AXES @ corpus.motion.rotation.transpose(1, 2).double().numpy() @ AXES)["yaw"]
    assert np.abs(yaw[corpus.clip == 0]).max() < 40 and np.ptp(corpus.landmarks[:, :, 0]) > 50


def test_statistics_and_sheet(prepared: tuple[Path, Prepared]) -> None:
    _, done = prepared
    folder = done.shards[0].parent
    stored = json.loads((folder / "statistics.json").read_text())
    assert stored == done.statistics
    assert (stored["inputs"], stored["clips"], stored["pictures"], stored["identities"]) == (10, 1, 1, 1)
    frames = sum(len(entry.frames()) for entry in entries(done))
    assert stored["frames"] == frames
    assert sum(stored["degrees"]["yaw"]["frames"]) == frames
    assert sum(stored["blendshapes"]["frames"]["25"]) == frames
    assert stored["dropped"]["duplicate"]["pieces"] == 2
    assert "duplicate" in done.summary()
    assert load_image(folder / "contact-sheet.png").shape[1] > 128


def test_two_people_in_a_frame_give_two_clips_each_with_its_own_window(tmp_path: Path) -> None:
    left, right = talking(14), talking(14, seed=4)
    pairs = [np.concatenate([a[:, 60:360], b[:, 60:360]], axis=1) for a, b in zip(left, right, strict=True)]
    make_video(tmp_path / "two.mp4", pairs, rate=50, options={"crf": "14"})
    options = PrepareOptions(min_seconds=0.2, min_face=60, duplicate_bits=0, fps=25)
    done = prepare([tmp_path / "two.mp4"], tmp_path / "out", options)
    windows = sorted(facts["crop_xys"] for facts in about(done).values())
    assert len(windows) == 2
    assert windows[0][0] + windows[0][2] / 2 < 300 < windows[1][0] + windows[1][2] / 2
    # 50 frames a second, resampled to 25
    assert [facts["frames"] for facts in about(done).values()] == [7, 7]


def test_shards_are_limited_in_size_and_contain_no_timestamps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        noisy = scene(4.0 * number, 5.0 * number).astype(np.int16) + rng.integers(-9, 9, (300, 400, 3))
        save_image(tmp_path / f"{number}.png", noisy.clip(0, 255).astype(np.uint8))
    options = PrepareOptions(min_face=60, duplicate_bits=0, shard_megabytes=1)
    one = prepare([tmp_path], tmp_path / "one", options)
    assert len(one.shards) == 1
    with tarfile.open(one.shards[0]) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_animals_are_kept_without_labels(tmp_path: Path) -> None:
    save_image(tmp_path / "cat.png", chelsea())
    done = prepare([tmp_path / "cat.png"], tmp_path / "out", PrepareOptions(domain="animal"))
    (entry,) = entries(done)
    assert not isinstance(entry, Sample)
    assert entry.domain == "animal" and entry.frames().shape == (1, 256, 256, 3)
    assert done.statistics["unlabelled"] == 1


def test_sound_is_not_kept(tmp_path: Path) -> None:
    make_video(tmp_path / "talk.mp4", talking(12), rate=25, audio="aac", options={"crf": "14"})
    done = prepare([tmp_path / "talk.mp4"], tmp_path / "out", QUICK)
    (entry,) = entries(done)
    (tmp_path / "clip.mp4").write_bytes(entry.media)
    assert VideoReader(tmp_path / "clip.mp4").info.has_audio is False


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["prepare", *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("liveportrait: ") and printed.count("\n") == 1
    return printed


def test_bad_input_gives_one_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("list.txt").write_text("# nothing yet\n\n")
    save_image("coffee.png", np.ascontiguousarray(coffee()))
    assert "name videos" in fails(capsys, "-o", "out")
    assert "no such file or folder" in fails(capsys, "nowhere", "-o", "out")
    assert "empty folder" in fails(capsys, "empty", "-o", "out")
    assert "lists no paths" in fails(capsys, "list.txt", "-o", "out")
    assert "workers" in fails(capsys, "coffee.png", "-o", "out", "--workers", "0")
    assert not Path("out").exists()
    assert "No face in 1 inputs" in fails(capsys, "coffee.png", "-o", "out")
    assert "no face" in Path("out/dropped.jsonl").read_text()
    assert "min-face was 90, now 50" in fails(capsys, "coffee.png", "-o", "out", "--min-face", "50")
    Path("mine").mkdir()
    Path("mine/thesis.doc").write_text("years of work")
    assert "contains other files" in fails(capsys, "coffee.png", "-o", "mine")
    assert "is a file" in fails(capsys, "coffee.png", "-o", "list.txt")
    assert "max-seconds is 1.0" in fails(capsys, "coffee.png", "-o", "new", "--max-seconds", "1")


def test_a_list_names_files_relative_to_itself_and_missing_ones_are_reported(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    save_image(tmp_path / "media" / "face.png", scene())
    (tmp_path / "media" / "list.txt").write_text("face.png\ngone.mp4\n")
    done = prepare([tmp_path / "media" / "list.txt"], tmp_path / "out", QUICK)
    assert len(entries(done)) == 1
    assert dropped(done)["gone.mp4"][0]["reason"] == "unreadable"


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    save_image(tmp_path / "face.png", scene())
    done = prepare([tmp_path / "face.png"], tmp_path / "out", QUICK)
    part = next((tmp_path / "out" / "parts").glob("*.json"))
    part.write_text(part.read_text()[:50])
    with pytest.raises(UserError, match=f"{part.name}.*delete it"):
        prepare([tmp_path / "face.png"], tmp_path / "out", QUICK)
    part.unlink()
    assert prepare([tmp_path / "face.png"], tmp_path / "out", QUICK).statistics == done.statistics


def test_a_talking_video_is_kept_with_many_options_set(tmp_path: Path, capsys) -> None:
    write_talking(tmp_path / "talk.mp4", 14)
    out = str(tmp_path / "out")
    line = ["prepare", str(tmp_path / "talk.mp4"), "-o", out, "--min-seconds", "0.4", "--min-face", "60"]
    assert main([*line, "--domain", "generated", "--crf", "30", "--window", "1.8"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"wrote {out}\n1 inputs, 0.6 s of video -> 1 shards: 1 clips")
    assert next(read_entries(Path(out) / "shard-00000.tar")).domain == "generated"
