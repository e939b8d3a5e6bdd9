"""The bundled weights do what the program promises: a still face blinks, speaks, turns and keeps its identity."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from liveportrait import AnimateOptions, Animator, metrics, weights
from liveportrait.face import Face, default_analyzer
from liveportrait.face.canonical import EYE_BLINK
from liveportrait.face.measures import head_pose
from liveportrait.media import VideoReader
from liveportrait.motion import Template, bundled_templates
from liveportrait.networks.interface import Motion

EYES = list(EYE_BLINK)


@cache
def animator() -> Animator:
    return Animator.load("compact", precision="bf16")


def some_frames(name: str, rows: list[int]) -> Template:
    template = bundled_templates()[name]
    return replace(template, motion=Motion(*(part[rows] for part in template.motion)))


def animate(tmp_path: Path, template: Template) -> list[np.ndarray]:
    out = tmp_path / "out.mp4"
    animator().animate(astronaut(), template, out, AnimateOptions())
    with VideoReader(out) as reader:
        return list(reader)


def faces(frames: list[np.ndarray]) -> list[Face]:
    found = [animator().analyzer.detect(frame, smallest=60) for frame in frames]
    assert all(found), "a frame lost its face"
    return [each[0] for each in found]


def test_eyes_close_and_open_again(tmp_path: Path) -> None:
    seen = faces(animate(tmp_path, some_frames("blink", [0, 14, 24])))
    analyzer = default_analyzer()
    closing = [float(analyzer.blendshapes(face)[EYES].mean()) for face in seen]
    assert closing[1] > closing[0] + 0.25
    assert abs(closing[2] - closing[0]) < 0.1


def test_the_mouth_opens_with_the_driver(tmp_path: Path) -> None:
    template = bundled_templates()["talk"]
    gap = (template.motion.expression[:, 13, 1] - template.motion.expression[:, 12, 1]).numpy()  # inner lips
    seen = faces(animate(tmp_path, some_frames("talk", [0, int(gap.argmax())])))
    lips = [float(np.linalg.norm(face.landmarks[13, :2] - face.landmarks[14, :2])) for face in seen]
    assert lips[1] > 1.3 * lips[0]


def test_the_head_turns_both_ways_and_the_picture_around_it_stays(tmp_path: Path) -> None:
    template = bundled_templates()["look-around"]
    sideways = template.motion.rotation[:, 0, 2]
    rows = [0, int(sideways.argmin()), int(sideways.argmax())]
    frames = animate(tmp_path, some_frames("look-around", rows))
    poses = [head_pose(face.landmarks).rotation for face in faces(frames)]
    assert metrics.rotation_distance(poses[1], poses[2]) > 18  # degrees; the template turns 34
    for frame in frames:
        assert np.abs(frame[300:].astype(int) - astronaut()[300:]).mean() < 4  # encoding losses


def test_the_first_frame_of_a_relative_motion_is_the_source(tmp_path: Path) -> None:
    first = animate(tmp_path, some_frames("smile", [0, 0]))[0]
    assert metrics.psnr(first, astronaut()) > 28


def test_the_model_card_describes_the_weights() -> None:
    found = weights.describe("compact")
    assert sum(found.parameters.values()) < 12e6
    assert found.size < 24e6
    assert "research" in found.metadata.licence.lower()
    assert found.metadata.training["samples"]["motion"] > 0


@pytest.mark.parametrize("name", ["blink", "talk", "smile", "look-around"])
def test_templates_end_where_they_start_so_that_they_can_be_chained(name: str) -> None:
    motion = bundled_templates()[name].motion
    assert (motion.expression[0] - motion.expression[-1]).abs().max() < 0.05
    assert metrics.rotation_distance(motion.rotation[0].numpy(), motion.rotation[-1].numpy()) < 3
