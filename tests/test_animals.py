"""Cats and dogs: detected, mapped to a person's keypoints, and driven by a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from animation_samples import driving_frames, portrait, write_video
from skimage.data import astronaut, chelsea
from small_base import small_networks

from liveportrait import AnimateOptions, Animator
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import open_photo
from liveportrait.apps.cli import main
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.animals import AnimalDetector, animal_outline, animal_square, face_axes
from liveportrait.face.choice import parse_box
from liveportrait.media import VideoReader, save_image
from liveportrait.motion import bundled_templates, write_template
from liveportrait.motion.animals import EYE_OPENING, animal_motion
from liveportrait.networks.geometry import transform_keypoints

# Chelsea's face, annotated by eye: upper and lower lid of each eye, nose, mouth, its corners, chin; px.
CHELSEA = np.array(
    [[172, 87], [172, 144], [319, 111], [318, 161], [264, 240], [258, 268], [215, 290], [300, 275], [255, 300]],
    np.float32,
)  # fmt: skip
EYE_DISTANCE = float(np.linalg.norm(CHELSEA[2:4].mean(0) - CHELSEA[:2].mean(0)))


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator.load("compact", "cpu", backend="eager")


def turned(points: np.ndarray, degrees: float, zoom: float = 1.0) -> np.ndarray:
    matrix = cv2.getRotationMatrix2D((128.0, 128.0), degrees, zoom)
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def crop_landmarks() -> np.ndarray:
    """Chelsea's landmarks in a crop of 256 px."""
    window = animal_square(CHELSEA).framed(2.3, 0, -0.125).window(256)
    return CHELSEA @ window.matrix[:, :2].T + window.matrix[:, 2]


