"""`PublishedOptions` compared with the published program's arithmetic, row by row: motion."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import published_reference as published
import pytest
import torch
import tyro
from animation_samples import bundled_networks
from published_rows import (
    COORDINATE,
    FPS,
    FRAMES,
    REGIONS,
    Row,
    Rows,
    Section,
    as_long,
    check,
    expected,
    modules,
    motion,
    numbers,
    ratios,
)
from small_base import small_networks

from liveportrait import AnimateOptions, Animator, PublishedOptions, UserError
from liveportrait.animation.driver.base import PHOTO_FPS
from liveportrait.animation.driver.template import open_template_driver
from liveportrait.animation.options import RetargetOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.published.transfer import OBSERVATION_VARIANCE, Smoothed, transfer
from liveportrait.animation.session import Session
from liveportrait.animation.source.base import FaceView, Source
from liveportrait.animation.source.crop_path import CropPath
from liveportrait.animation.source.observations import FaceObservations
from liveportrait.animation.source.photo import PhotoFace
from liveportrait.animation.source.video import VideoFace
from liveportrait.apps.cli import Command, command_for
from liveportrait.apps.jobs import Job, opening_of, options_from
from liveportrait.choices import DrivingOption, Region
from liveportrait.engine import Engine
from liveportrait.face.choice import DRIVING_SCALE, DRIVING_Y
from liveportrait.motion import PUBLISHED, Template, hull_volume
from liveportrait.motion.retargeting import LIPS_OPEN
from liveportrait.motion.smoothing import PROCESS_VARIANCE, StreamSmoother
from liveportrait.networks import BASE, build
from liveportrait.networks.geometry import decode_pose_bins, pose_of, rotation_matrix
from liveportrait.networks.interface import Motion

PHOTO, VIDEO = (
    motion(1, 1),
    motion(FRAMES, 2)._replace(canonical=motion(1, 2).canonical.expand(FRAMES, -1, -1)),
)
DRIVER, PICTURE = motion(FRAMES, 3), motion(1, 4)
SOURCES, DRIVERS = {"photo": PHOTO, "video": VIDEO}, {"video": DRIVER, "photo": PICTURE}


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Networks in the published layout, of random numbers."""
    return Engine(small_networks())


def view_of(motion: Motion, own: torch.Tensor | None) -> FaceView:
    return FaceView({}, motion, own, np.empty((motion.batch, 0)), ())


class _VideoSource(Source):
    def frames(self, session: Session) -> Any:
        raise NotImplementedError


def played(
    engine: Engine,
    source: Motion,
    driving: Motion,
    options: PublishedOptions,
    own: torch.Tensor | None = None,
    opened: torch.Tensor | None = None,
    is_animal: bool = False,
) -> np.ndarray:
    """The keypoints (N,21,3) that the program gives; batch 1 is a picture."""
    template = Template(
        driving, FPS, PUBLISHED.layout, *(() if opened is None else (opened[:, :2], opened[:, 2:]))
    )
    session = Session(engine, None, batch=4)  # type: ignore[arg-type]  # nothing is looked for
    driver = open_template_driver(session, template, "it", options.start, options.framing)
    is_video = source.batch > 1
    view = view_of(source, own)
    face: Any = PhotoFace(view, is_animal=is_animal)
    if is_video:
        kind = type("OpenedFace", (VideoFace,), {"openings": own})
        path = CropPath(FaceObservations.absent(FRAMES), ())
        face = kind(path, source, np.arange(FRAMES), source.expression)
    opening = _VideoSource(name="it", shape=(64, 64), faces=(face,), fps=FPS if is_video else None)
    poser = transfer(engine, opening, face, driver, 0, options)
    count = max(source.batch, driving.batch)
    batch = driver.whole.take([0] * count if driving.batch == 1 else range(count))
    return poser.poses(view, Cue([row / float(FPS) for row in range(count)], batch)).keypoints.numpy()


