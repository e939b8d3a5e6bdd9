"""The public Portrait API: open once, then drive, edit and animate live."""

from __future__ import annotations

import doctest
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from animation_samples import FPS, bundled_networks, driving_frames, people, portrait, write_video

import liveportrait
from liveportrait import (
    AnimateOptions,
    Animator,
    DriveOptions,
    EditOptions,
    FrameArrays,
    Live,
    Portrait,
    SourceOptions,
    UserError,
    metrics,
)
from liveportrait.engine import Engine
from liveportrait.face.analyzer import OpenVinoFaceAnalyzer
from liveportrait.media import load_image, save_image
from liveportrait.motion import bundled_templates

FRAMES = 4
GREY = np.full((300, 300, 3), 128, np.uint8)
FIRST = DriveOptions(reference="first")


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=3)


@pytest.fixture(scope="module")
def opened(animator) -> Portrait:
    """A photo, opened once for all of these tests."""
    return animator.open(portrait())


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return driving_frames(FRAMES)


@pytest.fixture(scope="module")
def driven(opened, frames) -> np.ndarray:
    """The photo driven by a list of frames."""
    return np.stack(list(opened.drive(frames)))


@pytest.fixture(scope="module")
def clip(animator, frames) -> Portrait:
    """A video source."""
    return animator.open(frames)


@pytest.fixture
def no_work(monkeypatch) -> None:
    """Fail if faces are searched for."""

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a face was looked for")

    for name in ("detect", "track"):
        monkeypatch.setattr(OpenVinoFaceAnalyzer, name, refuse)


def pictures(folder: Path) -> np.ndarray:
    return np.stack([load_image(path) for path in sorted(folder.iterdir())])


def helper_threads() -> list[str]:
    names = ("read-ahead", "write-behind", "worker")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


def test_drive_yields_the_frames_that_animate_writes(animator, opened, frames, tmp_path):
    driving = write_video(tmp_path / "driving.mp4", frames)
    report = animator.animate(portrait(), driving, tmp_path / "out")
    rendering = opened.drive(driving)
    assert (rendering.total, rendering.fps) == (report.frames, report.fps) == (FRAMES, FPS)
    np.testing.assert_array_equal(np.stack(list(rendering)), pictures(report.out))


def test_driving_leaves_no_state_in_the_portrait(opened, frames, driven):
    assert driven.shape == (FRAMES, 300, 300, 3) and driven.dtype == np.uint8
    assert np.abs(driven[-1].astype(int) - driven[0]).mean() > 0.5
    np.testing.assert_array_equal(np.stack(list(opened.drive(frames))), driven)


def test_one_portrait_is_driven_by_two_threads_at_once(opened, frames, driven):
    both = threading.Barrier(2, timeout=60)

    def drive() -> np.ndarray:
        with opened.drive(frames) as rendering:
            first = next(rendering)
            both.wait()  # neither ends before the other has started
            return np.stack([first, *rendering])

    with ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(drive), pool.submit(drive)]:
            np.testing.assert_array_equal(result.result(), driven)


@pytest.mark.parametrize("kind", [np.stack, iter, tuple, FrameArrays], ids=lambda kind: kind.__name__)
def test_driving_frames_in_any_container(opened, frames, driven, kind):
    rendering = opened.drive(kind(frames))
    assert (rendering.total, rendering.fps) == (FRAMES, 25)
    np.testing.assert_array_equal(np.stack(list(rendering)), driven)


def test_arrays_without_a_rate_use_the_video_sources_rate(opened, animator, frames):
    assert opened.drive(FrameArrays(frames, fps=29.97)).fps == Fraction(2997, 100)
    source = animator.open(FrameArrays(frames, fps=50))
    assert source.drive(frames).total == FRAMES
    slower = source.drive(FrameArrays(frames[:2], fps=25))
    assert (slower.total, slower.fps) == (FRAMES, 50)


def test_a_photo_drives_from_a_file_and_from_an_array(opened, frames, tmp_path):
    save_image(tmp_path / "photo.png", frames[-1])
    (from_file,) = opened.drive(tmp_path / "photo.png")
    rendering = opened.drive(frames[-1])
    assert rendering.total == 1
    np.testing.assert_array_equal(next(rendering), from_file)
    assert np.abs(from_file.astype(int) - portrait()).mean() > 0.5


