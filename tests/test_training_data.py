"""Labels, augmentation and sampling: what moves in the picture moves in the motion, and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_shards import make_shard, project, turn

from liveportrait.data.shards import is_held_out, read_shard
from liveportrait.errors import UserError
from liveportrait.motion.lifting import AXES, KEYPOINTS, lift
from liveportrait.training.data.augment import FrameMotion, close_eyes, move_head, random_similarity
from liveportrait.training.data.batches import BackgroundBatches, CorpusBatches, RankSlice, batches
from liveportrait.training.data.corpus import Corpus, build_corpus, ensure_corpus, load_corpus
from liveportrait.training.data.samplers import MOTION_FIELDS, FrameSampler, PairSampler

ANGLES = [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.0, 0.25, 0.1), (-0.2, -0.1, -0.2)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("shards")
    make_shard(folder / "train.tar", clips=3, pictures=3)
    build_corpus([folder / "train.tar"], folder / "corpus", frames_per_clip=8, one_in=1000, seed=0)
    return load_corpus(folder / "corpus")


def motion_of_row(corpus: Corpus, row: int) -> FrameMotion:
    return FrameMotion(**{name: getattr(corpus.motion, name)[row] for name in MOTION_FIELDS})


def test_lift_recovers_the_pose_it_was_drawn_with() -> None:
    rotations = np.stack([turn(*a) for a in ANGLES])
    shift = np.array([10.0, -6.0])
    landmarks = np.stack([project(r, 8.0, shift) for r in rotations])
    motion = lift(landmarks, rotations, np.zeros((4, 52), np.float32), np.zeros(4, np.int64))
    wanted = np.stack([(AXES @ r @ AXES).T for r in rotations])
    assert np.abs(motion.rotation - wanted).max() < 1e-5
    assert np.ptp(motion.scale) < 1e-5 * motion.scale.mean()
    assert np.abs(motion.expression).max() < 1e-4  # the mean face at rest has no expression in any pose
    seen = landmarks[:, KEYPOINTS] / 128 - 1
    assert np.abs(motion.keypoints()[..., :2] - seen).max() < 1e-5


def test_corpus_keypoints_are_the_landmarks(corpus: Corpus) -> None:
    seen = corpus.landmarks[:, KEYPOINTS] / 128 - 1
    assert np.abs(corpus.motion.keypoints()[..., :2] - seen).max() < 1e-4
    assert len(corpus.rows_of_clips()) == 6


def test_identities_split_between_training_and_held_out(tmp_path: Path) -> None:
    make_shard(tmp_path / "a.tar", clips=0, pictures=12)
    names = {sample.identity for sample in read_shard(tmp_path / "a.tar")}
    expected = {name for name in names if is_held_out(name, 3)}
    assert 0 < len(expected) < len(names)
    for held_out, folder in ((False, tmp_path / "t"), (True, tmp_path / "h")):
        build_corpus([tmp_path / "a.tar"], folder, 4, one_in=3, seed=0, held_out=held_out)
    rows = [len(load_corpus(tmp_path / name).clip) for name in ("t", "h")]
    assert rows == [len(names) - len(expected), len(expected)]


def test_similarity_moves_picture_and_motion_alike(corpus: Corpus) -> None:
    rng = np.random.default_rng(3)
    motion = motion_of_row(corpus, 0)
    move = random_similarity(rng, degrees=20, zoom=0.15, shift=0.1)
    expected = move.zoom * (motion.keypoints()[:, :2] @ move.roll[:2, :2]) + move.shift
    assert np.abs(move.move(motion).keypoints()[:, :2] - expected).max() < 1e-5
    x, y = 150, 101
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    weights = move.warp(picture)[..., 0].astype(float)
    centre = np.array([(weights * axis).sum() / weights.sum() for axis in np.mgrid[:256, :256][::-1]])
    start = (np.array([x, y]) + 0.5) / 128 - 1
    goal = ((move.zoom * (start @ move.roll[:2, :2]) + move.shift) + 1) * 128 - 0.5
    assert np.abs(centre - goal).max() < 0.2


def test_mirroring_twice_is_the_identity(corpus: Corpus) -> None:
    motion = motion_of_row(corpus, 1)
    mirrored = motion.mirrored()
    assert np.allclose(mirrored.mirrored().keypoints(), motion.keypoints(), atol=1e-6)
    right, left = motion.keypoints()[4], mirrored.keypoints()[5]
    assert np.allclose(right * [-1, 1, 1], left, atol=1e-6)


def test_a_blink_brings_the_lids_together_and_leaves_the_mouth(corpus: Corpus) -> None:
    row = 0
    picture, motion = np.asarray(corpus.frames[row]), motion_of_row(corpus, row)
    before = motion.keypoints()
    blinked, after_motion = close_eyes(picture, corpus.landmarks[row], motion, amount=1.0)
    after = after_motion.keypoints()
    for upper, lower in ((0, 1), (2, 3)):
        opening = np.linalg.norm(before[lower] - before[upper])
        assert np.linalg.norm(after[lower] - after[upper]) < 0.1 * opening
    assert np.allclose(before[4:], after[4:], atol=1e-6)
    eye_white = [int((p.astype(int).min(-1) > 230).sum()) for p in (picture, blinked)]
    assert eye_white[1] < 0.35 * eye_white[0]
    assert np.array_equal(picture[200:], blinked[200:])


def test_moving_the_head_keeps_the_corners_of_the_picture(corpus: Corpus) -> None:
    picture, motion = np.asarray(corpus.frames[0]), motion_of_row(corpus, 0)
    move = random_similarity(np.random.default_rng(1), degrees=15, zoom=0.1, shift=0.05)
    moved, moved_motion = move_head(picture, motion, move)
    assert np.abs(moved[:8, :8].astype(int) - picture[:8, :8]).max() < 12
    assert np.abs(moved_motion.keypoints() - motion.keypoints()).max() > 0.01


def test_batches_depend_on_seed_and_number_alone(corpus: Corpus) -> None:
    draw = PairSampler(corpus, size=64)
    stream = batches(draw, 2, seed=5)
    first, second = next(stream), next(stream)
    resumed = next(batches(draw, 2, seed=5, start=1))
    assert all((second[name] == resumed[name]).all() for name in second)
    assert not all((first[name] == second[name]).all() for name in first)


def test_several_loading_processes_draw_the_same_batches_in_the_same_order(corpus: Corpus) -> None:
    draw = FrameSampler(corpus)
    loader = BackgroundBatches(CorpusBatches(draw, RankSlice(2), seed=1), start=3, workers=2)
    try:
        drawn = [next(loader) for _ in range(3)]
    finally:
        loader.close()
    expected = itertools.islice(batches(draw, 2, seed=1, start=3), 3)
    for found, wanted in zip(drawn, expected, strict=True):
        assert all((found[name] == wanted[name]).all() for name in wanted)


def test_processes_and_micro_batches_together_draw_the_joint_batch(corpus: Corpus) -> None:
    draw = PairSampler(corpus, size=64)
    stream = batches(draw, 8, seed=2)
    for step in range(2):
        whole = next(stream)
        parts = [
            next(
                batches(draw, RankSlice(8, accumulate=2, rank=rank, world=2), seed=2, start=2 * step + micro)
            )
            for micro in range(2)
            for rank in range(2)
        ]
        assert all((torch.cat([part[name] for part in parts]) == whole[name]).all() for name in whole)


def test_a_batch_that_cannot_be_divided_names_what_would_do() -> None:
    with pytest.raises(UserError, match="multiple of 6"):
        RankSlice(8, accumulate=2, world=3)


def test_a_corpus_is_made_anew_when_its_data_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_shard(tmp_path / "a.tar", clips=2, pictures=1)
    shards, folder = [tmp_path / "a.tar"], tmp_path / "corpus"
    first = ensure_corpus(shards, folder, 4, one_in=1000, seed=0)
    written = (folder / "frames.npy").stat().st_mtime_ns
    again = ensure_corpus(shards, folder, 4, one_in=1000, seed=0)
    assert (folder / "frames.npy").stat().st_mtime_ns == written and again.digest == first.digest
    assert not capsys.readouterr().err
    more = ensure_corpus(shards, folder, 6, one_in=1000, seed=0)
    assert more.lengths.tolist() == [6, 6, 1] and more.digest != first.digest
    assert "made anew" in capsys.readouterr().err
    assert first.frames[0].any()  # who had mapped the old one keeps it
    make_shard(tmp_path / "b.tar", clips=1, pictures=0, seed=1)
    shards.append(tmp_path / "b.tar")
    assert len(ensure_corpus(shards, folder, 6, one_in=1000, seed=0).lengths) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "corpus"]


def test_a_file_that_is_no_tar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.tar"
    path.write_bytes(b"not a tar at all" * 100)
    with pytest.raises(UserError, match=r"broken\.tar"):
        list(read_shard(path))
