"""The stages of an animation run concurrently: same result as in sequence, errors raised once, nothing left running."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from animation_samples import bundled_networks, driving_frames, portrait, write_video

from liveportrait import AnimateOptions, Animator
from liveportrait.animation.compositor import Compositor
from liveportrait.animation.driver import video as driving_video
from liveportrait.animation.session import DEPTH
from liveportrait.engine import Engine
from liveportrait.engine import backend as backends
from liveportrait.engine.engine import Workers, divided_threads
from liveportrait.face import FaceAnalyzer, default_analyzer
from liveportrait.face.analyzer import OpenVinoFaceAnalyzer
from liveportrait.media import VideoReader, VideoWriter
from liveportrait.media.colour import FrameConverter
from liveportrait.networks.interface import Features, Layers, Pose

FRAMES, BATCH = 9, 2
HELPERS = ("read-ahead", "write-behind", "worker")


@pytest.fixture(scope="module")
def engine():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine(bundled_networks())
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return default_analyzer()


@pytest.fixture
def animator(engine, analyzer, monkeypatch) -> Animator:
    """Two workers with one thread each, whatever the number of cores."""
    monkeypatch.setattr(engine, "threads", 2)
    return Animator(engine, analyzer, BATCH)


@pytest.fixture(scope="module")
def driving(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("driving") / "driving.mp4", driving_frames(FRAMES))


SHOWN = AnimateOptions(compare=True)  # so that the driver is decoded a second time, concurrently


def blank(
    engine: Engine, features: Features, source: Pose, driving: Pose, cues: torch.Tensor | None = None
) -> Layers:
    """Replaces `Engine.layers` where the pictures do not matter."""
    nothing = torch.zeros(driving.batch, 1, 1, 2)
    return Layers(nothing, nothing[..., :1], torch.zeros(driving.batch, 3, 256, 256))


def helper_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(HELPERS)]


def test_the_number_of_workers_does_not_change_the_output(animator, engine, driving, tmp_path, monkeypatch):
    shown = replace(SHOWN, mark=False)  # signatures always differ, and x264's bytes sometimes
    report = animator.animate(portrait(), driving, tmp_path / "workers.gif", shown)
    assert report.profile.queues["to be rendered"].depth == 3
    assert torch.get_num_threads() == 2  # as set for the engine
    torch.set_num_threads(1)
    monkeypatch.setattr(engine, "threads", 1)
    report = animator.animate(portrait(), driving, tmp_path / "turn.gif", shown)
    assert report.profile.queues["to be rendered"].depth == 2
    assert (tmp_path / "workers.gif").read_bytes() == (tmp_path / "turn.gif").read_bytes()
    assert set(report.profile.queues) >= {"decoded", "decoded for tracking", "moved", "to be written"}
    assert all(spent.busy >= spent.cpu * 0.5 > 0 for spent in report.profile.stages.values())


def failing(original, number: int):
    """The function, failing from call `number` on."""
    calls = []

    def call(*arguments, **named):
        calls.append(1)
        if len(calls) >= number:
            raise OSError("it broke")
        return original(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("stage", "owner", "name", "number"),
    [
        ("decode", FrameConverter, "__call__", FRAMES + 6),
        ("detect", OpenVinoFaceAnalyzer, "track", 5),
        ("crop", driving_video, "cut_driving", 8),
        ("motion", Engine, "extract_motion", 2),
        ("render", Engine, "layers", 3),
        ("paste", Compositor, "compose", 7),
        ("encode", VideoWriter, "write", 7),
        ("encode, last frame", VideoWriter, "write", FRAMES),
    ],
)
def test_an_error_in_any_stage_is_raised_and_leaves_no_files_or_threads(
    animator, driving, tmp_path, monkeypatch, stage, owner, name, number
):
    if stage != "render":
        monkeypatch.setattr(Engine, "layers", blank)
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), number))
    with pytest.raises(OSError, match="it broke") as caught:
        animator.animate(portrait(), driving, tmp_path / "out.mp4", SHOWN)
    assert caught.value.__context__ is None  # one error, not a chain of errors
    assert list(tmp_path.iterdir()) == [] and helper_threads() == []


def test_an_interrupt_stops_rendering(animator, driving, tmp_path):
    def interrupt(step, done, total):
        if step == "animate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        animator.animate(portrait(), driving, tmp_path / "out.mp4", progress=interrupt)
    assert list(tmp_path.iterdir()) == [] and helper_threads() == []


def test_a_slow_encoder_holds_back_the_decoder(animator, tmp_path, monkeypatch):
    """The number of frames between decoding and writing is bounded, whatever the length of the video."""
    video = write_video(tmp_path / "long.mp4", driving_frames(36))
    read, written, most = [], [], []

    def counted(self):
        frames = original(self)
        read.append(0)
        for frame in frames:
            read[-1] += 1
            yield frame

    def slowly(self, frame):
        time.sleep(0.03)
        most.append(read[-1] - len(written) // 2)  # the result and the comparison
        written.append(1)
        write(self, frame)

    original, write = VideoReader.__iter__, VideoWriter.write
    monkeypatch.setattr(VideoReader, "__iter__", counted)
    monkeypatch.setattr(Engine, "layers", blank)
    monkeypatch.setattr(VideoWriter, "write", slowly)
    animator.animate(portrait(), video, tmp_path / "out.mp4", SHOWN)
    workers, ahead = 2, driving_video.AHEAD
    assert len(written) == 2 * 36
    assert max(most) <= (2 * DEPTH + 2) + (workers + 1 + ahead + 2) * BATCH


def test_cores_are_divided_among_batches():
    before = torch.get_num_threads()
    with divided_threads(8, 3) as workers:
        assert workers == Workers(3, 2)
    assert torch.get_num_threads() == 8
    torch.set_num_threads(before)
    for cores, batches in ((1, 9), (8, 1), (8, 0)):
        with divided_threads(cores, batches) as workers:
            assert workers == Workers(1, None)  # a single batch has all cores, used by PyTorch


def test_a_worker_has_its_own_number_of_threads():
    before, seen = torch.get_num_threads(), []

    def work():
        Workers(2, 1).enter()
        seen.append(torch.get_num_threads())

    torch.set_num_threads(3)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [1] and torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_the_default_precision_is_bf16_if_the_processor_supports_it(engine, monkeypatch):
    for has, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(backends, "computes_in_bf16", lambda has=has: has)
        assert Engine(bundled_networks(), "auto", backend="auto").precision == precision
    assert backends.suggest_precision("onnx", bundled_networks())[0] == "fp32"