def test_each_driver_moves_one_face(animator, frames):
    photo = np.hstack([each[:, 40:260] for each in people()[:2]])
    talk = bundled_templates()["talk"]
    with animator.open(photo, SourceOptions(faces="all")) as both:
        result = np.stack(list(both.drive([frames[:2], frames[2:]])))
        swapped = both.drive([frames[2:], frames[:2]], DriveOptions(assign="2,1"))
        np.testing.assert_array_equal(np.stack(list(swapped)), result)
        mixed = both.drive([frames[-1], talk])
        assert mixed.total == len(talk) and mixed.fps == talk.fps
        with pytest.raises(UserError, match="3 of DRIVING are too many for 2 chosen faces"):
            both.drive([talk] * 3)
    with animator.open(photo, SourceOptions(faces="2")) as second:
        alone = np.stack(list(second.drive(frames[2:])))
    there = slice(None), slice(40, 190), slice(290, 370)
    assert np.abs(result.astype(int) - alone)[there].max() <= 1
    assert np.abs(alone.astype(int) - photo)[there].mean() > 0.5


@pytest.mark.parametrize("leave", ["close", "with", "error"])
def test_leaving_early_leaves_no_thread_behind(opened, clip, leave):
    for driven_one in (opened, clip):
        rendering = driven_one.drive(driving_frames(12))
        if leave == "close":
            next(rendering)
            rendering.close()
        elif leave == "with":
            with rendering:
                next(rendering)
        else:
            with pytest.raises(KeyboardInterrupt), rendering:
                next(rendering)
                raise KeyboardInterrupt
        assert helper_threads() == []
        assert next(rendering, None) is None


def test_edited_photos_equal_those_written_to_files(animator, opened, tmp_path):
    out = tmp_path / "out.png"
    animator.edit(portrait(), out, EditOptions(smile=0.5, yaw=10))
    picture = opened.edit(smile=0.5, yaw=10)
    np.testing.assert_array_equal(picture, load_image(out))
    assert np.abs(picture.astype(int) - portrait()).mean() > 1
    np.testing.assert_array_equal(opened.edit(EditOptions(smile=0.5), yaw=10), picture)
    np.testing.assert_array_equal(next(opened.edit_frames(smile=0.5, yaw=10)), picture)
    side = round(opened.source.faces[0].side) // 2 * 2
    assert opened.edit(paste_back=False, options=EditOptions()).shape == (max(side, 256), max(side, 256), 3)


def test_a_video_is_edited_frame_by_frame(animator, clip, frames, tmp_path):
    report = animator.edit(frames, tmp_path / "out", EditOptions(smile=1.0))
    edited = np.stack(list(clip.edit_frames(smile=1.0)))
    assert report.frames == len(edited) == FRAMES
    np.testing.assert_array_equal(edited, pictures(tmp_path / "out"))
    with pytest.raises(UserError, match="is a video: use edit_frames"):
        clip.edit(smile=1.0)


def test_returned_frames_may_be_modified(animator, frames):
    """Neither the portrait nor the caller's frames change with them."""
    own = portrait()
    with animator.open(own) as photo, photo.live() as live:
        live(GREY)[:] = 0  # the unchanged picture, before a face was seen
        np.testing.assert_array_equal(live(GREY), portrait())
        own[:] = 0  # a camera may reuse its buffer
        np.testing.assert_array_equal(live(GREY), portrait())
    grey = [GREY.copy() if row == 1 else frame for row, frame in enumerate(frames)]
    with animator.open(grey) as source, source.edit_frames(smile=0.5) as edited:
        for frame in edited:
            frame[:] = 0
    assert (grey[1] == GREY).all()


def test_live_motion_starts_from_the_first_frame(opened, frames):
    with opened.live() as live:
        first = live(frames[2])
        assert live.face_found and metrics.psnr(first, portrait()) > 34
        second = live(frames[3])
    assert np.abs(second.astype(int) - first).mean() > 0.3
    with opened.live() as again:
        np.testing.assert_array_equal(again(frames[2]), first)


@pytest.mark.parametrize(("crops", "most"), [(False, 1), (True, 8)])
def test_live_frames_equal_those_of_a_recording(opened, frames, crops, most):
    """Equal up to rounding if the crop windows are the same; a recording's window depends on all of its frames."""
    # Expression additions are smoothed, live with past frames only.
    options = DriveOptions(reference="first", crop_driving=crops, expression="landmarks", mark=False)
    recorded = np.stack(list(opened.drive(frames, options))).astype(int)
    with opened.live(options) as live:
        seen = np.stack([live(frame) for frame in frames])
    difference = np.abs(recorded - seen)
    moved = np.abs(recorded[-1] - recorded[0])
    assert difference.max() <= most
    assert difference[-1].mean() < 0.02 * moved.mean()


