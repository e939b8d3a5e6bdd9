"""Several faces in one photo or video, each with its own driver."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from animation_samples import bundled_networks, people, write_video

from liveportrait import AnimateOptions, Animator, UserError
from liveportrait.animation.compositor import Compositor, RenderedFace
from liveportrait.animation.options import PasteOptions, SourceOptions
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FacePlacement
from liveportrait.animation.source.photo import PhotoSource, open_photo
from liveportrait.animation.source.video import open_video
from liveportrait.engine import Engine
from liveportrait.face.canonical import OVAL, canonical_face
from liveportrait.face.composition import FaceLayers
from liveportrait.face.crop import Square
from liveportrait.face.paste import (
    MASK_SIDE,
    face_mask,
    may_reach_crop,
    outline_in_crop,
    outline_mask,
    paste_mask,
    without_other_heads,
)
from liveportrait.media import VideoReader, load_image
from liveportrait.motion import Template, bundled_templates
from liveportrait.networks.interface import Motion
from liveportrait.networks.variants import COMPACT

SCENE, FRAMES = 4, 10  # the cut comes after the first four frames


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=4)


def in_a_row(*portraits: np.ndarray) -> np.ndarray:
    """The portraits side by side, (300,n*220,3)."""
    return np.hstack([portrait[:, 40:260] for portrait in portraits])


def motions(count: int) -> list[Template]:
    """Different motions, starting from a moment when they are in progress."""
    templates = bundled_templates()
    return [
        Template(
            Motion(*(part[8 : 8 + count] for part in templates[name].motion)), templates[name].fps, layout
        )
        for name, layout in ((name, templates[name].layout) for name in ("talk", "smile", "look-around"))
    ]


def face_width(x: float, y: float, width: float) -> np.ndarray:
    """The outline (36,3) of a frontal face with its middle at (x, y), px."""
    outline = canonical_face().vertices[list(OVAL)]
    outline = outline - outline.mean(axis=0)
    return (outline * (width / np.ptp(outline[:, 0])) + np.array([x, y, 0])).astype(np.float32)


def compositor(frame: np.ndarray, alpha: bool = False) -> Compositor:
    """A compositor for a photo whose faces come from elsewhere."""
    source = PhotoSource(name="photo", shape=frame.shape[:2], image=frame, faces=())
    return Compositor(source, PasteOptions(alpha=alpha), COMPACT)


def rendered(
    number: int, outline: np.ndarray, width: float, picture: np.ndarray, roll: float
) -> RenderedFace:
    """A picture as the rendered face of that number, within the outline."""
    window = Square(outline[:, :2].mean(axis=0).astype(float), 2.3 * width, roll).window()
    nothing = np.zeros((1, 1, 2), np.float32)
    layers = FaceLayers(nothing, nothing[..., 0], picture.astype(np.float32))
    return RenderedFace(number, layers, FacePlacement(window, width, outline), picture, None)


def test_each_face_of_a_photo_follows_its_own_driver(animator, tmp_path):
    """The result is that of each driver alone, except where faces overlap."""
    photo = in_a_row(*people())
    drivers = motions(5)
    options = AnimateOptions(faces="all", compare=True)
    together = animator.animate(photo, drivers, tmp_path / "all", options)
    assert together.frames == 5
    result = load_image(tmp_path / "all" / "frame-000004.png").astype(int)
    sheet = load_image(tmp_path / "all_compare" / "frame-000004.png")
    assert sheet.shape == (3 * 256, 2 * 256, 3)
    for number, driver in enumerate(drivers):
        middle = slice(40, 190), slice(number * 220 + 70, number * 220 + 150)
        out = tmp_path / f"{number}"
        animator.animate(photo, driver, out, AnimateOptions(faces=str(number + 1)))
        alone = load_image(out / "frame-000004.png").astype(int)
        assert np.abs(result - alone)[middle].max() <= 1
        others = [
            np.abs(alone - photo)[40:190, k * 220 + 70 : k * 220 + 150].max() for k in range(3) if k != number
        ]
        assert np.abs(alone - photo)[middle].mean() > 0.5 and max(others) == 0


def test_assignment_survives_a_cut(animator, tmp_path):
    one, two, three = people()
    first, second = in_a_row(one, two, three), in_a_row(three, one, two)
    path = write_video(tmp_path / "crowd.mp4", [first] * SCENE + [second] * (FRAMES - SCENE))
    session = Session(animator.engine, animator.analyzer, batch=4)
    source = open_video(session, VideoReader(path), SourceOptions(faces="all"))
    assert source.cuts == (SCENE,) and len(source.faces) == 3
    slots = [
        [int(observation.square.centre[0] // 220) if observation else None for observation in face.path.seen]
        for face in source.faces
    ]
    assert slots == [[number] * SCENE + [(number + 1) % 3] * (FRAMES - SCENE) for number in range(3)]

    drivers = motions(FRAMES)
    report = animator.animate(path, drivers, tmp_path / "out", AnimateOptions(faces="1,2,3", assign="3,1,2"))
    assert report.frames == FRAMES and not report.passed
    frames = list(VideoReader(path))
    for number in range(FRAMES):
        result = load_image(report.out / f"frame-{number:06d}.png")
        for slot in range(3):
            part = slice(40, 190), slice(slot * 220 + 70, slot * 220 + 150)
            assert (result[part] != frames[number][part]).any()


def test_only_the_chosen_person_is_followed_even_past_a_stranger(animator, tmp_path):
    one, two, three = people()
    path = write_video(tmp_path / "v.mp4", [in_a_row(one, two)] * 3 + [in_a_row(three, three)] * 3)
    report = animator.animate(path, motions(6)[0], tmp_path / "out", AnimateOptions(faces="2"))
    assert report.passed == ((3, 5),)
    frame, result = list(VideoReader(path))[2], load_image(tmp_path / "out" / "frame-000002.png")
    assert (result[:, :150] == frame[:, :150]).all() and (result[:, 260:] != frame[:, 260:]).any()


def test_missing_faces_and_mismatched_drivers_are_refused(animator, tmp_path):
    photo = in_a_row(*people()[:2])
    driver = motions(2)[0]
    with pytest.raises(UserError, match="face 3, but the source shows 2 faces"):
        animator.animate(photo, driver, tmp_path / "out.mp4", AnimateOptions(faces="3"))
    with pytest.raises(UserError, match="3 of DRIVING are too many for 2 chosen faces"):
        animator.animate(photo, [driver] * 3, tmp_path / "out.mp4", AnimateOptions(faces="all"))
    with pytest.raises(UserError, match="2 faces do not fit into one crop"):
        animator.animate(photo, driver, tmp_path / "o.mp4", AnimateOptions(faces="all", paste_back=False))
    assert not list(tmp_path.iterdir())


def test_a_face_of_six_pixels_is_ignored(animator, tmp_path):
    tiny = np.full((200, 200, 3), 127, np.uint8)
    tiny[90:106, 90:106] = cv2.resize(people()[0][:300, :300], (16, 16), interpolation=cv2.INTER_AREA)
    with pytest.raises(UserError, match="no face found in the source: use a picture that shows one, 20 px"):
        animator.animate(tiny, motions(1)[0], tmp_path / "out.png")


@pytest.mark.parametrize("count", [2, 4, 6])
def test_all_faces_of_a_picture_are_found_from_left_to_right(animator, count):
    photo = in_a_row(*(people() * 2)[:count])
    session = Session(animator.engine, animator.analyzer, batch=4)
    source = open_photo(session, photo, SourceOptions(max_size=2000, faces="all"))
    placements = [face.view(session, [0], [photo]).placements[0] for face in source.faces]
    assert [int(each.outline[:, 0].mean() // 220) for each in placements] == list(range(count))
    assert source.found == count and not source.bystanders


def test_a_crop_does_not_cover_its_neighbours_head():
    outlines = [face_width(200, 200, 80), face_width(300, 200, 80)]
    window = Square(np.array([200.0, 200.0]), 240.0, 0.0).window()
    own, other = (outline_in_crop(outline, window) for outline in outlines)
    mask = without_other_heads(paste_mask(MASK_SIDE), own, [other])
    inside = outline_mask(other, MASK_SIDE, 1.0) == 255
    assert mask[inside].max() < 16 and mask[outline_mask(own, MASK_SIDE, 1.0) == 255].min() > 250
    far = outline_in_crop(face_width(900, 200, 80), window)
    assert may_reach_crop(other) and not may_reach_crop(far)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_larger_of_two_overlapping_heads_is_in_front(order):
    """Regardless of their numbers; the smaller one is visible where it is not covered."""
    near, far = face_width(200, 200, 120), face_width(300, 170, 60)
    faces = []
    for number, (outline, width, level) in enumerate([(near, 120.0, 250), (far, 60.0, 10)]):
        picture = np.full((256, 256, 3), level, np.uint8)
        faces.append(rendered(number, outline, width, picture, roll=0.0))
    frame = np.full((400, 500, 3), 128, np.uint8)
    result = compositor(frame).compose(frame, [faces[index] for index in order])
    assert result[200, 200, 0] == 250 and result[200, 250, 0] > 240  # the head in front and its edge
    assert result[165, 315, 0] < 20  # the visible part of the other
    assert (result[:30] == 128).all() and (frame == 128).all()


def test_the_alpha_layer_over_the_frame_equals_the_composed_frame():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    faces = []
    for number, (x, width) in enumerate([(150, 80.0), (240, 70.0)]):
        picture = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        faces.append(rendered(number, face_width(x, 150, width), width, picture, roll=0.2))
    composed = compositor(frame).compose(frame, faces).astype(float)
    layer = compositor(frame, alpha=True).compose(frame, faces).astype(float)
    share = layer[..., 3:] / 255
    laid = share * layer[..., :3] + (1 - share) * frame
    assert np.abs(laid - composed).max() < 3
    assert (layer[:, 390:, 3] == 0).all() and (layer[150, 150, 3] == 255).all()


def test_a_face_mask_follows_the_face_and_stays_off_the_border():
    window = Square(np.array([200.0, 200.0]), 230.0, 0.0).window()
    outline = outline_in_crop(face_width(200, 200, 100), window)
    moved = outline + np.array([30, 0], np.float32)
    alone, both = face_mask([outline]), face_mask([outline, moved])
    assert alone.shape == (MASK_SIDE, MASK_SIDE) and alone[128, 128] == 255 and alone[:4].max() == 0
    assert (both >= alone).all() and both[outline_mask(moved, MASK_SIDE, 1.0) == 255].min() > 200
    assert len(np.unique(alone)) > 50  # a soft edge
