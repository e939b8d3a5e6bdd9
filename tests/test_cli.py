"""The command line: valid input, and one clear sentence with exit status 2 for invalid input."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from safetensors.torch import load_file, save_file

from liveportrait import weights
from liveportrait.apps import demo
from liveportrait.apps.cli import main
from liveportrait.media import VideoReader, load_image, save_image
from liveportrait.motion import read_template


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a portrait, a driving video and untrained weights."""
    folder = tmp_path_factory.mktemp("inputs")
    save_image(folder / "face.png", portrait())
    write_video(folder / "driving.mp4", driving_frames(4))
    weights.save(bundled_networks(), folder / "weights", weights.Metadata("a test", "MIT"))
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch) -> Path:
    """A copy of those files as the working folder."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, networks: str = "weights") -> int:
    return main([*arguments, "--weights", networks, "--device", "cpu"])


def test_animate_writes_the_video_and_prints_the_time_of_each_stage(here, capsys):
    assert run("animate", "face.png", "driving.mp4", "-o", "out.mp4") == 0
    assert VideoReader("out.mp4").info.frame_count == 4
    printed = capsys.readouterr()
    assert printed.out.startswith("wrote out.mp4\n4 frames in ") and "render" in printed.out
    assert "stitching" not in printed.err


def test_animate_accepts_every_option(here):
    assert (
        run(
            *("animate", "face.png", "driving.mp4", "-o", "out.mp4"),
            *("--no-crop", "--no-crop-driving", "--no-paste-back", "--motion", "absolute"),
            *("--region", "lips", "--driving-option", "expression-friendly", "--multiplier", "1.5"),
            "--no-stitching",
            *("--compare", "--audio", "none", "--precision", "bf16"),
        )
        == 0
    )
    assert VideoReader("out_compare.mp4").info.width == 3 * 256


def test_template_then_animate_with_it(here):
    assert run("template", "driving.mp4", "-o", "motion.safetensors") == 0
    assert len(read_template("motion.safetensors")) == 4
    assert run("animate", "face.png", "motion.safetensors", "-o", "out.mp4") == 0
    assert VideoReader("out.mp4").info.frame_count == 4


def test_a_template_unusable_by_the_published_program_is_refused_before_any_work(here, capsys):
    assert run("template", "no-such-video.mp4", "-o", "motion.pkl") == 2
    assert "'face-mesh-21'" in capsys.readouterr().err


def test_a_photo_driven_by_a_photo_gives_a_picture(here):
    shifted = ("--crop-scale", "2", "--crop-x", "0.1", "--crop-y", "-0.1")
    assert run("animate", "face.png", "face.png", "-o", "out.jpg", *shifted) == 0
    assert load_image("out.jpg").shape == portrait().shape


def test_existing_files_are_only_replaced_with_overwrite(here):
    Path("out.mp4").write_text("precious")
    assert run("animate", "face.png", "driving.mp4", "-o", "out.mp4") == 2
    assert Path("out.mp4").read_text() == "precious"
    assert run("animate", "face.png", "driving.mp4", "-o", "out.mp4", "--overwrite") == 0
    assert VideoReader("out.mp4").info.frame_count == 4


class RunsCommand:
    def __reduce__(self):
        return os.system, ("touch was-here",)


def spoil_weights() -> None:
    """Give one tensor another shape, and the model card the matching checksum."""
    file, card = Path("weights/model.safetensors"), Path("weights/model.json")
    honest = hashlib.sha256(file.read_bytes()).hexdigest()
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    tensors[name] = tensors[name][:, :1].contiguous()
    save_file(tensors, file)
    card.write_text(card.read_text().replace(honest, hashlib.sha256(file.read_bytes()).hexdigest()))


def cut_video() -> None:
    data = Path("driving.mp4").read_bytes()
    Path("cut.mp4").write_bytes(data[: len(data) * 6 // 10])


BAD_INPUTS = {
    # name: (preparation, source, driving, out, words of the message)
    "no source": (None, "nothing.png", "driving.mp4", "out.mp4", "nothing.png"),
    "no driving": (None, "face.png", "nothing.mp4", "out.mp4", "nothing.mp4"),
    "no template": (None, "face.png", "nothing.pkl", "out.mp4", "nothing.pkl"),
    "not a picture": (lambda: Path("x.png").write_text("hello"), "x.png", "driving.mp4", "out.mp4", "x.png"),
    "a tiny picture": (
        lambda: save_image("x.png", np.zeros((1, 1, 3), np.uint8)),
        *("x.png", "driving.mp4", "out.mp4", "1x1"),
    ),
    "an unreadable video": (
        lambda: Path("x.mp4").write_bytes(b"\0" * 5000),
        *("face.png", "x.mp4", "out.mp4", "x.mp4"),
    ),
    "an empty video": (lambda: Path("x.mp4").touch(), "face.png", "x.mp4", "out.mp4", "x.mp4"),
    "a cut video": (cut_video, "face.png", "cut.mp4", "out.mp4", "cut.mp4"),
    "no face in the source": (
        lambda: save_image("x.png", np.full((200, 200, 3), 99, np.uint8)),
        *("x.png", "driving.mp4", "out.mp4", "no face found in x.png"),
    ),
    "no face in the driving video": (
        lambda: write_video(Path("x.mp4"), driving_frames(3, faceless=(0, 1, 2))),
        *("face.png", "x.mp4", "out.mp4", "no face found in any of the 3 frames"),
    ),
    "no face in the driving photo": (
        lambda: save_image("x.png", np.full((200, 200, 3), 99, np.uint8)),
        *("face.png", "x.png", "out.png", "no face found in x.png"),
    ),
    "out exists": (lambda: Path("out.mp4").touch(), "face.png", "driving.mp4", "out.mp4", "exists already"),
    "out's folder is missing": (None, "face.png", "driving.mp4", "no/out.mp4", "no such folder"),
    "out has a strange suffix": (None, "face.png", "driving.mp4", "out.xyz", "xyz"),
    "a picture for many frames": (None, "face.png", "driving.mp4", "out.png", "is a picture"),
    "a hostile template": (
        lambda: Path("x.pkl").write_bytes(pickle.dumps({"motion": RunsCommand()})),
        *("face.png", "x.pkl", "out.mp4", "only plain numpy arrays are read"),
    ),
    "weights with wrong shapes": (spoil_weights, "face.png", "driving.mp4", "out.mp4", "should be"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_gives_one_sentence_and_leaves_no_files(name, here, capfd):
    prepare, source, driving, out, words = BAD_INPUTS[name]
    if prepare:
        prepare()
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    capfd.readouterr()
    assert run("animate", source, driving, "-o", out) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("liveportrait: ") and printed.err.count("\n") == 1 and words in printed.err
    after = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("networks", ["nothing-of-that-name", "face.png"])
def test_missing_weights_are_reported(here, capsys, networks):
    assert run("animate", "face.png", "driving.mp4", "-o", "out.mp4", networks=networks) == 2
    assert networks in capsys.readouterr().err


@pytest.mark.parametrize("device", ["toaster", "", "meta", "mps", "cuda:77"])
def test_an_unknown_device_is_named(here, capsys, device):
    arguments = ["animate", "face.png", "driving.mp4", "-o", "out.mp4", "--weights", "weights"]
    assert main([*arguments, "--device", device]) == 2
    message = capsys.readouterr().err
    assert repr(device) in message and "cpu" in message and len(message) < 130 and message.count("\n") == 1


def test_options_out_of_range_are_user_errors(here, capsys):
    assert run("animate", "face.png", "driving.mp4", "-o", "out.mp4", "--multiplier", "9") == 2
    assert capsys.readouterr().err == "liveportrait: multiplier is 9.0: choose a number from 0 to 4\n"


@pytest.mark.parametrize("line", ["", "animate", "animate a b -o c --region nose", "dance", "weights"])
def test_lines_that_cannot_be_parsed_exit_with_2(line):
    with pytest.raises(SystemExit) as exit_:
        main(line.split())
    assert exit_.value.code == 2


def test_an_interruption_leaves_no_files(here, monkeypatch, capsys):
    from liveportrait.engine import Engine

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "layers", interrupted)
    assert run("animate", "face.png", "driving.mp4", "-o", "out.mp4") == 130
    assert capsys.readouterr().err == "liveportrait: interrupted\n"
    assert not Path("out.mp4").exists() and not list(here.glob(".*"))


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    name, number = capsys.readouterr().out.split()
    assert (name, number) == ("liveportrait", version("liveportrait"))


def test_help_does_not_import_pytorch():
    check = "import sys, liveportrait.apps.cli; print({'torch', 'cv2', 'openvino'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_demo_plays_every_bundled_motion_and_draws_a_contact_sheet(here, monkeypatch):
    assert run("template", "driving.mp4", "-o", "nod.safetensors") == 0
    template = read_template("nod.safetensors")
    monkeypatch.setattr("liveportrait.motion.bundled_templates", lambda: {"nod": template, "again": template})
    monkeypatch.setattr(demo, "sample_portrait", portrait)
    assert run("demo", "-o", "made/here") == 0
    assert VideoReader("made/here/demo.mp4").info.frame_count == 8
    sheet = load_image("made/here/contact-sheet.png")
    assert sheet.shape[0] > 2 * 256 and sheet.shape[1] > 5 * 256
    assert run("demo", "-o", "made/here") == 2
    assert run("demo", "-o", "made/here", "--overwrite") == 0


def test_weights_info_describes_a_folder(here, capsys):
    assert main(["weights", "info", "weights"]) == 0
    printed = capsys.readouterr().out
    assert "a test" in printed and "256 px in" in printed and "sha256" in printed


def test_weights_convert_refuses_weights_that_need_no_conversion(here, capsys):
    assert main(["weights", "convert", "weights", "converted"]) == 2
    assert "needs no conversion" in capsys.readouterr().err


def test_weights_fetch_refuses_unknown_names(capsys):
    assert main(["weights", "fetch", "nothing"]) == 2
    assert "compact" in capsys.readouterr().err


def test_train_needs_its_configuration(tmp_path, capsys):
    assert main(["train", "stage-one", "--config", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