def test_parallel_live_frames_equal_sequential_ones(animator, opened, frames, monkeypatch):
    monkeypatch.setattr(animator.engine, "threads", 2)
    with opened.live() as one, opened.live() as other:
        assert other.at_once == 2
        coming = [other.begin(frame) for frame in (*frames, GREY)]
        assert not other.face_found
        for frame, picture in zip((*frames, GREY), coming, strict=True):
            assert np.abs(picture.result(60).astype(int) - one(frame)).max() <= 1


def test_live_motion_is_kept_while_no_face_is_found(opened, frames):
    with opened.live() as live:
        assert not live.face_found
        np.testing.assert_array_equal(live(GREY), portrait())
        assert not live.face_found
        live(frames[0])
        moved = live(frames[3])
        assert live.face_found
        np.testing.assert_array_equal(live(GREY), moved)
        np.testing.assert_array_equal(live(GREY), moved)
        assert not live.face_found
        live(frames[1])
        assert live.face_found


def test_reset_restarts_motion(opened, frames):
    with opened.live() as live:
        start = live(frames[0])
        assert np.abs(live(frames[3]).astype(int) - start).mean() > 0.3
        live.reset()
        assert not live.face_found
        np.testing.assert_array_equal(live(GREY), portrait())
        smaller = np.ascontiguousarray(frames[3][:280, :280])
        assert metrics.psnr(live(smaller), start) > 35
        assert live.face_found


@pytest.mark.parametrize("pastes", [True, False])
def test_a_live_video_source_loops(clip, frames, pastes):
    with clip.live(DriveOptions(paste_back=pastes)) as live:
        own = [live(GREY) for _ in range(2 * FRAMES + 1)]
        if pastes:
            np.testing.assert_array_equal(own[:FRAMES], frames)
        np.testing.assert_array_equal(own[FRAMES : 2 * FRAMES], own[:FRAMES])
        np.testing.assert_array_equal(own[2 * FRAMES], own[0])
        moved = [live(frame) for frame in frames]
        assert live.face_found
        assert all(picture.shape == own[0].shape for picture in moved)
        assert np.abs(moved[0].astype(int) - own[1]).mean() > 0.03


def test_the_shortest_input_sets_the_length(clip, frames):
    rendering = clip.drive(frames[:2])
    assert rendering.total == 2 and len(list(rendering)) == 2
    assert len(list(clip.drive(frames * 2))) == FRAMES


def mixed() -> list[np.ndarray]:
    """Frames of which the third is smaller."""
    return [GREY, GREY, GREY[:200], GREY]


