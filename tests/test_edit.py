"""`liveportrait edit` end to end on the bundled weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from animation_samples import FPS, bundled_networks, driving_frames, portrait, write_video

from liveportrait import Animator
from liveportrait.animation.edit_options import SLIDERS, EditOptions
from liveportrait.apps.cli import main
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.measures import eye_ratios
from liveportrait.media import VideoReader, load_image, save_image


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Six frames, the fourth without a face."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", driving_frames(6, faceless=[3]))


def edited(animator: Animator, out: Path, **options) -> np.ndarray:
    animator.edit(portrait(), out, EditOptions(**options))
    return load_image(out)


def smile_of(animator: Animator, picture: np.ndarray) -> float:
    return float(animator.analyzer.blendshapes(animator.analyzer.detect(picture)[0])[[44, 45]].mean())


def frames_of(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack(list(reader)).astype(int)


def test_a_photo_is_edited_only_in_its_window(animator, tmp_path):
    source = np.pad(portrait(), ((0, 0), (0, 200), (0, 0)), constant_values=90)
    report = animator.edit(source, tmp_path / "out.png", EditOptions(smile=-0.3, eyebrow=1.0))
    picture = load_image(tmp_path / "out.png")
    assert picture.shape == source.shape and report.frames == 1
    assert (picture[:, -100:] == source[:, -100:]).all()
    assert np.abs(picture[60:160, 100:200].astype(int) - source[60:160, 100:200]).mean() > 2
    assert smile_of(animator, picture) < smile_of(animator, source)


def test_an_eye_is_closed_by_itself(animator, tmp_path):
    picture = edited(animator, tmp_path / "out.png", right_eye_opening=0.0)
    left, right = eye_ratios(animator.analyzer.detect(picture)[0].landmarks)
    assert right < 0.6 * left


def test_an_expression_is_copied_from_another_picture(animator, tmp_path):
    serious = edited(animator, tmp_path / "serious.png", neutral=1.0)
    back = edited(animator, tmp_path / "back.png", expression_from=tmp_path / "serious.png")
    part = edited(animator, tmp_path / "part.png", expression_from=tmp_path / "serious.png", copy=0.0)
    smiles = [smile_of(animator, picture) for picture in (serious, back, part, portrait())]
    assert smiles[1] < smiles[2] - 0.1
    assert smiles[2] == pytest.approx(smiles[3], abs=0.1)


def test_sliders_move_over_a_video_and_faceless_frames_pass_through(animator, clip, tmp_path):
    keys = tmp_path / "keys.json"
    rows = [
        {"time": 0, "slider": "eye-opening", "value": 0.35},
        {"time": 0.15, "slider": "eye-opening", "value": 0},
    ]
    keys.write_text(json.dumps({"keyframes": rows}))
    report = animator.edit(clip, tmp_path / "out.mp4", EditOptions(keyframes=keys))
    frames = frames_of(tmp_path / "out.mp4").astype(np.uint8)
    assert len(frames) == report.frames == 6 and report.fps == FPS
    assert any("no chosen face in 1 frame of SOURCE (3)" in note for note in report.notes)
    assert np.abs(frames[3].astype(int) - 128).max() <= 3
    first, last = (eye_ratios(animator.analyzer.detect(frames[n])[0].landmarks).mean() for n in (0, 5))
    assert last < 0.7 * first


def test_without_pasting_back_the_crop_is_written(animator, tmp_path):
    height, width, _ = edited(animator, tmp_path / "out.png", paste_back=False).shape
    assert height == width >= 256


def test_an_existing_file_is_refused_and_left_alone(animator, tmp_path):
    taken = tmp_path / "out.png"
    taken.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already"):
        animator.edit(portrait(), taken)
    assert taken.read_bytes() == b"mine"


@pytest.mark.parametrize("name", sorted(SLIDERS))
def test_a_slider_accepts_its_range_only(name):
    limits = SLIDERS[name]
    assert EditOptions(**{name: limits.high}).moved().get(name, limits.rest) == limits.high
    for value in (limits.low - 0.01, limits.high + 0.01, float("nan")):
        with pytest.raises(UserError, match=f"{name.replace('_', '-')} is .*: choose a number from"):
            EditOptions(**{name: value})


def test_the_command_line_edits_and_reports_mistakes(tmp_path, capsys):
    source, out, keys = tmp_path / "source.png", tmp_path / "out.png", tmp_path / "keys.json"
    save_image(source, portrait())
    assert main(["edit", str(source), "-o", str(out), "--smile", "0.5", "--device", "cpu"]) == 0
    assert load_image(out).shape == portrait().shape
    keys.write_text('{"keyframes": [{"time": 0, "slider": "smirk", "value": 1}]}')
    out.unlink()
    wrong = {
        "smile is 3": ["--smile", "3"],
        "keyframes are for a video": ["--keyframes", str(keys)],
        "ends in '.mp4': choose one of": ["-o", str(tmp_path / "out.mp4")],
    }
    for message, more in wrong.items():
        capsys.readouterr()
        assert main(["edit", str(source), "-o", str(out), "--device", "cpu", *more]) == 2
        errors = capsys.readouterr().err
        assert message in errors and len(errors.splitlines()) == 1, errors
    assert not out.exists()


def test_an_unknown_slider_in_a_keyframe_file(animator, clip, tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text('{"keyframes": [{"time": 0, "slider": "smirk", "value": 1}]}')
    with pytest.raises(UserError, match="keyframe 1: there is no slider 'smirk': choose one of smile"):
        animator.edit(clip, tmp_path / "out.mp4", EditOptions(keyframes=keys))