def options(_: Engine) -> Rows:
    ours = PublishedOptions()
    wanted = {
        "crop": True, "crop_driving": False, "crop_scale": 2.3, "crop_x": 0.0, "crop_y": -0.125, "max_size": 1280,
        "motion": "relative", "region": "all", "driving_option": "expression-friendly", "multiplier": 1.0,
        "stitching": True, "paste_back": True, "audio": "driving", "mask": "template", "reference": "first",
        "expression": "landmarks", "smooth": 0.0, "match_colour": False, "detail": False, "photo_pose": False,
        "lock_head": False, "lock_scale": False, "lock_shoulders": False, "expression_strength": 1.0,
    }  # fmt: skip
    for name, value in wanted.items():
        yield Row(name, getattr(ours, name), value)
    for name in ("eye_opening", "left_eye_opening", "right_eye_opening", "lip_opening"):
        yield Row(name, getattr(ours.retarget, name), None)
    yield Row("normalize-lips", ours.retarget.normalize_lips, False)
    yield Row("regions", set(get_args(Region)), set(REGIONS.values()))
    yield Row("driving options", set(get_args(DrivingOption)), {"expression-friendly", "pose-friendly"})
    every = list(itertools.product(range(21), range(3)))
    for region, ours_region in REGIONS.items():
        for partial, mask in ((False, PUBLISHED.relative_mask), (True, PUBLISHED.absolute_mask)):
            wanted_mask = published.mask_of(region, partial)
            yield Row(f"points of {region}, {partial}", mask(ours_region).numpy(), wanted_mask)
    animals = PUBLISHED.of_animals.absolute_mask("all").nonzero().tolist()
    yield Row("points of animals", sorted(map(tuple, animals)), every)
    yield Row("driving crop: scale", DRIVING_SCALE, 2.2)
    yield Row("driving crop: y", DRIVING_Y, -0.1)
    yield Row("smoothing: observation variance", OBSERVATION_VARIANCE, 3e-7)
    yield Row("smoothing: process variance", PROCESS_VARIANCE, 1e-5)
    yield Row("lips open from", LIPS_OPEN, 0.03)
    yield Row("rate of a photo", PHOTO_FPS, 25)
    for height, width, cuts in ((512, 512, False), (720, 1280, True), (1280, 720, True)):
        yield Row(f"driver {width}x{height} is cropped", ours.cuts_out(height, width), cuts)
    yield Row("square driver, asked for", PublishedOptions(crop_driving=True).cuts_out(512, 512), True)
    yield Row("without stitching nothing is pasted", PublishedOptions(stitching=False).paste_back, False)


def geometry(_: Engine) -> Rows:
    noise = np.random.default_rng(0)
    logits = noise.normal(size=(8, 66)) * 3
    decoded = decode_pose_bins(torch.tensor(logits)).numpy()
    for ours, angle in zip(decoded, published.pose_angle(logits), strict=True):
        yield Row("pose bins", ours, angle, 1e-6)
    for angles in [
        (0, 0, 0),
        (20, 0, 0),
        (0, -30, 0),
        (0, 0, 45),
        (10, 20, 30),
        (-40, 60, -80),
        (5, -5, 170),
    ]:
        ours = rotation_matrix(*(torch.tensor([float(each)]) for each in angles))[0].numpy()
        yield Row(f"rotation {angles}", ours, published.rotation(*angles), 1e-6)
    for seed in range(8):
        some = motion(2, 20 + seed)
        yield Row(
            f"keypoints {seed}", pose_of(some).keypoints.numpy(), published.keypoints(numbers(some)), 1e-6
        )
    for seed in range(4):
        points = torch.randn(21, 3, generator=torch.Generator().manual_seed(seed))
        volume = published.ConvexHull(points.double().numpy()).volume
        yield Row(f"hull {seed}", hull_volume(points), volume, 1e-5)


def small_networks_and_sizes(engine: Engine) -> Rows:
    source, driving = (pose_of(motion(3, seed)).keypoints for seed in (5, 6))
    known, own = modules(engine), ratios(3, 7)
    pair = (source.double().numpy(), driving.double().numpy())
    yield Row(
        "stitching",
        engine.stitch(source, driving).numpy(),
        published.stitched(known["stitching"], *pair),
        1e-6,
    )
    eyes = published.run(known["eye"], pair[0], own.double().numpy()).reshape(-1, 21, 3)
    yield Row("eyes", engine.retarget_eyes(source, own).numpy(), eyes, 1e-6)
    lips = published.run(known["lip"], pair[0], own[:, :2].double().numpy()).reshape(-1, 21, 3)
    yield Row("lips", engine.retarget_lips(source, own[:, :2]).numpy(), lips, 1e-6)
    with torch.device("meta"):
        whole = build(BASE, retargeting=True)
    counts = {
        "appearance": 836_224, "motion": 28_118_728, "warping": 45_529_829, "generator": 55_365_388,
        "stitching": 45_249, "lip_retargeting": 37_311, "eye_retargeting": 144_703,
    }  # fmt: skip
    for name, module in whole.modules().items():
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        # The published counts include spectrally normed weights once.
        yield Row(f"parameters of {name}", sum(each.numel() for each in module.parameters()), counts[name])
        assert tensors


