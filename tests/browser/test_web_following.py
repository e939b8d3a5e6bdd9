"""The browser tracks a driver's face as Python does: measures, tracking, scenes, windows and motion."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from animation_samples import bundled_networks, portrait
from camera_film import camera_frames
from web_browser import Modules, picture
from web_networks import face_networks

from liveportrait.animation.driver.base import TimedDriver
from liveportrait.animation.driver.video import open_video_driver
from liveportrait.animation.live import Live
from liveportrait.animation.options import DriveOptions, SourceOptions
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import open_photo
from liveportrait.apps.web.face_constants import face_constants
from liveportrait.apps.web.measure_constants import measure_constants
from liveportrait.apps.web.motion_constants import motion_constants
from liveportrait.engine import Engine
from liveportrait.face import Face, default_analyzer
from liveportrait.face.crop import source_window
from liveportrait.face.measures import head_pose, mouth_cues, opening_ratios
from liveportrait.face.tracker import FaceTracker
from liveportrait.media import FrameArrays
from liveportrait.motion import SeenHeads
from liveportrait.motion.gliding import LAZY, LiveGlide, glided
from liveportrait.motion.lifting import MESH_ROWS, flattened
from liveportrait.motion.smoothing import smooth_path
from liveportrait.networks.interface import Motion

CONSTANTS = {"face": face_constants(), "measures": measure_constants(), "motion": motion_constants()}


def run(web: Modules, script: str, session: Session | None = None, **values: Any) -> Any:
    """Set the constants and run a script with Python's face networks and the session's M."""
    networks = dict(face_networks())
    if session:
        networks["motion"] = lambda tensors: _motion(session, tensors[0])
    start = "(await load('constants.js')).setConstants(constants);"
    return web.run(start + script, networks, constants=CONSTANTS, **values)


def _motion(session: Session, pixels: np.ndarray) -> list[np.ndarray]:
    crops = np.rint(pixels * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return [part.numpy() for part in session.engine.extract_motion(np.ascontiguousarray(crops))]


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(Engine(bundled_networks()), default_analyzer(), batch=4)


@pytest.fixture(scope="module")
def film() -> list[np.ndarray]:
    """The astronaut moves; one frame shows no face; after a cut she is elsewhere, larger and mirrored."""
    frames = camera_frames(12)[:5]
    blank = np.full_like(frames[0], 120)
    matrix = np.array([[1.25, 0, -90.0], [0, 1.25, -60.0]])
    bright = [np.clip(frame[:, ::-1].astype(int) + 60, 0, 255).astype(np.uint8) for frame in frames[:3]]
    after = [cv2.warpAffine(frame, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE) for frame in bright]
    return [*frames, blank, frames[4], *after]


@pytest.fixture(scope="module")
def face(session) -> Face:
    return session.analyzer.detect(portrait(), 60)[0]


@pytest.mark.parametrize("degrees", [0, 40])
def test_measures_equal_pythons(web, session, degrees):
    turn = cv2.getRotationMatrix2D((154.0, 127.0), degrees, 1.0)
    image = cv2.warpAffine(portrait(), turn, (300, 300))
    landmarks = session.analyzer.detect(image, 60)[0].landmarks
    result = run(
        web,
        """const {headPose, openingRatios} = await load("face/measures.js");
        const {mouthCues} = await load("face/cues.js");
        const {seenHead} = await load("motion/landmarks.js");
        return {pose: headPose(landmarks), ratios: openingRatios(landmarks), head: seenHead(landmarks),
                cues: mouthCues(image, landmarks)};""",
        image=picture(image),
        landmarks=landmarks.reshape(-1),
    )
    pose = head_pose(landmarks)
    np.testing.assert_allclose(result["pose"]["rotation"].reshape(3, 3), pose.rotation, atol=1e-5)
    assert result["pose"]["scale"] == pytest.approx(pose.scale, rel=1e-5)
    np.testing.assert_allclose(result["pose"]["translation"], pose.translation, atol=1e-3)
    np.testing.assert_allclose(result["ratios"], opening_ratios(landmarks), atol=1e-5)
    np.testing.assert_allclose(result["cues"], mouth_cues(image, landmarks), atol=2e-3)
    seen = SeenHeads.of([landmarks])
    np.testing.assert_allclose(result["head"]["centre"], seen.centre[0], atol=1e-3)
    np.testing.assert_allclose(
        result["head"]["keypoints"]["points"].reshape(-1, 2), seen.keypoints.points[0], atol=1e-4
    )


def test_mouth_cues_equal_pythons(web, face):
    """Lips are parted artificially, so that the cues are not all zero."""
    landmarks = face.landmarks.copy()
    landmarks[[14, 17], 1] += 14
    script = 'return (await load("face/cues.js")).mouthCues(image, landmarks);'
    result = run(web, script, image=picture(portrait()), landmarks=landmarks.reshape(-1))
    expected = mouth_cues(portrait(), landmarks)
    assert np.abs(expected[:4]).max() > 0.05
    np.testing.assert_allclose(result, expected, atol=2e-3)


def test_landmarks_are_normalised_as_in_python(web, face):
    window = source_window(face.landmarks)
    seen = SeenHeads.of([face.landmarks]).through(window)
    points = face.landmarks[list(MESH_ROWS), :2] @ window.matrix[:, :2].T + window.matrix[:, 2]
    points = np.asarray(points * (2 / window.size) - 1, np.float32)
    script = """const {flattened} = await load("motion/lifting.js");
        const {seenHead, throughHead} = await load("motion/landmarks.js");
        return {flat: flattened(points, turn), head: throughHead(seenHead(landmarks), window)};"""
    result = run(
        web,
        script,
        points=points.reshape(-1),
        turn=seen.keypoints.rotation.reshape(-1),
        landmarks=face.landmarks.reshape(-1),
        window={"matrix": window.matrix.reshape(-1), "size": window.size},
    )
    expected = flattened(points[None], seen.keypoints.rotation)
    np.testing.assert_allclose(result["flat"]["landmarks"].reshape(-1, 2), expected.landmarks[0], atol=1e-4)
    assert result["flat"]["unit"] == pytest.approx(float(expected.unit[0]), rel=1e-5)
    assert result["head"]["scale"] == pytest.approx(float(seen.scale[0]), rel=1e-5)
    np.testing.assert_allclose(result["head"]["centre"], seen.centre[0], atol=1e-3)
    rotation = result["head"]["keypoints"]["rotation"].reshape(3, 3)
    np.testing.assert_allclose(rotation, seen.keypoints.rotation[0], atol=1e-5)


def test_a_window_glides_as_in_python(web):
    steps = np.random.default_rng(0).normal(0, 1, (80, 3)) * [9, 7, 0.05]
    rows = np.cumsum(steps, axis=0) + np.array([300, 200, 4.6])
    script = """const {LiveGlide} = await load("motion/gliding.js");
        const glide = new LiveGlide(25);
        return rows.map((row) => glide.next(row));"""
    glide = LiveGlide(25)
    expected = [glide(row) for row in rows]
    assert np.abs(np.array(expected) - rows).max() > 5
    np.testing.assert_allclose(run(web, script, rows=rows.tolist()), expected, atol=1e-9)


def test_a_face_is_tracked_as_in_python(web, session, film):
    """Including one that moves far between two frames, is lost and is found again."""
    frames = [film[0], film[3], film[5], film[6]]
    script = """const {FaceAnalyzer} = await load("face/analyzer.js");
        const {FaceTracker} = await load("face/tracker.js");
        const tracker = new FaceTracker(new FaceAnalyzer(networks));
        const found = [];
        for (const frame of frames) found.push((await tracker.next(frame))?.landmarks ?? null);
        return found;"""
    result = run(web, script, frames=[picture(frame) for frame in frames])
    tracker = FaceTracker(session.analyzer)
    for found, expected in zip(result, map(tracker, frames), strict=True):
        assert (found is None) == (expected is None)
        if expected:
            np.testing.assert_allclose(found.reshape(-1, 3), expected.landmarks, atol=0.05)


def test_a_driver_moves_the_portrait_as_in_python(web, session, film, monkeypatch):
    """From frames to motion, with a frame without a face and a cut after which expressions restart."""
    result = run(
        web,
        """const {FaceAnalyzer} = await load("face/analyzer.js");
        const {SceneTracker} = await load("face/scenes.js");
        const {sightOf} = await load("animation/sight.js");
        const {Follower} = await load("animation/follower.js");
        const analyzer = new FaceAnalyzer(networks);
        const tracker = new SceneTracker(analyzer);
        const follower = new Follower(networks, 25);
        const told = [];
        for (const frame of frames) {
            const sight = await sightOf(analyzer, tracker, frame);
            const driving = await follower.push(sight);
            const {motion, ratios, scores, cues, around, start} = driving;
            const weights = around.weights;
            const [face, begins] = [sight.face !== null, sight.crop !== null];
            told.push({face, begins, motion, ratios, scores, cues, weights, start});
        }
        return told;""",
        session,
        frames=[picture(frame) for frame in film],
    )
    source = open_photo(session, portrait(), SourceOptions())
    live = Live(session, source, DriveOptions(), fps=25.0)
    monkeypatch.setattr(live._stage, "show", lambda *_: None)  # pictures are not compared
    for number, (frame, made) in enumerate(zip(film, result, strict=True)):
        before = live._reference
        live(frame)
        batch, reference = live._last, live._reference
        assert batch is not None and reference is not None and batch.around is not None
        assert made["face"] == live.face_found
        if not made["face"]:
            continue
        assert made["begins"] == (reference.motion is not (before and before.motion)), number
        _check(made["motion"], batch.motion)
        _check(made["start"]["motion"], reference.transfers[0]._start.motion)
        # A pixel more between the lips changes the cues: landmarks differ by hundredths of a pixel.
        for name, near in (("ratios", 2e-3), ("scores", 2e-3), ("cues", 2e-2)):
            expected = getattr(batch, name)[0].numpy()
            np.testing.assert_allclose(made[name], expected, atol=near, err_msg=f"{name} of {number}")
        np.testing.assert_allclose(made["weights"], batch.around.weights[0], atol=1e-6)
    assert [made["begins"] for made in result] == [number in (0, 7) for number in range(len(film))]


def _check(made: dict[str, np.ndarray], expected: Motion) -> None:
    for name, part in expected._asdict().items():
        np.testing.assert_allclose(made[name], part[0].flatten(), atol=5e-4, rtol=0, err_msg=name)


def test_a_whole_path_glides_as_in_python(web):
    steps = np.random.default_rng(1).normal(0, 1, (90, 3)) * [9, 7, 0.05]
    path = np.cumsum(steps, axis=0) + np.array([300, 200, 4.6])
    script = """const {glided, smoothPath} = await load("motion/gliding.js");
        return {glided: glided(rows, 25), short: smoothPath([1, 5], 0.1), least: smoothPath([1, 5, 2], 0.1)};"""
    result = run(web, script, rows=path.tolist())
    expected = glided(path, Fraction(25), LAZY)
    assert np.abs(expected - path).max() > 5
    np.testing.assert_allclose(result["glided"], expected, atol=1e-8)
    assert result["short"] == [1, 5]
    np.testing.assert_allclose(result["least"], smooth_path(np.array([[1.0], [5.0], [2.0]]), 0.1)[:, 0])


def test_a_whole_video_is_followed_as_by_animate(web, session, film):
    """Two passes: windows glide over the whole scene, and expressions start from the frame most like the portrait."""
    frames = [np.full_like(film[0], 120), *film]
    source = open_photo(session, portrait(), SourceOptions())
    wanted = source.faces[0].scores
    made = run(
        web,
        """const {FaceAnalyzer} = await load("face/analyzer.js");
        const {Trace} = await load("animation/tracking.js");
        const {VideoPlay} = await load("animation/drivers.js");
        const trace = new Trace(new FaceAnalyzer(networks), 25, wanted);
        for (const frame of frames) await trace.next(frame);
        const track = trace.finish();
        const play = await VideoPlay.open({name: "film", rate: [25, 1]}, track, networks);
        const told = [];
        for await (const {motion, ratios, scores, cues, around, start} of play.play()) {
            told.push({motion, ratios, scores, cues, weights: around.weights, start});
        }
        return {told, windows: track.frames.map(({window}) => window.matrix)};""",
        session,
        frames=[picture(frame) for frame in frames],
        wanted=wanted,
    )
    driver = open_video_driver(session, FrameArrays(frames, 25), True, "match", [wanted])
    assert driver.windows is not None and driver.cuts == (8,)
    for found, window in zip(made["windows"], driver.windows, strict=True):
        np.testing.assert_allclose(found.reshape(2, 3), window.matrix, rtol=1e-3, atol=0.2)
    batches = list(TimedDriver(driver, 0.0, needs_surroundings=True).play(session, Fraction(25)))
    rows = [batch.take([row]) for batch in batches for row in range(len(batch))]
    assert len(made["told"]) == len(rows)
    for number, (found, batch) in enumerate(zip(made["told"], rows, strict=True)):
        _check(found["motion"], batch.motion)
        start = driver.start(0).of(batch.scenes)
        _check(found["start"]["motion"], start.motion)
        for name, near in (("ratios", 2e-3), ("scores", 2e-3), ("cues", 2e-2)):
            expected = getattr(batch, name)[0].numpy()
            np.testing.assert_allclose(found[name], expected, atol=near, err_msg=f"{name} of {number}")
        np.testing.assert_allclose(found["start"]["ratios"], start.ratios[0], atol=2e-3)
        assert batch.around is not None
        weights = batch.around.weights[0].numpy()
        np.testing.assert_allclose(found["weights"], weights[weights > 0], atol=1e-6)
