"""`PublishedOptions` compared with the published program's arithmetic, row by row: pictures, files, entire runs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import published_reference as published
import pytest
import torch
from animation_samples import driving_frames, source_frames
from published_rows import (
    COORDINATE,
    FPS,
    NEUTRAL,
    Row,
    Rows,
    Section,
    check,
    expected,
    motion,
    numbers,
    ratios,
)
from small_base import small_networks

from liveportrait import Animator, FrameArrays, PublishedOptions
from liveportrait.animation.source.photo import cut, limit_size
from liveportrait.animation.source.video import SourceVideo
from liveportrait.animation.writer import _sound
from liveportrait.engine import Engine
from liveportrait.face import canonical as mesh
from liveportrait.face.choice import DRIVING_SCALE, DRIVING_Y
from liveportrait.face.composition import FaceLayers
from liveportrait.face.crop import (
    OUTLINE_GROWTH,
    CropWindow,
    Square,
    crop,
    driving_square,
    face_square,
    mean_window,
    outline_points,
    to_input,
)
from liveportrait.face.measures import opening_ratios
from liveportrait.face.paste import paste_back, paste_mask
from liveportrait.face.tracker import FaceTracker
from liveportrait.motion import PUBLISHED, Template
from liveportrait.motion.editing import edit
from liveportrait.motion.templates.files import from_published, to_published
from liveportrait.networks import BASE
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Features, Layers, Pose


def crop_windows(_: Engine) -> Rows:
    noise = np.random.default_rng(2)
    framings = ((2.3, 0, -0.125), (2.2, 0, -0.1), (2.5, 0.1, 0.05))
    for turn, (scale, vx, vy) in itertools.product((0, 30, 90, -120, 179), framings):
        across, along = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        matrix = np.array([[across, along], [-along, across]])
        points = (noise.normal(size=(60, 2)) * (40, 60) + (50, -50)) @ matrix + 250
        eyes, mouth = (np.array(place) @ matrix + 250 for place in ((50, -50), (55, 10)))
        square = square_of(points, eyes, mouth).framed(scale, vx, vy)
        wanted = published.crop_matrix(points, eyes, mouth, 512, scale, vx, vy)
        yield Row(f"crop at {turn}, {scale}", square.window(512).matrix, wanted, 1e-4)
        upright = published.crop_matrix(points, eyes, mouth, 512, scale, vx, vy, rotate=False)
        ours = square._replace(roll=0.0).window(512)
        yield Row(f"upright crop at {turn}, {scale}", ours.matrix, upright, 1e-4)
        back = published.inverted(upright)
        yield Row(f"back from a crop at {turn}, {scale}", ours.inverse(), back, 1e-4)
    boxes, squares = [], []
    for _ in range(5):
        points = noise.normal(size=(60, 2)) * (40, 60) + noise.normal(size=2) * 10 + 300
        eyes, mouth = (points.mean(0) + np.array([0, offset]) for offset in (-30, 30))
        matrix = published.crop_matrix(points, eyes, mouth, 512, 2.2, 0, -0.1, rotate=False)
        boxes.append(published.box(matrix, 512))
        squares.append(square_of(points, eyes, mouth).framed(DRIVING_SCALE, 0, DRIVING_Y))
    wanted = published.box_matrix(np.mean(boxes, axis=0), 512)
    yield Row("driving crop: mean of boxes", mean_window(squares).matrix, wanted, 1e-4)


def square_of(points: np.ndarray, eyes: np.ndarray, mouth: np.ndarray) -> Square:
    """The square of `face_square` for a face with given eyes, mouth and outline, from which its mesh is made."""
    landmarks = np.repeat(points.mean(0)[None], 478, axis=0)
    fixed = [*mesh.RIGHT_EYE_CORNERS, *mesh.RIGHT_EYE_LIDS, *mesh.LEFT_EYE_CORNERS, *mesh.LEFT_EYE_LIDS]
    free = [point for point in outline_points() if point not in (*fixed, *mesh.MOUTH_CORNERS)]
    landmarks[free[: len(points)]] = points
    landmarks[fixed] = eyes
    landmarks[list(mesh.MOUTH_CORNERS)] = mouth
    square = face_square(landmarks)
    return square._replace(side=square.side / OUTLINE_GROWTH)


def pictures(_: Engine) -> Rows:
    noise = np.random.default_rng(3)
    sizes = ((1280, 720), (2000, 3001), (3001, 2000), (1281, 1281), (100, 77), (1279, 33), (5000, 64))
    for height, width in sizes:
        image = np.zeros((height, width, 3), np.uint8)
        wanted = published.limited(height, width)
        yield Row(f"photo {width}x{height}", limit_size(image, 1280, "bilinear").shape[:2], wanted)
        yield Row(
            f"video {width}x{height}", SourceVideo(FrameArrays([image]), 1280, "bilinear").shape, wanted
        )
    image = noise.integers(0, 256, (150, 200, 3)).astype(np.uint8)
    for size in (64, 100, 256):
        wanted = published.resized(image, size, size)
        yield Row(f"resized to {size}", to_input(image, size, "bilinear"), wanted, 1)
    yield Row("photo reduced", limit_size(image, 120, "bilinear"), published.resized(image, 120, 90), 1)
    for turn in (0, 25, -60):
        window = Square(np.array([100.0, 70.0]), 170.0, np.radians(turn)).window(512)
        large = published.warped(image, published.inverted(window.matrix.astype(float)), 512, 512)
        yield Row(f"crop at {turn}", crop(image, window), large, 1)
        small = cut(image, window, BASE, "bilinear")
        yield Row(f"source's input at {turn}", small, published.averaged(np.rint(large), 256), 1)
        yield Row(f"driver's input at {turn}", small, published.resized(np.rint(large), 256, 256), 1)


def pasting(_: Engine) -> Rows:
    yield Row("mask", paste_mask(), published.mask())
    values = torch.tensor([-0.1, 0.0, 0.1, 0.5, 0.9999, 1.0, 1.2]).reshape(1, 1, 1, 7).expand(1, 3, 7, 7)
    layers = Layers(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 1), values)
    wanted = (values.double().numpy()[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    yield Row("truncated", FaceLayers.of(layers)[0].painted(), wanted)
    y, x = np.mgrid[:512, :512]
    generated = np.stack([x / 2, y / 2, (x + y) / 4], axis=2).astype(np.uint8)
    original = np.full((260, 320, 3), 90, np.uint8)
    original[::2] = 130
    for turn, side in itertools.product((0, 20, -75), (140, 300)):
        window = Square(np.array([150.0, 120.0]), float(side), np.radians(turn)).window(512)
        wanted = published.pasted(generated, original, published.inverted(window.matrix.astype(float)))
        yield Row(f"pasted at {turn}, {side}", paste_back(generated, window, original), wanted, 1)


def templates(_: Engine) -> Rows:
    some, seen = motion(3, 11), ratios(3, 12)
    content = to_published(Template(some, FPS, PUBLISHED.layout, seen[:, :2], seen[:, 2:]))
    yield Row("keys", set(content), {"n_frames", "output_fps", "motion", "c_eyes_lst", "c_lip_lst"})
    yield Row("n_frames", content["n_frames"], 3)
    yield Row("output_fps", content["output_fps"], 25)
    yield Row("frames", len(content["motion"]), 3)
    shapes = {
        "scale": (1, 1),
        "R": (1, 3, 3),
        "exp": (1, 21, 3),
        "t": (1, 3),
        "kp": (1, 21, 3),
        "x_s": (1, 21, 3),
    }
    values = numbers(some) | {"x_s": published.keypoints(numbers(some))}
    yield Row("keys of a frame", set(content["motion"][0]), set(shapes))
    for key, shape in shapes.items():
        yield Row(f"{key}: shape", {frame[key].shape for frame in content["motion"]}, {shape})
        yield Row(f"{key}: type", {frame[key].dtype for frame in content["motion"]}, {np.dtype(np.float32)})
        yield Row(key, np.concatenate([frame[key] for frame in content["motion"]]), values[key], 1e-6)
    for key, shape, part in (("c_eyes_lst", (1, 2), seen[:, :2]), ("c_lip_lst", (1, 1), seen[:, 2:])):
        yield Row(f"{key}: shape", {each.shape for each in content[key]}, {shape})
        yield Row(f"{key}: type", {each.dtype for each in content[key]}, {np.dtype(np.float32)})
        yield Row(key, np.concatenate(content[key]), part.numpy())
    largest = {
        (19, 0): -4e-6, (19, 1): -0.01509, (19, 2): -0.00255, (20, 0): 2.2e-4, (20, 1): 0.00563, (20, 2): 0.00273,
        (7, 0): -5.4e-4, (7, 1): 0.00263, (7, 2): 7e-6, (14, 0): -8.3e-4, (14, 1): -0.0018, (14, 2): -3e-6,
        (17, 0): -6.4e-4, (17, 1): -0.00117, (17, 2): 6e-5,
    }  # fmt: skip
    for (keypoint, axis), value in largest.items():
        yield Row(f"neutral lips {keypoint}, {axis}", NEUTRAL[0, keypoint, axis], value, 6e-6)


def templates_read(_: Engine) -> Rows:
    some, seen = motion(3, 11), ratios(3, 12)
    content = to_published(Template(some, Fraction(20), PUBLISHED.layout, seen[:, :2], seen[:, 2:]))
    older = {name: content[name] for name in ("n_frames", "output_fps")}
    older["motion"] = [
        {"R_d": frame["R"]} | {name: frame[name] for name in ("scale", "exp", "t")}
        for frame in content["motion"]
    ]
    older |= {"c_d_eyes_lst": content["c_eyes_lst"], "c_d_lip_lst": content["c_lip_lst"]}
    for spelling, each in (("newer", content), ("older", older)):
        read = from_published(each)
        for name, ours in numbers(read.motion).items():
            if name != "kp" or spelling == "newer":
                yield Row(f"{spelling}: {name}", ours, numbers(some)[name], 1e-6)
        yield Row(f"{spelling}: eyes", read.eye_ratios.numpy(), seen[:, :2].numpy())
        yield Row(f"{spelling}: lips", read.lip_ratios.numpy(), seen[:, 2:].numpy())
        yield Row(f"{spelling}: rate", read.fps, 20)
    bare = from_published({"motion": older["motion"]})
    yield Row("without a rate", bare.fps, 25)
    yield Row("without openings", (bare.eye_ratios, bare.lip_ratios), (None, None))


def openings_measured(_: Engine) -> Rows:
    noise = np.random.default_rng(5)
    pairs = (
        (mesh.RIGHT_EYE_LIDS, mesh.RIGHT_EYE_CORNERS),
        (mesh.LEFT_EYE_LIDS, mesh.LEFT_EYE_CORNERS),
        (mesh.INNER_LIPS, mesh.MOUTH_CORNERS),
    )
    for size in (1.0, 200.0):
        points = (noise.normal(size=(478, 3)) * size).astype(np.float32)
        for ours, (height, width) in zip(opening_ratios(points), pairs, strict=True):
            far = [points[list(pair), :2].astype(float) for pair in (height, width)]
            yield Row(f"opening {height}, {size}", float(ours), published.opening(*far), 1e-5)


def sound(_: Engine) -> Rows:
    for own, theirs, priority in itertools.product((True, False), (True, False), ("driving", "source")):
        known = [Path(name) if has else None for name, has in (("source", own), ("driving", theirs))]
        drivers = [SimpleNamespace(driver=SimpleNamespace(audio=known[1]))]
        rendering = SimpleNamespace(source=SimpleNamespace(audio=known[0]), drivers=drivers)
        chosen = published.sound(own, theirs, priority)
        ours = _sound(rendering, priority)
        yield Row(f"sound of {own}, {theirs}, {priority}", ours and ours.name, chosen)


def sliders(_: Engine) -> Rows:
    still = motion(1, 13)
    for name, (low, high) in published.SLIDER_ENDS.items():
        units = 1.0 if name in ("smile", "move_x", "move_y") else None
        for end, share in itertools.product((low, high), (0.5, 1.0)):
            value = share * end * units if units else share * np.sign(end)
            ours = edit(still, {name: torch.tensor([value], dtype=torch.float32)}, PUBLISHED).expression
            wanted = numbers(still)["exp"].copy()
            for (keypoint, axis), offset in published.SLIDERS[name](share * end).items():
                wanted[0, keypoint, "xyz".index(axis)] += offset
            yield Row(f"{name} {share * end:g}", ours.numpy(), wanted, 1e-6)
    three = {name: torch.tensor([degrees]) for name, degrees in (("pitch", 3.0), ("yaw", 4.0), ("roll", 5.0))}
    start = still._replace(rotation=rotation_matrix(*three.values()))
    for added in ((10, 0, 0), (0, -20, 0), (0, 0, 12), (5, 6, 7)):
        values = {name: torch.tensor([float(more)]) for name, more in zip(three, added, strict=True)}
        turned = published.rotation(3 + added[0], 4 + added[1], 5 + added[2])
        yield Row(f"turned {added}", edit(start, values, PUBLISHED).rotation[0].numpy(), turned, 1e-6)
    for factor in (0.9, 1.2):
        ours = edit(still, {"move_z": torch.tensor([factor])}, PUBLISHED).scale.numpy()
        yield Row(f"size {factor}", ours, factor * numbers(still)["scale"], 1e-6)


class Run:
    """One run of the program on pictures: the inputs of the networks, and the reference's result for them."""

    def __init__(self, animator: Animator, source: Any, driving: Any, options: PublishedOptions) -> None:
        self.engine = engine = animator.engine
        poses = []

        def layers(features: Features, home: Pose, driven: Pose, cues: torch.Tensor | None) -> Layers:
            poses.append(driven.keypoints.numpy())
            return Engine.layers(engine, features, home, driven, cues)

        with pytest.MonkeyPatch.context() as patch, animator.open(source, options) as opened:
            patch.setattr(engine, "layers", layers)
            self.source = opened.source
            rendering = opened.drive(driving, options)
            self.fps, self.driver = rendering.fps, rendering.drivers[0].driver
            faces = [faces[0] for _, faces in rendering.uncomposed()]
        self.keypoints = np.concatenate(poses)
        self.crops = np.stack([face.crop for face in faces])
        self.driving = np.stack([face.driving for face in faces])

    def rows(self, name: str, frames: int, fps: Fraction | int) -> Rows:
        """Rows for the number of frames and for their keypoints."""
        yield Row(f"{name}: frames", len(self.keypoints), frames)
        yield Row(f"{name}: rate", self.fps, fps)
        own, theirs = (
            self.engine.extract_motion(crops[:1] if (crops == crops[:1]).all() else crops)
            for crops in (self.crops, self.driving)
        )
        wanted = expected(self.engine, own, theirs, "all", True)
        for number, (ours, published_points) in enumerate(zip(self.keypoints, wanted, strict=True)):
            yield Row(f"{name}: keypoints {number}", ours, published_points, COORDINATE)