def smoothing(_: Engine) -> Rows:
    noise = np.random.default_rng(1)
    for count, variance in itertools.product((1, 2, 5, 40), (3e-7, 3e-6, 1e-2)):
        series = noise.normal(size=(count, 4)).cumsum(axis=0)
        smoother = StreamSmoother(variance, lag=count)
        ours = torch.cat([smoother.push(torch.tensor(series)), smoother.flush()]).numpy()
        yield Row(f"{count} frames, {variance:g}", ours, published.smooth(series, variance), 1e-9)
    # In any order of summation; rotations are not made orthonormal.
    for is_relative in (True, False):
        face = VideoFace(
            CropPath(FaceObservations.absent(FRAMES), ()), VIDEO, np.arange(FRAMES), VIDEO.expression
        )
        ours = Smoothed(DRIVER, DRIVER.rows([0]), face, FPS, is_relative).at([0, 0.04, 0.2])
        rotation, expression = numbers(DRIVER)["R"], numbers(DRIVER)["exp"]
        if is_relative:
            rotation = rotation @ rotation[:1].transpose(0, 2, 1) @ numbers(VIDEO)["R"]
            expression = numbers(VIDEO)["exp"] + expression - expression[:1]
        yield Row("smoothed rotation", ours.rotation.numpy(), published.smooth(rotation)[[0, 1, 5]], 1e-6)
        yield Row(
            "smoothed expression", ours.expression.numpy(), published.smooth(expression)[[0, 1, 5]], 1e-6
        )


def transfer_of_motion(engine: Engine) -> Rows:
    cases = itertools.product(SOURCES, DRIVERS, REGIONS, (True, False), (True, False), (1.0, 1.5))
    for source, driver, region, relative, stitching, multiplier in cases:
        chosen = PublishedOptions(
            region=REGIONS[region],
            motion="relative" if relative else "absolute",
            stitching=stitching,
            multiplier=multiplier,
        )
        own, driving = SOURCES[source], DRIVERS[driver]
        name = f"{source} by {driver}, {region}, {chosen.motion}, stitching {stitching}, times {multiplier}"
        wanted = expected(engine, own, driving, region, relative, stitching=stitching, multiplier=multiplier)
        yield Row(name, played(engine, own, driving, chosen), wanted, COORDINATE)


def openings(engine: Engine) -> Rows:
    cases = itertools.product(SOURCES, ("eyes", "lips", "both"), (True, False), (True, False), (1.0, 0.7))
    for source, what, relative, stitching, multiplier in cases:
        own, seen = ratios(SOURCES[source].batch, 8), ratios(FRAMES, 9)
        retarget = RetargetOptions(
            eye_opening=None if what == "lips" else "driver", lip_opening=None if what == "eyes" else "driver"
        )
        chosen = PublishedOptions(
            motion="relative" if relative else "absolute",
            stitching=stitching,
            multiplier=multiplier,
            retarget=retarget,
        )
        wanted = expected(
            engine, SOURCES[source], DRIVER, "all", relative, stitching=stitching, multiplier=multiplier,
            eyes=None if what == "lips" else seen[:, :1].double().numpy(),
            lips=None if what == "eyes" else seen[:, 2:].double().numpy(),
            own=own.double().expand(FRAMES, -1).numpy(),
        )  # fmt: skip
        name = f"{what} of a {source}, {chosen.motion}, stitching {stitching}, times {multiplier}"
        yield Row(name, played(engine, SOURCES[source], DRIVER, chosen, own, seen), wanted, COORDINATE)


def closed_lips(engine: Engine) -> Rows:
    cases = itertools.product(SOURCES, DRIVERS, (0.0, 0.02, 0.1), (True, False), (1.0, 1.3))
    for source, driver, opening, stitching, multiplier in cases:
        own = ratios(SOURCES[source].batch, 10)
        own[:, 2] = opening
        chosen = PublishedOptions(
            stitching=stitching, multiplier=multiplier, retarget=RetargetOptions(normalize_lips=True)
        )
        wanted = expected(
            engine, SOURCES[source], DRIVERS[driver], "all", True, stitching=stitching, multiplier=multiplier,
            normalize_lips=True,
            own=own.double().expand(max(SOURCES[source].batch, DRIVERS[driver].batch), -1).numpy(),
        )  # fmt: skip
        name = f"lips {opening} of a {source} by {driver}, stitching {stitching}, times {multiplier}"
        yield Row(name, played(engine, SOURCES[source], DRIVERS[driver], chosen, own), wanted, COORDINATE)


