"""The browser's motion equals Python's: geometry, templates, transfer and sliders."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, portrait
from web_records import flat, run

from liveportrait.animation.driver.base import DrivingBatch, Start, TimedDriver
from liveportrait.animation.driver.template import TemplateDriver, open_template_driver
from liveportrait.animation.edit_options import Sliders
from liveportrait.animation.options import RetargetOptions, SourceOptions, TransferOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer, SliderPoser
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import PhotoFace, open_photo
from liveportrait.engine import Engine
from liveportrait.face import default_analyzer
from liveportrait.motion import bundled_files, bundled_templates, read_template, write_template
from liveportrait.networks.geometry import euler_degrees, nearest_rotation, rotation_matrix
from liveportrait.networks.interface import Motion, Pose

EXACT = 1e-5
FRAMES = (0, 12, 24)  # of the template: the first, the last, and one that has neighbours


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(Engine(bundled_networks()), default_analyzer(), batch=4)


@pytest.fixture(scope="module")
def face(session) -> PhotoFace:
    return open_photo(session, portrait(), SourceOptions()).faces[0]


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    """Every fourth frame of the bundled template, with openings and blendshapes as in a template made from a video."""
    template = bundled_templates()["talk"]
    template = replace(template, motion=template.motion.rows(slice(0, 100, 4)), fps=Fraction(8))
    wave = 0.5 + 0.5 * torch.sin(torch.arange(len(template))[:, None] * torch.linspace(0.05, 0.6, 55))
    known = replace(
        template, eye_ratios=0.4 * wave[:, :2], lip_ratios=0.5 * wave[:, 2:3], blendshapes=wave[:, 3:]
    )
    path = tmp_path_factory.mktemp("templates") / "talk.safetensors"
    write_template(path, known)
    return path


@pytest.fixture(scope="module")
def driver(session, talk) -> TemplateDriver:
    return open_template_driver(session, read_template(talk), "talk", "match")


def networks_of(session: Session) -> dict[str, Any]:
    """The small networks of a session, for scripts to call."""
    engine = session.engine
    called = {
        "expression": engine.express,
        "stitching": engine.stitch,
        "eye_retargeting": engine.retarget_eyes,
    }
    return {name: _network(function) for name, function in called.items()}


def _network(function: Any) -> Any:
    return lambda tensors: [function(*(torch.from_numpy(part.copy()) for part in tensors)).numpy()]


def face_values(face: PhotoFace) -> dict[str, Any]:
    shape = face.shape
    assert shape is not None and face.still.ratios is not None
    told = {
        "landmarks": shape.landmarks.flatten().numpy(),
        "unit": float(shape.unit),
        "scores": shape.scores[0].numpy(),
    }
    return {"motion": flat(face.still.motion), "ratios": face.still.ratios[0].numpy(), "shape": told}


def check(made: dict[str, np.ndarray], expected: Motion | Pose, row: int = 0, atol: float = EXACT) -> None:
    for name, part in expected._asdict().items():
        np.testing.assert_allclose(made[name], part[row].flatten(), atol=atol, rtol=0, err_msg=name)


def test_rotations(web):
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(20, 3, 3, generator=generator)
    matrices[10:] = torch.eye(3) + 0.2 * matrices[10:]
    angles = 80 * (2 * torch.rand(20, 3, generator=generator) - 1)
    turned = rotation_matrix(*angles.unbind(1))
    made = run(
        web,
        """const g = await load("motion/geometry.js");
        return [matrices.map(g.nearestRotation), angles.map((each) => g.rotationMatrix(...each)),
                turned.map((each) => Float64Array.from(g.eulerDegrees(each)))];""",
        matrices=[each.flatten().numpy() for each in matrices],
        angles=angles.tolist(),
        turned=[each.flatten().numpy() for each in turned],
    )
    expected = nearest_rotation(matrices), turned, torch.stack(euler_degrees(turned), 1)
    for one, wanted, atol in zip(made, expected, (EXACT, EXACT, 1e-3), strict=True):
        np.testing.assert_allclose(np.stack(one), wanted.flatten(1), atol=atol, rtol=0)


def test_templates_are_read_as_python_reads_them(web, session, talk):
    for path in (*bundled_files().values(), talk):
        made = run(
            web,
            """const {readTemplate, TemplateDriver} = await load("motion/templates.js");
            const driver = new TemplateDriver(readTemplate(bytes.buffer, "x"));
            const {fps, rate, length} = driver;
            const frames = [0, 7, length - 1].map((row) => driver.frames[row]);
            return {frames, fps, rate, length, around: driver.at(7).around.weights};""",
            bytes=np.fromfile(path, np.uint8),
        )
        expected = open_template_driver(session, read_template(path), "x", "match")
        assert made["length"] == expected.frames and made["fps"] == pytest.approx(float(expected.fps))
        assert made["rate"] == [expected.fps.numerator, expected.fps.denominator]
        assert sum(made["around"]) == pytest.approx(1)
        for row, frame in zip((0, 7, expected.frames - 1), made["frames"], strict=True):
            check(frame["motion"], expected.whole.motion, row)
            for key, known in (("ratios", expected.whole.ratios), ("scores", expected.whole.scores)):
                if known is None:
                    assert frame[key] is None
                else:
                    np.testing.assert_allclose(frame[key], known[row], atol=EXACT)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: data[:100], "not a readable safetensors file"),
        (lambda data: b"\x89PNG" + data, "not a readable safetensors file"),
        (lambda data: data[:-4], "not a readable safetensors file"),
        (lambda data: data.replace(b"face-mesh-21", b"face-mesh-99"), "keypoint layout face-mesh-99"),
        (lambda data: data.replace(b"motion-template", b"motion-compiler"), "not a motion template"),
    ],
)
def test_a_damaged_template_is_refused_in_one_sentence(web, tmp_path, damage, sentence):
    path = tmp_path / "template.safetensors"
    write_template(path, bundled_templates()["blink"])
    said = run(
        web,
        """const {readTemplate} = await load("motion/templates.js");
        try { readTemplate(bytes.buffer, "mine"); } catch (error) { return error.message; }""",
        bytes=np.frombuffer(damage(path.read_bytes()), np.uint8),
    )
    assert said.startswith("Cannot use the motion template mine: ") and sentence in said


OPTIONS: list[dict[str, Any]] = [
    {},
    {"expression": "landmarks"},
    {"expression_strength": 1.4, "multiplier": 0.7},
    {"expression": "landmarks", "expression_strength": 0.5, "stitching": False},
    {"region": "lips", "lock_scale": True},
    {"region": "eyes"},
    {"mouth": "own"},
    {"region": "pose", "lock_shoulders": True, "stitching": False},
    {"region": "expression", "lock_head": True, "mouth": "silent"},
    {"mouth": "replace", "multiplier": 2.0},
    {"motion": "absolute"},
    {"motion": "absolute", "region": "lips", "multiplier": 0.0},
    {"retarget": RetargetOptions(eye_opening="driver", lip_opening="driver")},
    {"retarget": RetargetOptions(left_eye_opening=0.1, lip_opening=0.4, normalize_lips=True)},
    {"retarget": RetargetOptions(normalize_eyes=True)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_template_moves_the_face_as_in_python(web, session, face, talk, driver, options):
    transfer = MotionTransfer.of(session.engine, face, driver, 0, TransferOptions(**options))
    batches = list(
        TimedDriver(driver, 0.0, needs_surroundings=transfer.adapts_expressions).play(session, driver.fps)
    )
    poses = Pose.cat([transfer.poses(face.still, Cue([0.0], batch)) for batch in batches])
    given = {_camel(name): value for name, value in options.items()}
    if "retarget" in given:
        given["retarget"] = {_camel(name): value for name, value in asdict(given["retarget"]).items()}
    made = run(
        web,
        """const {readTemplate, TemplateDriver} = await load("motion/templates.js");
        const {MotionTransfer} = await load("animation/posers.js");
        const driver = new TemplateDriver(readTemplate(bytes.buffer, "talk"));
        const transfer = new MotionTransfer(networks, face, driver.start, false, options);
        const made = [];
        for (const row of rows) made.push(await transfer.pose(driver.at(row)));
        return {poses: made, own: transfer.own !== null, mouth: transfer.movesMouth};""",
        networks_of(session),
        bytes=np.fromfile(talk, np.uint8),
        face=face_values(face),
        options=given,
        rows=FRAMES,
    )
    assert (made["own"], made["mouth"]) == (transfer.adapts_expressions, transfer.moves_mouth)
    for row, pose in zip(FRAMES, made["poses"], strict=True):
        check(pose, poses, row)


@pytest.mark.parametrize("options", [{}, {"photo_pose": True}, {"region": "eyes"}], ids=str)
def test_a_photo_moves_the_face_as_in_python(web, session, face, driver, options):
    frame = next(islice(driver.whole.slices(1), 10, None))
    start = Start(frame.motion, frame.ratios, frame.scores)
    transfer = MotionTransfer(session.engine, face, start, True, TransferOptions(**options))
    made = run(
        web,
        """const {MotionTransfer} = await load("animation/posers.js");
        return new MotionTransfer(networks, face, driving, true, options).pose(driving);""",
        networks_of(session),
        face=face_values(face),
        driving=_driving(frame),
        options={_camel(name): value for name, value in options.items()},
    )
    check(made, transfer.poses(face.still, Cue([0.0], frame)))


SLIDERS: list[dict[str, float]] = [
    {"smile": 1.0, "yaw": 20, "pitch": -10, "roll": 5},
    {"smile": -0.3, "eyebrow": -0.8, "gaze_x": 0.7, "gaze_y": -0.6, "pout": 0.4},
    {"wink": 1.0, "lips": -0.5, "move_x": 0.1, "move_y": 0.05, "move_z": 1.1},
    {"lips": 0.6, "neutral": 0.5, "purse": 0.3, "grin": 0.2},
    {"silent": 1.0},
    {"eye_opening": 0.1, "lip_opening": 0.3},
    {"left_eye_opening": 0.5, "yaw": 15, "lips": 0.3},
    {"copy": 0.5, "smile": 0.2},
]


@pytest.mark.parametrize("sliders", SLIDERS, ids=str)
def test_sliders_pose_the_face_as_in_python(web, session, face, driver, sliders):
    copied = driver.whole.motion.rows([10]) if "copy" in sliders else None
    picture = None if copied is None else Path("picture.jpg")  # which it was measured in
    poser = SliderPoser(session, Sliders(expression_from=picture, **sliders), copied)
    made = run(
        web,
        """const {SliderPoser} = await load("animation/posers.js");
        return new SliderPoser(networks, face, copied).pose(sliders);""",
        networks_of(session),
        face=face_values(face),
        sliders=sliders,
        copied=None if copied is None else flat(copied),
    )
    check(made, poser.poses(face.still, Cue([0.0])))


def _driving(batch: DrivingBatch) -> dict[str, Any]:
    return {"motion": flat(batch.motion), "ratios": None, "scores": None, "around": None}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