def whole_runs(engine: Engine) -> Rows:
    options = PublishedOptions(compare=True)
    animator, side = Animator(engine, batch=8), engine.variant.input_size
    square, wide = driving_frames(4), source_frames(5, cut=5)
    photo = np.ascontiguousarray(square[0][:280, :290])

    def seen(frame: np.ndarray, window: CropWindow) -> np.ndarray:
        large = published.warped(frame, published.inverted(window.matrix.astype(float)), 512, 512)
        return published.averaged(np.rint(large), side)

    run = Run(animator, photo, FrameArrays(square, 30), options)
    yield from run.rows("photo by square video", 4, 30)
    for number, frame in enumerate(square):
        yield Row(f"square frame {number}", run.driving[number], published.resized(frame, side, side), 1)
    window = run.source.faces[0].still.placements[0].window
    yield Row("photo's crop", run.crops[0], seen(photo, window), 2)

    run = Run(animator, photo, FrameArrays(wide, 24), options)
    yield from run.rows("photo by wide video", 5, 24)
    boxes = [driving_square(face.landmarks) for face in map(FaceTracker(animator.analyzer), wide)]
    for number, frame in enumerate(wide):
        yield Row(f"wide frame {number}", run.driving[number], seen(frame, mean_window(boxes)), 2)

    run = Run(animator, FrameArrays(wide, 24), FrameArrays(square, 48), options)
    yield from run.rows("video by video of twice its rate", 4, 24)
    path = run.source.faces[0].path
    for number, frame in enumerate(wide[:4]):
        window = path.seen[number].square.framed(2.3, 0, -0.125).window()
        yield Row(f"window {number} does not glide", path.windows[number].matrix, window.matrix, 1e-3)
        yield Row(f"source frame {number}", run.crops[number], seen(frame, window), 2)

    run = Run(animator, FrameArrays(square, 30), FrameArrays(square[::-1], 30), replace(options, crop=False))
    yield from run.rows("video that is a face already", 4, 30)
    for number, frame in enumerate(square):
        yield Row(f"whole frame {number}", run.crops[number], published.resized(frame, side, side), 1)

    yield from Run(animator, FrameArrays(wide, 24), square[1], options).rows("video by photo", 5, 24)
    yield from Run(animator, photo, square[1], options).rows("photo by photo", 1, 25)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Networks in the published layout, of random numbers; heads are about as large as they are in crops."""
    networks = small_networks()
    networks.motion.detector.fc_scale.bias.data.fill_(1.4)
    return Engine(networks)


SECTIONS = (
    crop_windows,
    pictures,
    pasting,
    templates,
    templates_read,
    openings_measured,
    sound,
    sliders,
    whole_runs,
)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_the_rows_of(section: Section, engine: Engine) -> None:
    check(section, engine)
