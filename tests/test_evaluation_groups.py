"""Groups of frames and portraits, detail, and the choice of drivers, on cases with known figures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from skimage.data import astronaut

from liveportrait.engine import Engine
from liveportrait.evaluation.context import EvalContext
from liveportrait.evaluation.evaluate import Evaluation, Plan, evaluate
from liveportrait.evaluation.inputs import EvalClip, ShardItem, open_items
from liveportrait.evaluation.protocols.people import DRIVERS, lively_clips
from liveportrait.evaluation.protocols.shared import detail_share, mouth_groups, turn_groups
from liveportrait.evaluation.report import figures, sheets, table
from liveportrait.evaluation.results import Measurements, Outcome, Worst, summary
from liveportrait.evaluation.tracks import observe
from liveportrait.face import default_analyzer
from liveportrait.media import save_image


@cache
def context() -> EvalContext:
    return EvalContext.of(Engine(bundled_networks()), default_analyzer())


def outcome(source: str, kind: str, strength: float, quality: list[float], groups: dict) -> Outcome:
    driver = np.sin(np.linspace(0, 6, 20)).astype(np.float32)
    measured = Measurements(
        values={"psnr": np.array(quality, np.float32)},
        shares={"mouth_sharpness": (np.array(quality, np.float32), np.full(len(quality), 20, np.float32))},
        responses={"lip_gap": [(strength * driver + 0.1, driver)]},
    )
    picture = np.zeros((8, 8, 3), np.uint8)
    return Outcome(
        "people", source, "clip", True, len(quality), {"model": measured},
        kind=kind, groups=groups, worst=(Worst("lip_gap", 1 - strength, 3, (picture,)),),
    )  # fmt: skip


def test_frames_are_grouped_by_the_turn_of_the_head() -> None:
    track = observe(default_analyzer(), np.stack([portrait()]), identities=False).repeated(0, 6)
    for row, degrees in enumerate((0, 9, 11, 25, 80)):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.float32([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        track.rotation[row] = turn @ track.rotation[5]
    track.rotation[5] = np.nan  # no face
    groups = turn_groups(track)
    assert {name: np.flatnonzero(rows).tolist() for name, rows in groups.items()} == {
        "turn 0-10": [0, 1],
        "turn 10-20": [2],
        "turn 20-30": [3],
        "turn > 30": [4],
    }


def test_mouths_open_or_close_relative_to_the_source() -> None:
    openings = np.array([0.01, 0.08, 0.3, np.nan], np.float32)
    of_closed, of_open = mouth_groups(0.02, openings), mouth_groups(0.2, openings)
    assert of_closed["mouth opens"].tolist() == [False, False, True, False]
    assert of_open["mouth closes"].tolist() == [True, False, False, False]
    assert not of_closed["mouth closes"].any() and not of_open["mouth opens"].any()


def test_figures_by_group_use_its_frames_and_by_kind_its_pairs() -> None:
    halves = {"turn 0-10": np.array([True, True, False]), "turn > 30": np.array([False, False, True])}
    pairs = [outcome("a", "photo", 0.9, [10, 20, 60], halves), outcome("b", "stylized", 0.3, [20], {})]
    evaluation = Evaluation(tuple(pairs), None, 0)
    found = {(each.group, each.metric): each for each in figures(evaluation)}
    assert found["all", "lip_gap_slope"].value == pytest.approx(0.6, rel=1e-3)
    assert found["kind stylized", "lip_gap_slope"].value == pytest.approx(0.3, rel=1e-3)
    assert found["all", "lip_gap_correlation"].value == pytest.approx(1, rel=1e-3)
    assert (found["turn 0-10", "psnr"].value, found["turn 0-10", "psnr"].n) == (15, 2)
    assert found["turn > 30", "mouth_sharpness"].value == 3
    assert ("turn 0-10", "lip_gap_slope") not in found
    assert summary(pairs[1:], "model", None, "turn 0-10") == {}
    printed = table(list(found.values()), "mine")
    assert "### people, mine by turn" in printed and "15 (2)" in printed
    assert list(sheets(evaluation)) == ["people-worst.png"]


def test_detail_is_the_share_of_the_sources_that_remains() -> None:
    picture = np.ascontiguousarray(astronaut()[:256, 96:352])
    landmarks = default_analyzer().detect(picture)[0].landmarks
    assert detail_share(picture, landmarks, picture, landmarks) == pytest.approx(1, abs=0.02)
    # Moving by integer pixels loses nothing.
    moved = np.roll(picture, (7, -9), (0, 1))
    shifted = landmarks + np.float32([-9, 7, 0])
    assert detail_share(moved, shifted, picture, landmarks) == pytest.approx(1, abs=0.02)
    small = cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)
    soft = np.asarray(cv2.resize(small, (256, 256), interpolation=cv2.INTER_LINEAR))
    assert detail_share(soft, landmarks, picture, landmarks) < 0.6


class Clip(ShardItem):
    """A grey clip, which may fade in or turn away."""

    def __init__(
        self, key: str, identity: str, liveliness: float, fades: bool = False, turn: float = 10.0
    ) -> None:
        self.key, self.identity, self.is_video = key, identity, True
        self.kind, self.liveliness, self.turn = "clip", liveliness, turn
        self.fades = fades

    def evenly(self, count: int) -> EvalClip:
        frames = np.full((3, 8, 8, 3), 100, np.uint8)
        frames[0] += 100 * self.fades
        return EvalClip(self.key, frames, self.identity)


def test_drivers_are_every_video_given_and_the_liveliest_clips_of_different_people() -> None:
    clips = [
        Clip(f"{person}{n}", person, 0.1 * n + ord(person), fades=(n == 2 and person == "e"))
        for person in "abcdef"
        for n in range(3)
    ]
    file = Clip("talk.mp4", "talk", float("inf"), fades=True)
    profile = Clip("g0", "g", 200.0, turn=60.0)
    found = lively_clips([*clips, file, profile])
    assert [each.key for each in found] == ["talk.mp4", "f2", "e1", "d2", "c2"]
    assert DRIVERS == 4


def test_a_folder_of_large_portraits_is_measured_at_its_own_size(tmp_path: Path) -> None:
    write_video(tmp_path / "driver.mp4", driving_frames(4))
    (tmp_path / "paintings").mkdir()
    large = cv2.resize(portrait(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[:-1]  # an odd height
    save_image(tmp_path / "paintings" / "large.png", np.asarray(large))
    items = open_items([str(tmp_path / "driver.mp4"), str(tmp_path / "paintings")], context(), 12)
    found = evaluate(context(), items, Plan(("people",), with_tiles=True))
    (pair,) = found.outcomes
    assert (pair.source, pair.driver, pair.kind) == ("large.png", "driver.mp4", "paintings")
    measured = summary([pair], "model", None)
    assert measured["found"].value == 1 and measured["csim_distance"].value < 0.6
    assert 0.1 < measured["detail"].value < 1.3
    assert set(sheets(found)) == {"people.png", "people-worst.png"}