def frames_of(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack(list(reader)).astype(float)


def blink_template(folder: Path) -> tuple[Path, int]:
    """The first seconds of the bundled blink as a file, and the frame in which the eyes are closed."""
    whole = bundled_templates()["blink"]
    points = whole.motion.canonical @ whole.motion.rotation + whole.motion.expression
    closed = int((points[:, 1, 1] - points[:, 0, 1]).argmin())
    rows = [0, closed]
    motion = whole.motion.rows(rows)
    ratios = {
        name: None if (value := getattr(whole, name)) is None else value[rows]
        for name in ("eye_ratios", "lip_ratios")
    }
    write_template(folder / "blink.safetensors", replace(whole, motion=motion, **ratios))
    return folder / "blink.safetensors", 1


@pytest.mark.parametrize("degrees", [0.0, 35.0, -120.0])
def test_keypoints_lie_on_the_landmarks(degrees):
    landmarks = turned(crop_landmarks(), degrees)
    motion = animal_motion(landmarks, 256).motion
    placed = (transform_keypoints(motion)[0, :, :2].numpy() + 1) * 128 - 0.5
    rows = {0: 0, 1: 1, 2: 2, 3: 3, 10: 6, 11: 7, 16: 4, 17: 8}
    for keypoint, landmark in rows.items():
        assert np.allclose(placed[keypoint], landmarks[landmark], atol=0.01)
    assert torch.allclose(motion.rotation[0] @ motion.rotation[0].T, torch.eye(3), atol=1e-5)


def test_a_turned_nose_is_a_turned_head():
    """The nose moves to the right of the picture with the head: the yaw is opposite to the mirror image's."""
    level = turned(crop_landmarks(), 0)
    mirrored = level[[2, 3, 0, 1, 4, 5, 7, 6, 8]] * [-1, 1] + [255, 0]
    one, other = (animal_motion(points.astype(np.float32), 256).motion for points in (level, mirrored))
    assert one.rotation[0, 0, 2] > 0.15 and torch.allclose(
        one.rotation[0, 0, 2], -other.rotation[0, 0, 2], atol=1e-4
    )
    nose = one.canonical[0, 16] @ one.rotation[0]
    assert nose[2] < (one.canonical[0, 4] @ one.rotation[0])[2]  # closer to the camera than the eyes


def test_lids_of_large_eyes_move_by_their_distance():
    animal = animal_motion(crop_landmarks(), 256)
    driver = animal.motion._replace(canonical=torch.zeros(1, 21, 3))
    driver.canonical[0, 1, 1] = driver.canonical[0, 3, 1] = EYE_OPENING
    driver.canonical[0, 11, 0] = 0.8
    gains = animal.gains(driver)
    closing = torch.zeros(1, 21, 3)
    closing[:, [0, 2], 1] = EYE_OPENING
    closed = transform_keypoints(animal.motion._replace(expression=closing * gains))[0]
    opened = transform_keypoints(animal.motion)[0]
    for upper, lower in ((0, 1), (2, 3)):
        assert opened[lower, 1] - opened[upper, 1] > 0.05
        assert closed[lower, 1] - closed[upper, 1] < 0.005
    assert gains[0, 13, 1] < 1 < gains[0, 0, 1]  # a small mouth, large eyes
    narrow = driver._replace(canonical=driver.canonical / 2)
    assert animal.gains(narrow)[0, 0, 1] > gains[0, 0, 1]


def test_a_cat_is_found():
    image = chelsea()
    (face,) = AnimalDetector().detect(image)
    off = np.linalg.norm(face_axes(face.landmarks).eyes - face_axes(CHELSEA).eyes, axis=1) / EYE_DISTANCE
    assert off.max() < 0.1
    assert np.linalg.norm(face.landmarks[4] - CHELSEA[4]) < 0.15 * EYE_DISTANCE
    scene = cv2.resize(astronaut(), (900, 900))
    scene[600:800, 500:800] = cv2.resize(image, (300, 200), interpolation=cv2.INTER_AREA)
    (small,) = AnimalDetector().detect(scene)
    middle = face_axes(CHELSEA).middle * [300 / 451, 200 / 300] + [500, 600]
    assert np.linalg.norm(face_axes(small.landmarks).middle - middle) < 20


@pytest.mark.parametrize("image", [portrait(), astronaut(), np.full((200, 300, 3), 128, np.uint8)])
def test_pictures_without_animals_have_none(image):
    assert AnimalDetector().detect(image) == []


def test_the_outline_encloses_the_face():
    outline = animal_outline(CHELSEA)
    assert outline.shape == (36, 3)
    for point in CHELSEA:
        assert cv2.pointPolygonTest(np.ascontiguousarray(outline[:, :2]), point.tolist(), False) > 0
    assert outline[0, 1] < CHELSEA[:, 1].min() and outline[18, 1] > CHELSEA[8, 1]


def test_a_person_makes_a_cat_blink(tmp_path, capsys):
    save_image(tmp_path / "cat.png", chelsea())
    template, closed = blink_template(tmp_path)
    out = tmp_path / "out.mp4"
    assert (
        main(["animate", str(tmp_path / "cat.png"), str(template), "-o", str(out), "--backend", "eager"]) == 0
    )
    printed = capsys.readouterr()
    assert printed.err.count("an animal's is animated") == 1
    frames = frames_of(out)
    assert frames.shape[1:] == (300, 450, 3)
    change = np.abs(frames[closed] - chelsea()[:, :450]).mean(-1)
    eye = np.zeros(change.shape, np.uint8)
    cv2.ellipse(eye, (171, 115), (24, 20), 0, 0, 360, 1, -1)
    brow = np.zeros_like(eye)
    brow[10:50, 150:250] = 1
    assert np.abs(frames[0] - chelsea()[:, :450]).mean(-1)[eye > 0].mean() < 12
    assert change[eye > 0].mean() > max(25, 2 * change[brow > 0].mean())


def test_a_box_replaces_the_search(animator, tmp_path):
    """For a cat and for a person; the box is in px of the file."""
    session = Session(animator.engine, animator.analyzer, 1)
    large = cv2.resize(chelsea(), None, fx=4, fy=4)
    options = AnimateOptions(box="320,80,1280,1120", subject="animal")
    source = open_photo(session, large, options)
    found = source.faces[0].still.placements[0]
    assert source.shape == (1200, 1804) and not source.note
    middle = (found.window.inverse() @ [256, 256, 1]) * 451 / 1804
    wanted = animal_square(CHELSEA).framed(2.3, 0, -0.125)
    assert np.linalg.norm(middle - wanted.centre) < 0.2 * EYE_DISTANCE
    person = open_photo(session, portrait(), AnimateOptions(box="100,40,110,140"))
    searched = open_photo(session, portrait(), AnimateOptions())
    assert not person.note and person.faces[0].animal is None
    keypoints = [transform_keypoints(each.faces[0].still.motion) for each in (person, searched)]
    assert (keypoints[0] - keypoints[1]).abs().max() < 0.08


def test_the_published_architecture_extracts_an_animals_motion_from_the_crop(tmp_path):
    animator = Animator(Engine(small_networks()), batch=2)
    session = Session(animator.engine, animator.analyzer, 1)
    face = open_photo(session, chelsea(), AnimateOptions(subject="animal")).faces[0]
    assert face.animal is None
    expected = animator.engine.extract_motion(face.still.crops)
    assert torch.equal(face.still.motion.canonical, expected.canonical)
    driving = write_video(tmp_path / "driving.mp4", driving_frames(2))
    for options in (
        AnimateOptions(subject="animal"),
        AnimateOptions(box="80,20,320,270", motion="absolute", driving_option="expression-friendly"),
    ):
        out = tmp_path / f"{options.motion}.mp4"
        assert animator.animate(chelsea(), driving, out, options).frames == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1,2,3", "give x,y,w,h"),
        ("a,b,c,d", "give x,y,w,h"),
        ("0,0,nan,9", "start at 0"),
        ("-1,0,20,20", "start at 0"),
        ("0,0,4,20", "4x20 px"),
    ],
)
def test_invalid_boxes_are_refused(text, part):
    with pytest.raises(UserError, match=part):
        parse_box(text)
    with pytest.raises(UserError, match=part):
        AnimateOptions(box=text)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"box": "0,0,90,90", "faces": "all"}, "--box names the one face .* --faces has no effect"),
        ({"box": "0,0,90,90", "crop": False}, "--box has no effect"),
        ({"subject": "animal", "crop": False}, "leave out --no-crop"),
        ({"subject": "horse"}, "choose one of auto, person, animal"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, part):
    with pytest.raises(UserError, match=part):
        AnimateOptions(**options)


@pytest.mark.parametrize(
    ("image", "options", "part"),
    [
        (chelsea(), {"subject": "person"}, "no person's face found"),
        (portrait(), {"subject": "animal"}, "no animal's face found"),
        (chelsea(), {"subject": "person", "box": "100,50,200,200"}, "no person's face in box"),
        (chelsea(), {"box": "300,50,200,200"}, "451x300 px"),
        (np.full((200, 200, 3), 90, np.uint8), {}, "no face found"),
    ],
)
def test_pictures_without_the_requested_face_are_refused(animator, image, options, part):
    session = Session(animator.engine, animator.analyzer, 1)
    with pytest.raises(UserError, match=part):
        open_photo(session, image, AnimateOptions(**options))


def test_videos_of_animals_are_refused(animator, tmp_path):
    video = write_video(tmp_path / "driving.mp4", driving_frames(2))
    for options in (AnimateOptions(subject="animal"), AnimateOptions(box="0,0,50,50")):
        with pytest.raises(UserError, match="is for a photo"):
            animator.animate(video, video, tmp_path / "out.mp4", options)
