"""Videos as sources: tracked through cuts, gliding crops, unchanged outside the faces."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from animation_samples import (
    FPS,
    bundled_networks,
    driving_frames,
    source_frames,
    tracked_keypoints,
    write_sound,
    write_video,
)
from small_base import SMALL_BASE

from liveportrait import AnimateOptions, Animator
from liveportrait.animation.driver.base import DrivingBatch, resample_frames
from liveportrait.animation.options import SourceOptions
from liveportrait.animation.session import Session
from liveportrait.animation.source.crop_path import gliding
from liveportrait.animation.source.video import VideoSource, open_video
from liveportrait.apps.cli import main
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.crop import Square
from liveportrait.face.measures import opening_ratios
from liveportrait.face.paste import paste_mask
from liveportrait.media import FrameArrays, VideoReader, load_image
from liveportrait.media.cuts import CutFinder
from liveportrait.motion import Template, bundled_templates
from liveportrait.motion.gliding import stretches
from liveportrait.networks import build
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion

FRAMES, CUT, FACELESS = 14, 8, (4, 5)


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=4)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    sound = write_sound(folder / "tone.wav", 0.4)
    return write_video(folder / "source.mp4", source_frames(FRAMES, CUT, FACELESS), sound)


@pytest.fixture(scope="module")
def session(animator) -> Session:
    return Session(animator.engine, animator.analyzer, batch=4)


@pytest.fixture(scope="module")
def source(session, video) -> VideoSource:
    return open_video(session, VideoReader(video), SourceOptions())


def talking(count: int, fps: Fraction = FPS) -> Template:
    """The bundled motion of talking, at another rate."""
    motion = bundled_templates()["talk"].motion
    return Template(Motion(*(part[:count] for part in motion)), fps, "face-mesh-21")


def pictures(folder: Path) -> list[np.ndarray]:
    return [load_image(path) for path in sorted(folder.iterdir())]


def test_only_the_face_changes_and_frames_without_one_are_unchanged(animator, video, source, tmp_path):
    report = animator.animate(video, talking(FRAMES + 5), tmp_path / "out")
    result, frames = pictures(report.out), list(VideoReader(video))
    assert report.frames == len(result) == FRAMES and report.fps == FPS
    assert report.passed == ((FACELESS[0], FACELESS[-1]),) and CUT in report.cuts
    assert any("2 frames of SOURCE (4-5)" in note for note in report.notes)
    changes = []
    for number, (picture, frame) in enumerate(zip(result, frames, strict=True)):
        if number in FACELESS:
            np.testing.assert_array_equal(picture, frame)
            continue
        window = source.faces[0].path.windows[number]
        mask = cv2.warpAffine(paste_mask(window.size), window.inverse(), frame.shape[1::-1])
        # The edge of the mask depends on how positions are rounded
        outside = cv2.dilate(mask, np.ones((3, 3))) == 0
        assert 0.1 < outside.mean() < 0.95
        np.testing.assert_array_equal(picture[outside], frame[outside])
        changes.append(np.abs(picture[~outside].astype(int) - frame[~outside]).mean())
    assert min(changes) > 0.05  # unchanged parts equal the source bit for bit


def test_crops_glide_under_camera_shake_and_restart_at_cuts(source):
    crop, keypoints = source.jitter
    assert crop.before > 0.5 and crop.after < 0.2 * crop.before
    assert keypoints.before > 0
    sides = [512 / np.sqrt(np.linalg.det(window.matrix[:, :2])) for window in source.faces[0].path.windows]
    # The face is a third larger in the second scene, which must not affect the first.
    assert np.allclose(sides[:CUT], sides[0], rtol=0.05) and np.allclose(sides[CUT:], sides[CUT], rtol=0.05)
    assert sides[CUT] > 1.2 * sides[CUT - 1]


def test_identity_is_constant_over_the_video(source):
    motion = source.faces[0].motion
    assert len(motion.scale) == FRAMES - len(FACELESS)
    torch.testing.assert_close(motion.canonical, motion.canonical[:1].expand_as(motion.canonical))


def test_the_shortest_input_sets_the_length_at_the_sources_rate(animator, video, tmp_path):
    """A driver with twice the rate plays twice as many frames in the same time."""
    report = animator.animate(video, talking(13, 2 * FPS), tmp_path / "out.mp4")
    assert report.frames == 7 and report.fps == FPS
    assert any("14 frames" in note and "7" in note for note in report.notes)


@pytest.mark.parametrize(
    ("audio", "drivers_sound", "expected"),
    [("driving", False, True), ("source", False, True), ("none", True, False)],
)
def test_the_sources_sound_is_used_if_the_driver_has_none(
    animator, video, tmp_path, audio, drivers_sound, expected
):
    sound = write_sound(tmp_path / "tone.wav", 0.2) if drivers_sound else None
    driver = write_video(tmp_path / "driver.mp4", driving_frames(2), sound)
    animator.animate(video, driver, tmp_path / "out.mp4", AnimateOptions(audio=audio))
    assert VideoReader(tmp_path / "out.mp4").info.has_audio == expected


def test_without_pasting_back_frames_without_a_face_keep_the_last_crop(animator, video, tmp_path):
    animator.animate(video, talking(8), tmp_path / "out", AnimateOptions(paste_back=False))
    result = pictures(tmp_path / "out")
    assert len(result) == 8 and len({picture.shape for picture in result}) == 1
    assert np.abs(result[4].astype(int) - 128).max() < 12  # the grey frame, as it is


def test_cropped_frames_are_used_as_face_crops(animator, tmp_path):
    faces = write_video(tmp_path / "faces.mp4", driving_frames(4))
    report = animator.animate(faces, talking(9), tmp_path / "out.mp4", AnimateOptions(crop=False))
    assert report.frames == 4 and VideoReader(report.out).info.width == 300


def test_faces_in_cropped_frames_are_found_and_measured(session, tmp_path):
    """Keypoints are landmarks and openings are known, as for faces found in whole frames."""
    frames = driving_frames(6, faceless=(3,))
    source = open_video(session, FrameArrays(frames), SourceOptions(crop=False))
    assert not source.crops and source.found == 1 and not source.jitter[1:]
    (face,) = source.faces
    assert face.shown(range(6)) == list(range(6))
    assert [row for row in range(6) if face.path.seen[row]] == [0, 1, 2, 4, 5]
    view = face.view(session, [1, 5], [frames[1], frames[5]])
    assert view.placements == ()
    found = [session.analyzer.detect(frames[row])[0].landmarks for row in (1, 5)]
    np.testing.assert_allclose(view.ratios, [opening_ratios(points) for points in found], atol=0.03)
    places = np.stack([tracked_keypoints(session.analyzer, frames[row]) for row in (1, 5)])
    np.testing.assert_allclose(transform_keypoints(view.motion)[..., :2], places, atol=0.02)
    shown, hidden = face.view(session, [2, 3], frames[2:4]).ratios
    assert torch.equal(shown, hidden)  # kept while the face is not visible


def test_a_video_without_any_face_is_an_error(animator, tmp_path):
    grey = write_video(tmp_path / "grey.mp4", source_frames(3, 3, (0, 1, 2)))
    with pytest.raises(UserError, match="no face found in any of the 3 frames"):
        animator.animate(grey, talking(3), tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["grey.mp4"]


def test_the_published_architecture_animates_videos(video, tmp_path):
    torch.manual_seed(0)
    networks = build(SMALL_BASE, retargeting=True)
    networks.motion.detector.fc_scale.bias.data.fill_(1.4)
    animator = Animator(Engine(networks), batch=4)
    report = animator.animate(video, driver_of(tmp_path), tmp_path / "out.mp4", AnimateOptions(smooth=0.3))
    assert report.frames == 6 and report.stitched and report.passed == (FACELESS,)
    crop, keypoints, driving = report.jitter
    assert crop.after < crop.before and keypoints.after < keypoints.before and driving.after < driving.before


def test_the_command_line_takes_videos_and_prints_the_jitter(video, tmp_path, capsys):
    driver, out = driver_of(tmp_path), tmp_path / "out.mov"
    options = [
        "--smooth",
        "0.2",
        "--mask",
        "face",
        "--match-colour",
        "--detail",
        "--alpha",
        "--lock-shoulders",
    ]
    line = ["animate", str(video), str(driver), "-o", str(out), "--backend", "eager", "--verbose", *options]
    assert main([*line, "--reference", "auto", "--faces", "1", "--assign", "1", "--audio", "none"]) == 0
    printed = capsys.readouterr().out
    assert "jitter of crop of face 1" in printed and f"jitter of keypoints of {driver}" in printed
    with av.open(str(out)) as container:
        layer = next(container.decode(video=0)).to_ndarray(format="rgba")[..., 3]
    assert layer.max() > 250 and (layer < 5).mean() > 0.5
    assert main(["animate", str(video), "-o", str(tmp_path / "b.mp4")]) == 2
    assert "DRIVING is missing" in capsys.readouterr().err


def driver_of(folder: Path) -> Path:
    """A driving video of six frames."""
    return write_video(folder / "driver.mp4", driving_frames(6))


def test_cuts_are_distinguished_from_camera_movement():
    is_cut = CutFinder()
    found = [number for number, frame in enumerate(source_frames(12, 7)) if is_cut(frame)]
    assert found == [7]


def test_stretches_end_at_cuts_and_long_gaps():
    found = np.array([0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1], bool)
    assert stretches(found, cuts=[5]) == [range(1, 3), range(4, 5), range(5, 7), range(10, 11)]
    assert stretches(found, cuts=[5], bridged=2) == [range(1, 5), range(5, 7), range(10, 11)]


def test_a_crop_stays_with_a_face_that_jumps():
    """The smooth path stays within 0.12 sides of the face."""
    squares = [Square(np.array([100.0 if index < 20 else 160.0, 100.0]), 50.0, 0.0) for index in range(40)]
    path = gliding([None, *squares, None], (), Fraction(25))
    away = [abs(at.centre[0] - square.centre[0]) for at, square in zip(path[1:-1], squares, strict=True)]
    assert max(away) <= 0.12 * 50 + 1e-6
    assert np.ptp([at.centre[1] for at in path]) < 1e-6 and path[0].side == path[1].side == pytest.approx(50)


@pytest.mark.parametrize(
    "ratio", [Fraction(1), Fraction(2), Fraction(1, 2), Fraction(30, 25), Fraction(25, 30)]
)
def test_a_driver_is_resampled_to_the_results_rate(ratio):
    def play():
        for start in range(0, 23, 4):
            yield numbered(range(start, min(start + 4, 23)))

    batches = list(resample_frames(play(), ratio, 5))
    rows = torch.cat([batch.motion.scale[:, 0] for batch in batches]).int().tolist()
    expected = [int(index * ratio) for index in range(100)]
    assert rows == [row for row in expected if row < 23]
    assert all(len(batch) == 5 for batch in batches[:-1]) or ratio == 1


def numbered(rows: range) -> DrivingBatch:
    """Frames that carry their numbers as scale."""
    count = len(rows)
    scale = torch.tensor([[float(row)] for row in rows])
    zeros = torch.zeros(count, 21, 3)
    motion = Motion(torch.eye(3).expand(count, 3, 3), torch.zeros(count, 3), scale, zeros, zeros)
    return DrivingBatch(motion, None, (None,) * count)