def kept_eyes(engine: Engine) -> Rows:
    cases = itertools.product(SOURCES, DRIVERS, (0.1, 0.3), (True, False), (True, False))
    for source, driver, opening, stitching, with_lips in cases:
        own = ratios(SOURCES[source].batch, 14)
        own[0, :2] = torch.tensor([opening, opening + 0.04])
        retarget = RetargetOptions(normalize_eyes=True, normalize_lips=with_lips)
        chosen = PublishedOptions(stitching=stitching, retarget=retarget)
        source_openings = own.double().numpy()
        count = max(SOURCES[source].batch, DRIVERS[driver].batch)
        wanted = expected(
            engine, SOURCES[source], DRIVERS[driver], "all", True, stitching=stitching, normalize_lips=with_lips,
            eye_target=published.kept_opening(source_openings[0]) if source == "video" else None,
            own=np.repeat(source_openings, count // len(source_openings), axis=0),
        )  # fmt: skip
        name = f"eyes {opening} of a {source} by {driver}, stitching {stitching}, lips {with_lips}"
        yield Row(name, played(engine, SOURCES[source], DRIVERS[driver], chosen, own), wanted, COORDINATE)


def animals(engine: Engine) -> Rows:
    for stitching, multiplier in itertools.product((True, False), (1.0, 1.75)):
        x_s = np.repeat(published.keypoints(numbers(PHOTO)), FRAMES, axis=0)
        moved = published.animal(*as_long(PHOTO, DRIVER))
        wanted = published.finished(
            x_s, moved, modules(engine), relative=False, stitching=stitching, multiplier=multiplier
        )
        for motion_mode, region in (("relative", "all"), ("absolute", "all"), ("relative", "lips")):
            chosen = PublishedOptions(
                motion=motion_mode, region=region, stitching=stitching, multiplier=multiplier
            )
            ours = played(engine, PHOTO, DRIVER, chosen, is_animal=True)
            name = f"animal, {motion_mode}, {region}, stitching {stitching}, times {multiplier}"
            yield Row(name, ours, wanted, COORDINATE)


SECTIONS = (
    options,
    geometry,
    small_networks_and_sizes,
    smoothing,
    transfer_of_motion,
    openings,
    closed_lips,
    kept_eyes,
    animals,
)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_the_rows_of(section: Section, engine: Engine) -> None:
    check(section, engine)


def test_published_options_change_defaults_but_not_given_values() -> None:
    """On the command line, in a job, and in options that two jobs share."""
    given = ["--as-published", "--reference", "match", "--crop-driving", "--driving-crop-scale", "2.5"]
    line = ["animate", "me.jpg", "driving.mp4", "-o", "out.mp4", *given]
    command = tyro.cli(command_for(line), args=line, config=(tyro.conf.FlagCreatePairsOff,))
    wanted = PublishedOptions(reference="match", crop_driving=True, driving_crop_scale=2.5)
    values = {"reference": "match", "crop-driving": True, "driving-crop-scale": 2.5}
    made = options_from("animate", {"as-published": True} | values)
    assert command.animation == made == wanted and made.as_published and made.framing == "follow"
    opened = opening_of(Job("animate", Path("me.jpg"), (Path("driving.mp4"),), Path("out.mp4"), made))
    assert opened[1].as_published and opened[1].max_size == 1280
    assert PublishedOptions(driving_crop_scale=2.5).cuts_out(720, 1280)
    assert command_for(line[:5]) is Command and not AnimateOptions().as_published


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"retarget": RetargetOptions(left_eye_opening=0.2)}, "both eyes open alike"),
        ({"stitching": False, "detail": True}, "leave out --no-stitching, or --detail"),
    ],
)
def test_options_unknown_to_the_published_program_are_refused(options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=part):
        PublishedOptions(**options)


def test_published_options_need_published_weights(tmp_path: Path) -> None:
    animator = Animator(Engine(bundled_networks()))
    picture = np.zeros((64, 64, 3), np.uint8)
    for work in (
        lambda: animator.animate(picture, picture, tmp_path / "out.png", PublishedOptions()),
        lambda: animator.open(picture, PublishedOptions()),
    ):
        with pytest.raises(UserError, match="add --weights base-human, or"):
            work()
