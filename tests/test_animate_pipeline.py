"""The pipeline end to end on untrained compact networks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from animation_samples import (
    FPS,
    bundled_networks,
    driving_frames,
    portrait,
    tracked_keypoints,
    write_sound,
    write_video,
)
from small_base import SMALL_BASE

from liveportrait import AnimateOptions, Animator
from liveportrait.animation.driver.base import Driver
from liveportrait.animation.inputs import open_driver
from liveportrait.animation.options import RetargetOptions, SourceOptions, TransferOptions
from liveportrait.animation.pipeline import Cue
from liveportrait.animation.posers import MotionTransfer
from liveportrait.animation.report import Gauge, Profile, Report, StageTime, held_note
from liveportrait.animation.session import Session
from liveportrait.animation.source.photo import PhotoFace, limit_size, open_photo
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face.crop import crop
from liveportrait.face.measures import face_scores, opening_ratios
from liveportrait.media import VideoReader, load_image, save_image
from liveportrait.motion import Template, read_template, write_template
from liveportrait.networks import build
from liveportrait.networks.geometry import pose_of, transform_keypoints
from liveportrait.networks.interface import Motion

FRAMES = 6


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks()), batch=4)


@pytest.fixture(scope="module")
def driving(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("driving") / "driving.mp4", driving_frames(FRAMES))


def frames_of(path: Path) -> np.ndarray:
    with VideoReader(path) as reader:
        return np.stack(list(reader)).astype(int)


def session_of(animator: Animator, batch: int = FRAMES) -> Session:
    return Session(animator.engine, animator.analyzer, batch)


def face_of(session: Session, **options: Any) -> PhotoFace:
    """The portrait's opened face."""
    (face,) = open_photo(session, portrait(), SourceOptions(**options)).faces
    return face


def driver_of(session: Session, path: Path, **options: Any) -> Driver:
    return open_driver(session, path, TransferOptions(reference="first", **options))


