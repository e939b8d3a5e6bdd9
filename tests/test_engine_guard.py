"""Too little GPU memory leads to smaller batches, float16 overflow to float32; non-finite numbers are errors."""

from __future__ import annotations

import copy
import math
import shutil
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from animation_samples import bundled_networks, portrait
from numpy.typing import NDArray
from torch import Tensor

from liveportrait import AnimateOptions, Animator, UserError
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer
from liveportrait.engine import EagerBackend, Engine
from liveportrait.engine import pytorch as pytorch_module
from liveportrait.engine.engine import Workers
from liveportrait.engine.guard import GuardedBackend, check_motion, is_finite
from liveportrait.media import load_image, save_image
from liveportrait.motion import Template
from liveportrait.motion.templates import bundled_templates
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Layers, Motion, Pose

COUNT = 4


class SmallBackend:
    """A back end with memory for `fits` frames; the result of a row depends on the row alone."""

    device, concurrent = torch.device("cpu"), True

    def __init__(self, fits: int) -> None:
        self.fits, self.sizes = fits, []

    def _need(self, count: int) -> None:
        self.sizes.append(count)
        if count > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def appearance(self, images: Tensor) -> dict[str, Tensor]:
        self._need(len(images))
        return {"volume": images + 1, "image": images}

    def motion(self, images: Tensor) -> Motion:
        self._need(len(images))
        rows = images[:, :1]
        return Motion(rows.expand(-1, 9).view(-1, 3, 3), rows, rows, rows, rows)

    def render(self, features: dict[str, Tensor], source: Pose, driving: Pose, cues: Tensor) -> Layers:
        self._need(driving.batch)
        return Layers(source.scale + driving.scale, features["image"], cues)


def rows_of(count: int = COUNT) -> Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None]


def rendered(backend: object) -> Layers:
    rows = rows_of()
    pose = Pose(*(rows + index for index in range(5)))
    return backend.render({"image": rows * 10}, pose, pose, rows * 3)


@pytest.mark.parametrize(("fits", "sizes"), [(4, [4]), (3, [4, 2, 2]), (1, [4, 2, 1, 1, 1, 1])])
def test_batches_are_halved_until_they_fit_and_stay_small(fits, sizes):
    small, whole = SmallBackend(fits), SmallBackend(COUNT)
    guarded = GuardedBackend(small)
    torch.testing.assert_close(rendered(guarded), rendered(whole), rtol=0, atol=0)
    assert small.sizes == sizes
    small.sizes.clear()
    for made, wanted in zip(guarded.motion(rows_of()), whole.motion(rows_of()), strict=True):
        torch.testing.assert_close(made, wanted, rtol=0, atol=0)
    torch.testing.assert_close(guarded.appearance(rows_of()), whole.appearance(rows_of()), rtol=0, atol=0)
    assert small.sizes == 2 * [size for size in sizes if size <= fits]
    assert len(guarded.notes) == (fits < COUNT)
    if guarded.notes:
        assert f"the networks took {sizes[-1]} at a time" in guarded.notes[0]


def test_too_little_memory_for_one_frame_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        GuardedBackend(SmallBackend(0)).motion(rows_of())


@pytest.fixture(scope="module")
def loud():
    """Networks with a layer whose numbers are far beyond float16's."""
    networks = copy.deepcopy(bundled_networks())
    with torch.no_grad():
        networks.generator.refine1.weight.mul_(1e7)
        networks.generator.refine2.weight.div_(1e7)
    return networks


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "face.png"
    save_image(path, portrait())
    return path


@pytest.fixture(scope="module")
def animator():
    return Animator(Engine(bundled_networks()))


@pytest.fixture(scope="module")
def motion():
    smile = bundled_templates()["smile"]
    return Template(smile.motion.rows(range(10, 16)), smile.fps, smile.layout)


def frames_of(animator: Animator, face: Path, motion: Template) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    out = face.with_name("out")
    report = animator.animate(face, motion, out, AnimateOptions(smooth=0))
    frames = np.stack([load_image(path) for path in sorted(out.iterdir())])
    shutil.rmtree(out)
    return frames, report.notes


