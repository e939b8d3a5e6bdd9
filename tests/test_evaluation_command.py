"""`liveportrait evaluate` from shards and files to lines, tables and sheets; its protocols on small cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from small_base import SMALL_BASE, small_networks
from synthetic_shards import make_shard

from liveportrait.animation.animator import Animator
from liveportrait.animation.options import DriveOptions
from liveportrait.apps.cli import main
from liveportrait.engine import Engine
from liveportrait.evaluation.context import EvalContext, drive
from liveportrait.evaluation.evaluate import Plan, evaluate
from liveportrait.evaluation.inputs import BURST, EvalClip, EvalSource, frame_numbers, mirrored
from liveportrait.evaluation.protocols.control import REQUESTS, measure_control, missing_module
from liveportrait.evaluation.protocols.cross_reenactment import measure_pair, pairings
from liveportrait.evaluation.protocols.self_reenactment import measure_clip
from liveportrait.evaluation.report import figures
from liveportrait.evaluation.results import DEFINITIONS, Measurements, Outcome, summary
from liveportrait.face import default_analyzer
from liveportrait.face.crop import to_input
from liveportrait.media import FrameArrays, load_image, save_image
from liveportrait.networks import build
from liveportrait.networks.geometry import transform_keypoints

DOCS = Path(__file__).parents[1] / "docs" / "notes" / "evaluation-definitions.md"


@cache
def context(retargeting: bool = False) -> EvalContext:
    return EvalContext.of(Engine(bundled_networks(retargeting)), default_analyzer())


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.tar"
    make_shard(path, clips=2, pictures=1, frames=6)
    return path


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_shard_yields_lines_a_table_clip_figures_and_sheets(shard, tmp_path, capsys) -> None:
    out = tmp_path / "made" / "here"
    out.parent.mkdir()
    command = ["evaluate", "compact", str(shard), "--all", "--stride", "3", "--sheets", "-o", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    # The cartoon's face is found in crops, but not in an entire picture.
    assert "| landmarks" in printed and printed.count("not available") == 1
    assert "people: not available" in printed
    about, *figures = lines(out)
    assert about["about"]["stride"] == 3 and len(about["about"]["sha256"]) == 64
    found = {(f["protocol"], f["group"], f["method"], f["metric"]): f for f in figures}
    assert len(found) == len(figures)
    for protocol in ("self", "cross"):
        for method in ("model", "copy", "landmark_warp"):
            assert found[protocol, "all", method, "fid"]["n"] == 2
            assert found[protocol, "all", method, "csim_distance"]["definition"] == "csim_distance/1"
    assert found["self", "all", "model", "psnr"]["value"] > found["self", "all", "copy", "psnr"]["value"]
    assert found["cross", "all", "copy", "csim_distance"]["value"] == 0
    assert found["cross", "all", "copy", "jitter"]["value"] == 0
    for part in ("eye_control", "lip_control"):
        copied = found["control", "all", "copy", part]["value"]
        assert found["control", "all", "model", part]["value"] < copied
    clips = [c for c in json.loads((out / "clips.json").read_text()) if c["protocol"] != "control"]
    assert [(c["protocol"], c["driver"]) for c in clips] == [
        (protocol, key) for protocol in ("self", "cross") for key in ("0-000", "0-001")
    ]
    assert all(c["source"] != c["driver"] for c in clips if c["protocol"] == "cross")
    psnr = [c["methods"]["model"]["psnr"] for c in clips if c["protocol"] == "self"]
    assert np.mean(psnr) == pytest.approx(found["self", "all", "model", "psnr"]["value"], abs=1e-3)
    assert (out / "table.md").read_text() in printed
    for sheet in ("self.png", "cross.png"):
        assert load_image(out / sheet).shape[1] > 10 * 160
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_videos_and_photos_are_cropped_and_used_in_full(tmp_path, capsys) -> None:
    write_video(tmp_path / "driver.mp4", driving_frames(5, faceless=(0,)))
    save_image(tmp_path / "photo.png", portrait())
    data = [str(tmp_path / name) for name in ("driver.mp4", "photo.png")]
    assert (
        main(["evaluate", "compact", *data, "--protocol", "cross", "--stride", "2", "-o", str(tmp_path)]) == 0
    )
    found = {(f["method"], f["metric"]): f["value"] for f in lines(tmp_path)[1:]}
    assert found["model", "found"] == 1
    assert found["model", "csim_distance"] < 0.6  # still the same person
    assert found["model", "seam_energy"] < 3


BAD: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "no file": (lambda here: None, ["nothing.tar"], "nothing.tar: no such file"),
    "no data": (lambda here: None, [], "name shards"),
    "no match": (lambda here: None, ["none-*.tar"], "No file matches none-*.tar"),
    "no shard": (lambda here: (here / "x.tar").write_text("hello"), ["x.tar"], "x.tar cannot be read"),
    "nobody held out": (
        lambda here: make_shard(here / "x.tar", 0, 1),
        ["x.tar", "--held-out-one-in", "1000003"],
        "none of 1 samples belongs to a held-out identity",
    ),
    "no clips": (
        lambda here: make_shard(here / "x.tar", 0, 1),
        ["x.tar", "--all", "--protocol", "self"],
        "pictures only",
    ),
    "one person": (
        lambda here: write_video(here / "x.mp4", driving_frames(2)),
        ["x.mp4", "--protocol", "cross"],
        "needs two people",
    ),
    "no stride": (lambda here: None, ["x.tar", "--stride", "0"], "stride is 0"),
    "sheets without a folder": (lambda here: None, ["x.tar", "--sheets"], "-o"),
    "neither shard nor picture": (lambda here: (here / "x.txt").write_text("hello"), ["x.txt"], "x.txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_reported_in_one_sentence(name, tmp_path, monkeypatch, capsys) -> None:
    prepare, arguments, words = BAD[name]
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "compact", *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and words in printed


def test_unknown_weights_are_reported_in_one_sentence(shard, capsys) -> None:
    assert main(["evaluate", "no-such-weights", str(shard)]) == 2
    assert "no-such-weights" in capsys.readouterr().err


@dataclass
class Named:
    """An EvalItem that is never decoded."""

    key: str
    identity: str
    is_video: bool
    kind: str = "photo"
    liveliness: float = 0.0
    turn: float = 0.0

    def clip(self, stride: int) -> EvalClip:
        raise NotImplementedError

    def evenly(self, count: int) -> EvalClip:
        raise NotImplementedError

    def source(self) -> EvalSource:
        raise NotImplementedError


def test_pairs_are_of_different_people_and_independent_of_the_other_data() -> None:
    clips = [Named(f"clip{n}", f"person{n % 3}", True) for n in range(6)]
    pictures = [Named(f"picture{n}", f"picture{n}", False) for n in range(9)]
    pairs = pairings([*clips, *pictures], seed=0)
    assert [driver.key for driver, _ in pairs] == [clip.key for clip in clips]
    assert all(source.identity != driver.identity for driver, sources in pairs for source in sources)
    assert {sources[0].is_video for _, sources in pairs} == {True, False}
    again = pairings([*clips[::-1], *pictures[::-1]], seed=0)[::-1]
    assert [sources[0].key for _, sources in again] == [sources[0].key for _, sources in pairs]
    other = pairings([*clips, *pictures], seed=1)
    assert [sources[0].key for _, sources in other] != [sources[0].key for _, sources in pairs]
    assert pairings(clips[:1], seed=0) == []


def test_the_burst_is_consecutive_and_from_the_middle() -> None:
    chosen, burst = frame_numbers(100, 30)
    assert chosen.tolist() == [0, 30, 60, 90]
    assert burst.tolist() == list(range(42, 42 + BURST))
    assert frame_numbers(5, 2)[1].tolist() == [0, 1, 2, 3, 4]


def portrait_still() -> EvalSource:
    face = to_input(portrait())
    return EvalSource("portrait", "portrait", face, *mirrored(face), is_well_exposed=True)


def test_a_still_driver_leaves_the_source_unchanged() -> None:
    clip = EvalClip(
        "still", np.stack([to_input(portrait())] * 3), "someone", np.stack([to_input(portrait())] * 3)
    )
    outcome = measure_pair(context(), portrait_still(), clip)
    figures = summary([outcome], "model", None)
    assert figures["csim_distance"].value < 0.3
    assert figures["head_pose_change"].value < 0.5 and figures["blendshape_change"].value < 0.01
    assert figures["shoulders"].value < 0.5 and figures["background"].value < 0.5
    assert abs(figures["seam_energy"].value) < 1
    assert figures["scale_wobble"].value < 0.1


def test_the_tracker_is_used_unless_switched_off() -> None:
    face, engine = to_input(portrait()), context().engine
    blind = EvalContext.of(engine, context().analyzer, tracks=False)
    alone, tracked = (
        transform_keypoints(each.open(face).source.faces[0].still.motion) for each in (blind, context())
    )
    assert torch.equal(alone, transform_keypoints(engine.extract_motion(face[None])))
    nose = torch.from_numpy(context().analyzer.detect(face)[0].landmarks[4, :2]) / 128 - 1
    assert (tracked[0, 16, :2] - nose).abs().max() < 0.02
    frames = np.stack([to_input(frame) for frame in driving_frames(2)])
    driven = [
        drive(each.open(face), FrameArrays(frames), DriveOptions(crop_driving=False))
        for each in (blind, context())
    ]
    assert not np.array_equal(*driven)


def test_other_architectures_and_sizes_are_compared_at_256_px() -> None:
    """Random weights of the published architecture, 64 px in and 128 px out: noise, in which no face is found."""
    noisy = EvalContext(Animator(Engine(small_networks())), context().analyzer, context().features)
    clip = EvalClip("moving", np.stack([to_input(frame) for frame in driving_frames(3)]), "someone")
    for outcome in (measure_clip(noisy, clip), measure_pair(noisy, portrait_still(), clip)):
        figures = summary([outcome], "model", None)
        assert figures["found"].value == 0 and figures["fid"].n == 2
        assert "landmarks" not in figures and "eyes" not in figures and "csim_distance" not in figures
        assert summary([outcome], "copy", None)["found"].value == 1


def test_missing_modules_are_named() -> None:
    networks = build(SMALL_BASE)
    engine = Engine(networks)
    assert "eye retargeting" in (missing_module(engine, "eye") or "")
    assert "lip retargeting" in (missing_module(engine, "lip") or "")
    assert missing_module(context().engine, "eye") is None


def test_a_missing_module_is_the_reason_for_its_measure(monkeypatch) -> None:
    monkeypatch.setattr(
        "liveportrait.evaluation.evaluate.missing_module",
        lambda engine, part: "no module" if part == "eye" else None,
    )
    item = Named("portrait", "portrait", False)
    monkeypatch.setattr(item, "source", portrait_still)
    monkeypatch.setattr(item, "clip", lambda stride: EvalClip("portrait", portrait_still().face[None]))
    found = figures(evaluate(context(), [item], Plan(("control",))))
    assert {each.metric: each.reason for each in found if each.reason} == {"eye_control": "no module"}
    assert any(each.metric == "lip_control" and each.method == "model" for each in found)


def test_control_requests_openings_as_a_user_does() -> None:
    outcome = measure_control(context(), portrait_still(), ["eye", "lip"], with_tiles=True)
    figures = {method: summary([outcome], method, None) for method in outcome.methods}
    for part in ("eye", "lip"):
        asked, copied = (figures[method][f"{part}_control"] for method in ("model", "copy"))
        assert asked.n == len(REQUESTS) and asked.value < 0.5 * copied.value
        assert figures["model"][f"{part}_response"].value > 0.9
    # The landmark warp does open eyes and lips on request.
    assert figures["landmark_warp"]["eye_response"].value > 0.6
    assert figures["landmark_warp"]["lip_response"].value > 0.8
    assert figures["landmark_warp"]["lip_control"].value < 0.9 * figures["copy"]["lip_control"].value
    assert len(outcome.tiles) == 1 + 2 * len(REQUESTS)


def test_stitched_shoulders_are_compared_with_unstitched_ones() -> None:
    clip = EvalClip("moving", np.stack([to_input(frame) for frame in driving_frames(3)]), "someone")
    outcome = measure_pair(context(retargeting=True), portrait_still(), clip)
    # An untrained module moves no keypoints, but stitching keeps everything outside the head in place.
    assert summary([outcome], "model", None)["shoulders_stitched"].value < 0.25


def outcome_of(values: list[float], pair: tuple[float, float]) -> Outcome:
    measured = Measurements(values={"psnr": np.array(values, np.float32)}, ratios={"jitter": pair})
    return Outcome("self", "a", "a", True, len(values), {"model": measured})


def test_frames_have_equal_weight_and_ratios_are_of_sums() -> None:
    outcomes = [
        outcome_of([10, 20, np.nan], (1.0, 2.0)),
        outcome_of([60], (5.0, 4.0)),
        outcome_of([], (np.nan, 1.0)),
    ]
    figures = summary(outcomes, "model", None)
    assert (figures["psnr"].value, figures["psnr"].n) == (30, 3)
    assert (figures["jitter"].value, figures["jitter"].n) == (1, 2)


def test_every_measure_is_documented() -> None:
    text = DOCS.read_text()
    missing = [each.identifier for each in DEFINITIONS.values() if f"`{each.identifier}`" not in text]
    assert not missing, missing