def test_a_video_drives_a_photo(animator, driving, tmp_path):
    out = tmp_path / "out.mp4"
    steps = []
    report = animator.animate(portrait(), driving, out, progress=lambda *step: steps.append(step))
    assert report.frames == FRAMES and report.fps == FPS and report.out == out
    with VideoReader(out) as reader:
        assert (reader.info.frame_count, reader.info.fps) == (FRAMES, FPS)
        assert (reader.info.width, reader.info.height) == (300, 300)
    assert steps[FRAMES - 1] == ("find the face", FRAMES, FRAMES)
    assert steps[-1] == ("animate", FRAMES, FRAMES)
    assert all(
        report.seconds[step] > 0 for step in ("decode", "detect", "motion", "render", "paste", "encode")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert report.stitched and not any("stitching" in note for note in report.notes)


def test_missing_stitching_weights_are_reported(driving, tmp_path):
    networks = bundled_networks()
    networks.stitching = None
    report = Animator(Engine(networks)).animate(portrait(), driving, tmp_path / "out.mp4")
    assert any("stitching" in note for note in report.notes) and not report.stitched


def test_only_the_window_changes_when_the_face_is_pasted_back(animator, tmp_path):
    photo = tmp_path / "driving.png"
    save_image(photo, driving_frames(4)[-1])
    animator.animate(portrait(), photo, tmp_path / "out.png", AnimateOptions(crop_scale=1.5))
    result, source = load_image(tmp_path / "out.png").astype(int), portrait()
    window = face_of(session_of(animator), crop_scale=1.5).still.placements[0].window
    whole = np.full((window.size, window.size), 255, np.uint8)
    inside = cv2.warpAffine(whole, window.inverse(), source.shape[1::-1]) > 0
    assert (result[~inside] == source[~inside]).all()
    assert np.abs(result[inside] - source[inside]).mean() > 0.1


def test_without_pasting_back_the_crop_is_written_at_its_own_size(animator, driving, tmp_path):
    side = round(face_of(session_of(animator)).side) // 2 * 2
    for name, size, options in (
        ("a.mp4", max(256, side), AnimateOptions(paste_back=False)),
        ("b.mp4", len(portrait()), AnimateOptions(crop=False, crop_driving=False)),
        ("c.mp4", 256, AnimateOptions(crop=False, crop_driving=False, resolution=256)),
    ):
        animator.animate(portrait(), driving, tmp_path / name, options)
        with VideoReader(tmp_path / name) as reader:
            assert (reader.info.width, reader.info.height, reader.info.frame_count) == (size, size, FRAMES)


def test_compare_writes_source_driving_and_result_side_by_side(animator, driving, tmp_path):
    report = animator.animate(portrait(), driving, tmp_path / "out.mp4", AnimateOptions(compare=True))
    assert report.compare == tmp_path / "out_compare.mp4"
    pictures = frames_of(report.compare)
    assert pictures.shape == (FRAMES, 256, 768, 3)
    face = face_of(session_of(animator)).still.crops[0]
    assert np.abs(pictures[-1][:, :256] - face).mean() < 6
    assert np.abs(pictures[-1][:, 256:512] - face).mean() > 6


def test_a_template_of_a_video_gives_the_same_result_as_the_video(animator, driving, tmp_path):
    report = animator.template(driving, tmp_path / "t.safetensors")
    template = read_template(tmp_path / "t.safetensors")
    assert (report.frames, len(template), template.fps) == (FRAMES, FRAMES, FPS)
    assert template.eye_ratios.shape == (FRAMES, 2) and template.lip_ratios.shape == (FRAMES, 1)
    assert template.motion.canonical.isfinite().all()
    animator.animate(portrait(), driving, tmp_path / "a.mp4")
    animator.animate(portrait(), tmp_path / "t.safetensors", tmp_path / "b.mp4", AnimateOptions(compare=True))
    # A template has no mouth cues, and the encoder turns one grey level into several.
    assert np.abs(frames_of(tmp_path / "a.mp4") - frames_of(tmp_path / "b.mp4")).mean() < 2
    assert frames_of(tmp_path / "b_compare.mp4").shape[2] == 512  # no driving picture to show


def test_a_template_stores_openings_only_if_a_face_was_measured(animator, tmp_path):
    """For a photo, for frames used as crops, and for crops without a face."""
    save_image(tmp_path / "face.png", portrait())
    shown = write_video(tmp_path / "shown.mp4", driving_frames(2))
    hidden = write_video(tmp_path / "hidden.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 2)
    for driving, found in ((tmp_path / "face.png", True), (shown, True), (hidden, False)):
        out = tmp_path / f"{driving.stem}.safetensors"
        report = animator.template(driving, out, crop_driving=False)
        template = read_template(out)
        assert (template.eye_ratios is not None) == (template.lip_ratios is not None) == found
        assert [("how far eyes and lips open" in note) for note in report.notes] == [True] * (not found)


def test_a_template_is_converted_to_a_pickle_only_within_its_layout(animator, tmp_path):
    zeros = torch.zeros(2, 21, 3)
    motion = Motion(torch.eye(3).repeat(2, 1, 1), torch.zeros(2, 3), torch.ones(2, 1), zeros, zeros)
    write_template(tmp_path / "p.safetensors", Template(motion, FPS, "published"))
    animator.template(tmp_path / "p.safetensors", tmp_path / "p.pkl")
    assert len(read_template(tmp_path / "p.pkl")) == 2
    with pytest.raises(UserError, match="'published'"):
        animator.animate(portrait(), tmp_path / "p.pkl", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_frames_without_a_face_repeat_the_last_motion(animator, tmp_path):
    faceless = (0, 3, 4, 7)
    path = write_video(tmp_path / "gaps.mp4", driving_frames(8, faceless))
    session = session_of(animator, batch=3)
    driver = driver_of(session, path)
    assert driver.held == ((0, 0), (3, 4), (7, 7)) and driver.frames == 8
    parts = [batch.motion for batch in driver.play(session)]
    assert [part.scale.shape[0] for part in parts] == [3, 3, 2]
    keypoints = torch.cat([part.expression for part in parts])
    torch.testing.assert_close(keypoints[0], driver.start(0).motion.expression[0])
    torch.testing.assert_close(keypoints[0], keypoints[1], atol=1e-5, rtol=0)
    for held, shown in ((3, 2), (4, 2), (7, 6)):
        torch.testing.assert_close(keypoints[held], keypoints[shown], atol=0, rtol=0)
    assert (keypoints[5] - keypoints[4]).abs().max() > 1e-5
    report = animator.animate(portrait(), path, tmp_path / "out.mp4")
    assert report.frames == 8 and report.held == driver.held
    assert any("4 frames" in note and "0, 3-4, 7" in note for note in report.notes)


def test_no_face_in_any_frame_is_an_error_and_leaves_no_file(animator, tmp_path):
    path = write_video(tmp_path / "grey.mp4", driving_frames(3, faceless=(0, 1, 2)))
    with pytest.raises(UserError, match="no face found in any of the 3 frames"):
        animator.animate(portrait(), path, tmp_path / "out.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["grey.mp4"]


@pytest.mark.parametrize("audio", ["driving", "none"])
def test_the_drivers_sound_is_kept_unless_turned_off(animator, tmp_path, audio):
    sound = write_sound(tmp_path / "tone.wav", 0.2)
    path = write_video(tmp_path / "loud.mp4", driving_frames(4), sound)
    animator.animate(portrait(), path, tmp_path / "out.mp4", AnimateOptions(audio=audio))
    assert VideoReader(tmp_path / "out.mp4").info.has_audio == (audio == "driving")


def test_picture_output_needs_a_driver_of_one_frame(animator, driving, tmp_path):
    with pytest.raises(UserError, match="is a picture"):
        animator.animate(portrait(), driving, tmp_path / "out.png")


def test_an_error_while_rendering_leaves_no_file_and_no_thread(animator, driving, tmp_path, monkeypatch):
    render, calls = animator.engine.layers, []

    def fail_later(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return render(*arguments)

    monkeypatch.setattr(animator.engine, "layers", fail_later)
    with pytest.raises(RuntimeError, match="out of memory"):
        animator.animate(portrait(), driving, tmp_path / "out.mp4", AnimateOptions(compare=True))
    assert list(tmp_path.iterdir()) == []
    assert not [
        t for t in threading.enumerate() if t.name.startswith(("read-ahead", "write-behind", "worker"))
    ]


def test_the_source_pose_is_kept_at_the_first_frame_and_scaled_by_the_multiplier(animator, driving):
    session = session_of(animator)
    face = face_of(session)
    home = pose_of(face.still.motion).keypoints
    driver = driver_of(session, driving)
    (batch,) = driver.play(session)

    def keypoints(**options):
        transfer = MotionTransfer.of(
            animator.engine, face, driver, 0, TransferOptions(stitching=False, **options)
        )
        return transfer.poses(face.still, Cue([0.0] * FRAMES, batch)).keypoints

    plain = keypoints()
    torch.testing.assert_close(plain[:1], home, atol=1e-5, rtol=1e-4)
    assert (plain[-1] - plain[0]).abs().max() > 1e-3
    still = keypoints(multiplier=0.0)
    torch.testing.assert_close(still, home.expand_as(still))
    doubled = keypoints(multiplier=2.0)
    torch.testing.assert_close(doubled, 2 * plain - home, atol=1e-5, rtol=1e-4)
    absolute = keypoints(motion="absolute")
    rebased = keypoints(motion="absolute", driving_option="expression-friendly")
    torch.testing.assert_close(rebased[:1], home, atol=1e-5, rtol=1e-4)
    assert (absolute - rebased).abs().max() > 1e-4


def test_stitching_runs_if_the_weights_include_it(driving):
    networks = bundled_networks(retargeting=True)
    with torch.no_grad():
        networks.stitching.mlp[-1].bias[-1] = 0.25  # moves every keypoint down by a quarter
    animator = Animator(Engine(networks))
    session = session_of(animator)
    face, driver = face_of(session), driver_of(session, driving)
    (batch,) = driver.play(session)
    poses = [
        MotionTransfer.of(animator.engine, face, driver, 0, TransferOptions(stitching=on)).poses(
            face.still, Cue([0.0] * FRAMES, batch)
        )
        for on in (False, True)
    ]
    shift = torch.tensor([0.0, 0.25, 0.0]).expand(FRAMES, 21, 3)
    torch.testing.assert_close(poses[1].keypoints - poses[0].keypoints, shift, atol=1e-5, rtol=0)


def test_the_published_architecture_uses_the_same_pipeline(driving, tmp_path):
    torch.manual_seed(0)
    networks = build(SMALL_BASE, retargeting=True)
    networks.motion.detector.fc_scale.bias.data.fill_(1.4)
    animator = Animator(Engine(networks))
    report = animator.animate(portrait(), driving, tmp_path / "a.mp4", AnimateOptions(compare=True))
    assert report.stitched and not report.notes
    assert frames_of(report.compare).shape == (FRAMES, 128, 3 * 128, 3)
    animator.template(driving, tmp_path / "t.pkl")
    animator.animate(portrait(), tmp_path / "t.pkl", tmp_path / "b.mp4")
    # Not bit for bit: a pickled template is always at 30 frames per second, which affects the encoder.
    assert np.abs(frames_of(tmp_path / "a.mp4") - frames_of(tmp_path / "b.mp4")).mean() < 1


def test_large_and_odd_photos_are_reduced_to_even_sides():
    photo = np.zeros((2001, 3001, 3), np.uint8)
    assert limit_size(photo, 1280).shape == (852, 1280, 3)
    assert limit_size(photo[:101, :77], 1280).shape == (100, 76, 3)


def test_the_source_crop_matches_its_window(animator):
    view = face_of(session_of(animator)).still
    assert view.crops.shape == (1, 256, 256, 3)
    whole = crop(portrait(), view.placements[0].window, replicate_border=True)
    averaged = whole.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - view.crops[0]).max() <= 1


def test_faces_are_found_in_crops_too(animator, driving, tmp_path):
    """An already cropped face is measured like any other, in the whole picture."""
    session = session_of(animator)
    face = face_of(session, crop=False)
    detected = animator.analyzer.detect(portrait())[0]
    assert face.still.placements == ()
    np.testing.assert_allclose(face.scores, face_scores(animator.analyzer, detected), atol=0.3)
    save_image(tmp_path / "face.png", portrait())
    driver = driver_of(session, tmp_path / "face.png", crop_driving=False)
    (photo,) = driver.play(session)
    expected = tracked_keypoints(animator.analyzer, portrait())
    for motion, ratios in ((face.still.motion, face.still.ratios), (photo.motion, photo.ratios)):
        np.testing.assert_allclose(transform_keypoints(motion)[0, :, :2], expected, atol=0.02)
        np.testing.assert_allclose(ratios[0], opening_ratios(detected.landmarks), atol=0.03)
    video = driver_of(session, driving, crop_driving=False)
    (batch,) = video.play(session)
    expected = [tracked_keypoints(animator.analyzer, frame) for frame in VideoReader(driving)]
    np.testing.assert_allclose(transform_keypoints(batch.motion)[..., :2], expected, atol=0.03)
    assert video.ratios.shape == (FRAMES, 3) and not video.held


def test_a_crop_without_a_face_is_used_unmeasured(animator, tmp_path):
    grey = np.full((200, 200, 3), 128, np.uint8)
    (face,) = open_photo(session_of(animator), grey, SourceOptions(crop=False)).faces
    assert face.scores is None and face.still.ratios is None
    with pytest.raises(UserError, match="need a face, and none was found in the source: leave out --no-crop"):
        retarget = RetargetOptions(eye_opening=0.3)
        animator.animate(
            grey, portrait(), tmp_path / "out.png", AnimateOptions(crop=False, retarget=retarget)
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"multiplier": -1.0},
        {"multiplier": float("nan")},
        {"crop_scale": 0.0},
        {"region": "nose"},
        {"max_size": 1},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name.replace("_", "-")):
        AnimateOptions(**wrong)


def test_the_report_lists_the_time_of_each_stage(tmp_path):
    stages = {"decode": StageTime(1.0, 0.5), "render": StageTime(3.0, 3.0), "paste": StageTime()}
    report = Report(tmp_path, 30, FPS, Profile(30, 2.0, 4.5, stages, {"decoded": Gauge(4, 10, 25, 1, 2)}))
    assert report.summary() == "30 frames in 2.0 s (15.0 frames/s): decode 25%, render 75%"
    rows = {line[:24].strip(): line[24:].split() for line in report.profile.table().splitlines() if line}
    assert rows["render"] == ["3.00", "100.00", "75.0%", "3.00"]
    assert rows["codecs and other threads"] == ["1.00"] and rows["decoded"] == ["4", "2.5", "10%", "20%"]
    assert report.profile.networks_share == pytest.approx(0.75)
    many = tuple((i, i) for i in range(0, 40, 2))
    assert "20 frames" in held_note(many) and "10 more" in held_note(many)
