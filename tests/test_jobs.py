"""Jobs, whose options have the names of the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import tyro
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from speech_samples import reader

from liveportrait import AnimateOptions, Animator, EditOptions, UserError
from liveportrait.animation.options import RetargetOptions
from liveportrait.apps.cli import Command
from liveportrait.apps.jobs import Job, TemplateJobOptions, choices_of, options_from, run_job, suffix_for
from liveportrait.engine import Engine
from liveportrait.media import VideoReader, load_image, save_image
from liveportrait.media.sound.speech import SPEECH_RATE, count_speech_samples


@pytest.fixture(scope="module")
def animator():
    return Animator(Engine(bundled_networks(), "fp32", backend="eager"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    save_image(folder / "me.png", portrait()[::2, ::2].copy())
    write_video(folder / "driving.mp4", driving_frames(2))
    return folder


def test_options_are_parsed_as_on_the_command_line():
    """A job reads every option from text just as the command line does."""
    texts = {
        "animate": {"faces": "1,3", "max-size": "640", "lip-opening": "driver", "eye-opening": "0.2"}
        | {"region": "lips", "codec": "prores", "audio": "none"},
        "edit": {"smile": "0.5", "lip-opening": "0.3", "expression-from": "x.png", "mask": "face"},
        "speak": {"head": "still", "seed": "3", "strength": "0.5", "text": "Hello.", "voice": "de"},
        "template": {},
    }
    for kind, values in texts.items():
        flags = [name for name in ("overwrite", "no-crop-driving", "alpha") if _known(kind, name)]
        line = [kind, *(["s.png", "d.mp4"] if kind == "animate" else ["s.png"]), "-o", "out.mov"]
        line += [part for name, value in values.items() for part in (f"--{name}", value)]
        line += [f"--{name}" for name in flags]
        command = tyro.cli(Command, args=line, config=(tyro.conf.FlagCreatePairsOff,))
        options = options_from(kind, values | dict.fromkeys(flags, "true"))
        parsed = getattr(command, {"animate": "animation", "speak": "speaking"}.get(kind, kind), command)
        for field in fields(options):
            group = parsed if hasattr(parsed, field.name) else parsed.cropping
            assert getattr(options, field.name) == getattr(group, field.name)


def _known(kind, name):
    return name.replace("-", "_").removeprefix("no_") in choices_of(kind)


def test_values_can_be_json():
    options = options_from(
        "animate", {"multiplier": 2, "crop_driving": False, "left_eye_opening": 0, "box": ""}
    )
    assert options == AnimateOptions(
        multiplier=2.0, crop_driving=False, retarget=RetargetOptions(left_eye_opening=0.0)
    )
    assert options_from("animate", {"max-size": None, "lip-opening": "None"}) == AnimateOptions()
    assert options_from("edit", {"keyframes": Path("k.json"), "no-crop": "no"}) == EditOptions(
        keyframes=Path("k.json")
    )
    assert options_from("template", {"no_crop_driving": True}) == TemplateJobOptions(crop_driving=False)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        ("animate", {"smiles": 1}, "animate has no option 'smiles'"),
        ("template", {"retarget": {}}, "no option 'retarget'"),
        ("animate", {"multiplier": "fast"}, "multiplier is 'fast': choose a number"),
        ("animate", {"multiplier": True}, "multiplier is True: choose a number"),
        ("animate", {"multiplier": "nan"}, "multiplier is nan"),
        ("animate", {"max_size": 100.5}, "max_size is 100.5: choose a whole number or none"),
        ("animate", {"max_size": "inf"}, "max_size is 'inf'"),
        ("animate", {"region": "nose"}, "region is 'nose': choose one of all"),
        ("animate", {"lip-opening": "wide"}, "lip-opening is 'wide': choose a number or driver or none"),
        ("animate", {"lip-opening": 3}, "lip-opening is 3"),
        ("animate", {"crop": "perhaps"}, "crop is 'perhaps': choose true or false"),
        ("animate", {"faces": ["largest"]}, "faces is ['largest']: choose text"),
        ("edit", {"smile": None}, "smile is None"),
        ("edit", {"smile": 10**400}, "smile is 1"),
        ("edit", {"expression_from": ""}, "expression_from is '': choose a file or none"),
        ("speak", {"strength": 3}, "strength is 3"),
        ("speak", {"seed": 0.5}, "seed is 0.5: choose a whole number"),
        ("edit", {"no-crop": True, "crop": True}, "crop and no-crop are the same option"),
    ],
)
def test_an_invalid_option_is_named(kind, values, named):
    with pytest.raises(UserError) as caught:
        options_from(kind, values)
    assert named in str(caught.value)


def test_jobs_of_every_kind_write_their_file(animator, files, tmp_path):
    source, driving = files / "me.png", files / "driving.mp4"
    steps = []

    def run(kind, source, driving, **values):
        out = tmp_path / f"{kind}{suffix_for(kind, source, driving)}"
        report = run_job(
            animator, Job(kind, source, driving, out, options_from(kind, values)), lambda *a: steps.append(a)
        )
        assert report.out == out
        return out

    template = run("template", None, (driving,), no_crop_driving=True)
    assert template.suffix == ".safetensors" and steps[-1] == ("animate", 2, 2)
    with VideoReader(run("animate", source, (template,))) as reader:
        assert len(list(reader)) == 2
    smiling = load_image(run("edit", source, (), smile="1"))
    assert smiling.shape == (150, 150, 3) and (smiling != load_image(source)).any()
    assert suffix_for("animate", source, (source,)) == ".png"
    assert suffix_for("speak", source, (), alpha=True) == ".mov"
    assert suffix_for("animate", driving, (source,)) == ".mp4"
    assert suffix_for("edit", driving, (), alpha=True) == ".mov"


def test_a_text_is_read_aloud_and_spoken(animator, files, tmp_path, monkeypatch):
    reader(tmp_path, monkeypatch)
    out = tmp_path / "talk.mp4"
    options = options_from("speak", {"text": "Hello.", "voice": "de", "fps": 10})
    report = run_job(animator, Job("speak", files / "me.png", (), out, options))
    assert (report.out, report.frames, report.fps) == (out, 2, 10)
    assert count_speech_samples(out) > 0.1 * SPEECH_RATE
    assert (tmp_path / "asked").read_text().split() == ["--stdin", "-b", "1", "-v", "de", "Hello."]
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no speech engine was found"):
        run_job(animator, Job("speak", files / "me.png", (), tmp_path / "none.mp4", options))


@pytest.mark.parametrize(
    ("kind", "source", "driving", "said"),
    [
        ("animate", None, ("d.mp4",), "SOURCE is missing"),
        ("animate", "s.png", (), "DRIVING is missing"),
        ("edit", "s.png", ("d.mp4",), "leave it out"),
        ("template", "s.png", ("d.mp4",), "leave out SOURCE"),
        ("template", None, ("d.mp4", "e.mp4"), "one motion"),
        ("speak", "s.png", ("a.wav", "b.wav"), "says one thing"),
        ("speak", "s.png", (), "give either SPEECH"),
    ],
)
def test_wrong_files_are_refused_with_a_clear_message(kind, source, driving, said):
    with pytest.raises(UserError) as caught:
        Job(kind, source and Path(source), tuple(map(Path, driving)), Path("out"), options_from(kind, {}))
    assert said in str(caught.value)