def test_overflow_in_float16_is_recomputed_in_float32(loud, monkeypatch):
    crop = cv2.resize(portrait(), (256, 256))[None]
    plain = Engine(loud)
    home = pose_of(plain.extract_motion(crop))
    features = plain.encode_appearance(crop)
    wanted = plain.render(features, home, home)
    # PyTorch can compute in float16 on a CPU too, which is useful only for tests.
    monkeypatch.setattr(pytorch_module, "require_precision", lambda *_: None)
    engine = Engine(loud, "fp16")
    assert not is_finite(engine._backend._backend.render(features, home, home, torch.zeros(1, 5)))
    for _ in range(2):
        np.testing.assert_array_equal(engine.render(features, home, home), wanted)
        assert len(engine.notes) == 1 and "overflowed in float16" in engine.notes[0]


@pytest.mark.parametrize(("part", "value"), [("flow", math.nan), ("paint", -math.inf)])
def test_a_non_finite_picture_is_an_error_with_its_frame(animator, face, motion, monkeypatch, part, value):
    layers, frame = Engine.layers, iter(range(100))

    def broken(self: Engine, *arguments: object) -> Layers:
        made = layers(self, *arguments)
        for row in range(made.keep.shape[0]):
            if next(frame) == 4:
                getattr(made, part)[row, ..., 0] = value
        return made

    monkeypatch.setattr(Engine, "layers", broken)
    monkeypatch.setattr(Engine, "workers", lambda self, batches: nullcontext(Workers()))  # in order
    with pytest.raises(UserError, match="frame 4: the rendered face holds numbers that are not finite"):
        frames_of(animator, face, motion)


def test_a_non_finite_pose_is_an_error_with_its_frame(animator, face, motion, monkeypatch):
    poses = MotionTransfer.poses

    def broken(self: MotionTransfer, view: object, cue: Cue) -> Pose:
        made = poses(self, view, cue)
        made.keypoints[[frame == 5 for frame in cue.frames]] = math.nan
        return made

    monkeypatch.setattr(MotionTransfer, "poses", broken)
    with pytest.raises(UserError, match="frame 5: the pose of the source holds numbers that are not finite"):
        frames_of(animator, face, motion)


def test_a_non_finite_driver_is_an_error_with_its_own_frame(animator, face, motion, monkeypatch):
    motion = copy.deepcopy(motion)
    motion.motion.expression[3, 7] = -math.inf  # after the template was checked
    with pytest.raises(UserError, match="frame 3: the motion of the motion template holds"):
        frames_of(animator, face, motion)
    with pytest.raises(UserError, match="expression holds numbers that are not finite in frame 3"):
        Template(motion.motion, motion.fps, motion.layout)


def test_a_motion_may_have_an_unknown_identity(motion):
    nothing = torch.full_like(motion.motion.canonical, math.nan)
    check_motion("it", range(6), motion.motion._replace(canonical=nothing))
    nothing[:5] = 0
    with pytest.raises(UserError, match="frame 5: the motion of it"):
        check_motion("it", range(6), motion.motion._replace(canonical=nothing))


def test_fallbacks_are_noted_once_per_result(face, motion, monkeypatch):
    engine = Engine(bundled_networks())
    wanted, _ = frames_of(Animator(engine, batch=4), face, motion)
    render, sizes = EagerBackend.render, []

    def small(self: EagerBackend, features: object, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        sizes.append(driving.batch)
        if driving.batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return render(self, features, source, driving, cues)

    monkeypatch.setattr(EagerBackend, "render", small)
    frames, told = frames_of(Animator(engine, batch=4), face, motion)
    assert max(sizes) == 4 and len(told) == 1 and "took 2 at a time" in told[0]
    assert (
        np.abs(frames.astype(int) - wanted).max() <= 1
    )  # PyTorch sums batches of other sizes in other orders