WRONG = {
    "a picture of floats": (lambda: GREY / 255, "is float64 300x300x3"),
    "a picture without colours": (lambda: GREY[..., 0], "is uint8 300x300:"),
    "a picture with alpha": (lambda: np.dstack([GREY, GREY[..., :1]]), "is uint8 300x300x4"),
    "pictures of floats": (lambda: np.zeros((2, 64, 64, 3), np.float32), "frame 0 .* is float32 64x64x3"),
    "pictures with alpha": (lambda: np.zeros((2, 64, 64, 4), np.uint8), "frame 0 .* is uint8 64x64x4"),
    "no pictures": (lambda: iter(()), "are empty"),
    "an array of none": (lambda: np.zeros((0, 64, 64, 3), np.uint8), "are empty"),
    "a list with a smaller one": (mixed, "frame 2 .* is 300x200 px, but the first is 300x300"),
    "an iterator with a smaller one": (lambda: iter(mixed()), "frame 2 .* is 300x200 px"),
    "a number": (lambda: 7, "are of type int: give a path, a picture"),
    "no file of that name": (lambda: "nowhere.mp4", "nowhere.mp4"),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_unreadable_inputs_are_refused_before_any_work(
    opened, animator, no_work, given: Callable[[], Any], message: str
):
    with pytest.raises(UserError, match=message):
        opened.drive(given())
    with pytest.raises(UserError, match=message):
        animator.open(given())


def test_an_empty_list_is_refused(opened, animator, no_work):
    with pytest.raises(UserError, match="there is no driver"):
        opened.drive([])
    with pytest.raises(UserError, match="are empty"):
        animator.open([])


def test_a_mistyped_driver_is_refused_before_the_source_is_tracked(animator, no_work, tmp_path):
    video = write_video(tmp_path / "source.mp4", driving_frames(2))
    with pytest.raises(UserError, match=r"drivign\.mp4"):
        animator.animate(video, [video, tmp_path / "drivign.mp4"], tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_camera_frames_must_keep_their_kind_and_size(opened, frames):
    with opened.live() as live:
        with pytest.raises(UserError, match="the camera's frame is float64"):
            live(frames[0] / 255)
        live(frames[0])
        with pytest.raises(UserError, match="is 300x200 px, and those before it were 300x300"):
            live(frames[1][:200])
        live(frames[1])
        assert live.face_found


def test_live_motion_cannot_look_ahead(opened):
    for reference in ("auto", "3"):
        with pytest.raises(UserError, match=f"reference is '{reference}': live motion starts"):
            opened.live(DriveOptions(reference=reference))


def test_a_closed_live_portrait_raises(opened, frames):
    live = opened.live()
    live.close()
    with pytest.raises(UserError, match="closed"):
        live(frames[0])


def test_a_closed_portrait_raises(animator, frames):
    with animator.open(portrait()) as one:
        begun, live = one.drive(frames), one.live()
    for use in (
        lambda: one.drive(frames),
        lambda: one.edit(smile=0.5),
        lambda: one.edit_frames(smile=0.5),
        lambda: one.live(),
        lambda: one.source,
    ):
        with pytest.raises(UserError, match="this portrait is closed: open it again"):
            use()
    assert len(list(begun)) == FRAMES and live(frames[0]).shape == (300, 300, 3)  # started before closing


@pytest.mark.parametrize(
    ("sliders", "message"),
    [
        ({"smirk": 1.0}, "there is no slider 'smirk': choose one of smile, wink"),
        ({"smile": 3}, "smile is 3: choose a number from -0.3 to 1.3"),
        ({"yaw": float("nan")}, "yaw is nan"),
        ({"yaw": "left"}, "yaw is left: choose a number from -25 to 25"),
        ({"keyframes": Path("keys.json")}, "keyframes are for a video SOURCE"),
    ],
)
def test_invalid_sliders_are_refused(opened, no_work, sliders, message):
    with pytest.raises(UserError, match=message):
        opened.edit(**sliders)


def test_several_faces_cannot_be_shown_as_one_crop(animator):
    photo = np.hstack([each[:, 40:260] for each in people()[:2]])
    options = DriveOptions(paste_back=False)
    with animator.open(photo, SourceOptions(faces="all")) as both:
        with pytest.raises(UserError, match="2 faces do not fit into one crop"):
            both.drive(bundled_templates()["talk"], options)
        with pytest.raises(UserError, match="2 faces do not fit into one crop"):
            both.live(options)


class Ran(doctest.OutputChecker):
    """Accepts any output if an example does not state one."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.parametrize(
    ("documented", "count"),
    [(liveportrait, 5), (Animator, 4), (Portrait, 3), (Live, 1), (FrameArrays, 1)],
    ids=["liveportrait", "Animator", "Portrait", "Live", "FrameArrays"],
)
def test_the_examples_run(documented: ModuleType | type, count: int, animator, frames, tmp_path, monkeypatch):
    for name in ("portrait.jpg", "me.jpg"):
        save_image(tmp_path / name, portrait())
    write_video(tmp_path / "driving.mp4", frames[:2])
    monkeypatch.chdir(tmp_path)
    shown: list[np.ndarray] = []
    known = {
        "Animator": Animator,
        "animator": animator,
        "portrait": animator.open("me.jpg"),
        "AnimateOptions": AnimateOptions,
        "FrameArrays": FrameArrays,
        "show": shown.append,
        "camera": iter(frames[:2]),
        "frames": frames[:2],
    }
    examples = [
        test
        for test in doctest.DocTestFinder(recurse=isinstance(documented, type)).find(documented, globs=known)
        if test.examples
    ]
    runner = doctest.DocTestRunner(Ran(), optionflags=doctest.ELLIPSIS)
    for test in examples:
        runner.run(test)
    assert runner.failures == 0 and runner.tries == count
    if any("show(" in test.docstring for test in examples):
        assert len(shown) == 2 and all(frame.shape == (300, 300, 3) for frame in shown)
