"""Conflicting options, and mistakes that are reported before a source is tracked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from skimage.data import chelsea

from liveportrait import AnimateOptions, Animator, DriveOptions, SourceOptions, UserError
from liveportrait.animation import inputs
from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.option_checks import CONFLICTS
from liveportrait.animation.options import RetargetOptions
from liveportrait.engine import Engine
from liveportrait.face.measures import opening_ratios
from liveportrait.media import save_image
from liveportrait.motion import Template, bundled_templates
from liveportrait.networks.keypoints import LOWER_INNER_LIP


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=4)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", driving_frames(3))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"crop": False, "mask": "face"},
            "--no-crop takes SOURCE as one face already cropped, so --mask has",
        ),
        ({"crop": False, "detail": True}, "so --detail has no effect: leave out one of the two"),
        ({"crop": False, "crop_x": 0.1}, "--crop-x has"),
        ({"crop": False, "crop_scale": 2.0}, "--crop-scale has"),
        ({"crop": False, "faces": "all"}, "--faces has"),
        ({"crop": False, "alpha": True}, "--alpha has"),
        (
            {"paste_back": False, "match_colour": True},
            "--no-paste-back writes the crop alone, so --match-colour",
        ),
        (
            {"motion": "absolute", "expression_strength": 0.5},
            "--motion absolute .* --expression-strength has",
        ),
        (
            {"motion": "absolute", "retarget": RetargetOptions(normalize_lips=True)},
            "--normalize-lips has",
        ),
        ({"region": "eyes", "photo_pose": True}, "--region eyes leaves the head .* --photo-pose has"),
        ({"crop_driving": False, "driving_crop_scale": 3.0}, "--driving-crop-scale has"),
        ({"lock_head": True, "lock_shoulders": True}, "--lock-shoulders has"),
    ],
)
def test_conflicting_options_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        AnimateOptions(**options)


def test_copy_needs_a_picture():
    with pytest.raises(UserError, match="--copy has no effect"):
        EditOptions(copy=0.5)


def test_the_table_of_conflicts_names_existing_options():
    known = {*AnimateOptions.__dataclass_fields__, *EditOptions.__dataclass_fields__}
    known |= set(RetargetOptions.__dataclass_fields__)
    assert {name for conflict in CONFLICTS for name in (conflict.option, *conflict.others)} <= known


def test_options_given_at_opening_restrict_driving(animator):
    opened = animator.open(portrait(), SourceOptions(crop=False))
    with pytest.raises(UserError, match="--mask has no effect"):
        opened.drive(portrait(), DriveOptions(mask="face"))


def test_openings_are_only_for_people(animator):
    with animator.open(chelsea()) as cat:
        with pytest.raises(UserError, match="are for people: leave them out for an animal"):
            cat.edit(eye_opening=0.3)
        with pytest.raises(UserError, match="are for people"):
            cat.drive(portrait(), DriveOptions(retarget=RetargetOptions(lip_opening=0.0)))
        assert cat.edit(lips=0.5).shape == (300, 450, 3)


@pytest.fixture
def unfollowed(monkeypatch) -> None:
    """Fail if a source is opened."""

    def opened(*arguments: object) -> None:
        raise AssertionError("the source was opened first")

    monkeypatch.setattr(inputs, "open_video", opened)


def test_mistakes_are_reported_before_the_source_is_tracked(animator, clip, tmp_path, unfollowed):
    out = tmp_path / "out.mp4"
    damaged, cut, grey, keys = (tmp_path / name for name in ("a.safetensors", "b.png", "c.png", "keys.json"))
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0nothing of use at all")
    save_image(grey, np.full((200, 200, 3), 128, np.uint8))
    save_image(cut, portrait())
    cut.write_bytes(cut.read_bytes()[:5000])
    keys.write_text(json.dumps({"keyframes": [{"time": 0, "slider": "smirk", "value": 1}]}))
    for driving, words in ((damaged, "a.safetensors"), (cut, "b.png"), (grey, "no face found in .*c.png")):
        with pytest.raises(UserError, match=words):
            animator.animate(clip, driving, out)
    for options, words in (
        ({"keyframes": keys}, "no slider 'smirk'"),
        ({"expression_from": cut}, "b.png"),
        ({"expression_from": grey}, "no face found in .*c.png"),
    ):
        with pytest.raises(UserError, match=words):
            animator.edit(clip, out, EditOptions(**options))
    with pytest.raises(AssertionError, match="opened first"):
        animator.edit(clip, out)
    assert not out.exists()


def test_a_cropped_clip_with_some_faceless_frames_is_accepted(animator):
    frames = driving_frames(3, faceless=(1,))
    with animator.open(np.stack(frames), SourceOptions(crop=False)) as opened:
        edited = list(opened.edit_frames(lip_opening=0.4))
    assert len(edited) == 3


def test_mouth_modes(animator):
    talk = bundled_templates()["talk"]
    widest = int(talk.motion.expression[:, LOWER_INNER_LIP, 1].argmax())
    motion = Template(talk.motion.rows([0, widest]), talk.fps, talk.layout)
    opened = animator.open(portrait())
    mouths = {}
    for mouth in ("follow", "own", "silent"):
        with opened.drive(motion, DriveOptions(mouth=mouth)) as frames:
            shown = list(frames)[1]
        mouths[mouth] = opening_ratios(animator.analyzer.detect(shown)[0].landmarks)[2]
    own = opening_ratios(animator.analyzer.detect(portrait())[0].landmarks)[2]
    assert mouths["follow"] > own + 0.1
    assert mouths["own"] == pytest.approx(own, abs=0.04)
    assert mouths["silent"] < 0.05


def test_options_without_effect_are_noted(animator, tmp_path):
    options = AnimateOptions(detail=True, photo_pose=True, driving_option="expression-friendly")
    notes = animator.animate(portrait(), portrait(), tmp_path / "a.png", options).notes
    assert {note.split(": ")[-1] for note in notes} == {
        "--detail had no effect",
        "with relative motion both are the same",
    }
    notes = animator.edit(portrait(), tmp_path / "b.png", EditOptions(smooth=0.5)).notes
    assert notes == ("--smooth is for a video: it had no effect",)
