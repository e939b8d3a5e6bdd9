"""Labels, augmentation and sampling: exactly what moves in the picture moves in the motion."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_shards import make_shard, project, turn

from liveportrait.data.shards import is_held_out, read_shard
from liveportrait.errors import UserError
from liveportrait.motion.lifting import AXES, KEYPOINTS, lift
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import LEFT_IRIS, LEFT_LIDS, LIDS, NOSE_TIP, RIGHT_IRIS, RIGHT_LIDS
from liveportrait.training.data.augment import (
    Change,
    ColourChange,
    Similarity,
    augment_batch,
    mirrored,
    random_similarity,
    recoloured,
)
from liveportrait.training.data.batches import BackgroundBatches, CorpusBatches, RankSlice, batches
from liveportrait.training.data.corpus import Corpus, build_corpus, ensure_corpus, load_corpus
from liveportrait.training.data.samplers import FrameSampler, PairSampler

ANGLES = [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.0, 0.25, 0.1), (-0.2, -0.1, -0.2)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("shards")
    make_shard(folder / "train.tar", clips=3, pictures=3)
    build_corpus([folder / "train.tar"], folder / "corpus", frames_per_clip=8, one_in=1000, seed=0)
    return load_corpus(folder / "corpus")


def augmented(corpus: Corpus, change: Change, clip: int = 0, frame: int = 0) -> tuple[np.ndarray, Motion]:
    """A frame's changed picture (256,256,3) and motion."""
    picture, motion = augment_batch(*corpus.take(clip).frame(frame), [change], 256)
    return picture[0].numpy(), motion


def test_lift_recovers_the_rendered_pose() -> None:
    rotations = np.stack([turn(*a) for a in ANGLES])
    shift = np.array([10.0, -6.0])
    landmarks = np.stack([project(r, 8.0, shift) for r in rotations])
    motion = lift(landmarks, rotations, np.zeros((4, 52), np.float32), np.zeros(4, np.int64))
    wanted = np.stack([(AXES @ r @ AXES).T for r in rotations])
    assert np.abs(motion.rotation.numpy() - wanted).max() < 1e-5
    assert np.ptp(motion.scale.numpy()) < 1e-5 * motion.scale.mean()
    assert motion.expression.abs().max() < 1e-4  # the mean face at rest has no expression in any pose
    seen = landmarks[:, KEYPOINTS] / 128 - 1
    assert np.abs(transform_keypoints(motion)[..., :2].numpy() - seen).max() < 1e-5


def test_corpus_keypoints_are_the_landmarks(corpus: Corpus) -> None:
    seen = corpus.landmarks[:, KEYPOINTS] / 128 - 1
    assert np.abs(transform_keypoints(corpus.motion)[..., :2].numpy() - seen).max() < 1e-4
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


def test_pixels_and_keypoints_move_together(corpus: Corpus) -> None:
    """A dot painted on the nose tip is found where the moved motion says."""
    frame, landmarks, motion = corpus.take(0).frame(0)
    x, y = ((transform_keypoints(motion)[0, NOSE_TIP, :2] + 1) * 128 - 0.5).round().int().tolist()
    frame = torch.zeros_like(frame)
    frame[0, y - 2 : y + 3, x - 2 : x + 3] = 255
    rng = np.random.default_rng(3)
    move, head = (random_similarity(rng, degrees=20, zoom=0.15, shift=0.1) for _ in range(2))
    for change in (
        Change(move=move),
        Change(flip=True),
        Change(head=head),
        Change(0.0, head, move, flip=True),
    ):
        picture, moved = augment_batch(frame, landmarks, motion, [change], 256)
        light = picture[0, ..., 0].float()
        axis = (torch.arange(256) + 0.5) / 128 - 1
        centre = torch.stack([(light.sum(0) * axis).sum(), (light.sum(1) * axis).sum()]) / light.sum()
        assert (transform_keypoints(moved)[0, NOSE_TIP, :2] - centre).norm() < 0.01  # 1.3 px


def test_a_frame_without_changes_is_unchanged(corpus: Corpus) -> None:
    frame, _, motion = corpus.take(0).frame(2)
    picture, same = augmented(corpus, Change(move=Similarity(), head=Similarity()), frame=2)
    assert np.array_equal(picture, frame[0].numpy())
    assert torch.allclose(transform_keypoints(same), transform_keypoints(motion), atol=1e-6)


def test_mirroring_twice_is_the_identity(corpus: Corpus) -> None:
    _, _, motion = corpus.take(0).frame(1)
    once = mirrored(motion)
    before, after = transform_keypoints(motion)[0], transform_keypoints(once)[0]
    assert torch.allclose(transform_keypoints(mirrored(once))[0], before, atol=1e-6)
    assert torch.allclose(before[RIGHT_IRIS] * torch.tensor([-1.0, 1, 1]), after[LEFT_IRIS], atol=1e-6)


def test_a_blink_brings_the_lids_together_and_leaves_the_mouth(corpus: Corpus) -> None:
    frame, _, motion = corpus.take(0).frame(0)
    picture, before = frame[0].numpy(), transform_keypoints(motion)[0]
    blinked, after_motion = augmented(corpus, Change(blink=1.0))
    after = transform_keypoints(after_motion)[0]
    for upper, lower in (RIGHT_LIDS, LEFT_LIDS):
        assert (after[lower] - after[upper]).norm() < 0.1 * (before[lower] - before[upper]).norm()
    others = sorted(set(range(21)) - set(LIDS))
    assert torch.allclose(before[others], after[others], atol=1e-6)
    eye_white = [int((p.astype(int).min(-1) > 230).sum()) for p in (picture, blinked)]
    assert eye_white[1] < 0.35 * eye_white[0]
    assert np.array_equal(picture[200:], blinked[200:])


def test_half_a_blink_closes_the_eye_halfway(corpus: Corpus) -> None:
    white = [
        int((augmented(corpus, Change(blink=amount))[0].astype(int).min(-1) > 230).sum())
        for amount in (0.0, 0.5, 1.0)
    ]
    assert white[2] < 0.35 * white[0] and 0.3 * white[0] < white[1] < 0.75 * white[0]


def test_moving_the_head_keeps_the_corners_of_the_picture(corpus: Corpus) -> None:
    frame, _, motion = corpus.take(0).frame(0)
    move = random_similarity(np.random.default_rng(1), degrees=15, zoom=0.1, shift=0.05)
    moved, moved_motion = augmented(corpus, Change(head=move))
    assert np.abs(moved[:8, :8].astype(int) - frame[0, :8, :8].numpy()).max() < 12
    assert (transform_keypoints(moved_motion) - transform_keypoints(motion)).abs().max() > 0.01


def test_colours_change_by_their_parameters() -> None:
    grey = torch.full((2, 4, 4, 3), 128, dtype=torch.uint8)
    brighter, plain = recoloured(grey, [ColourChange(brightness=0.1, gains=(1.0, 0.5, 1.0)), None])
    assert torch.allclose(plain, torch.tensor(128.0), atol=1e-3)
    wanted = torch.tensor([1.0, 0.5, 1.0]) * (128 / 255 + 0.1) * 255
    assert torch.allclose(brighter[:, 0, 0], wanted, atol=1e-3)
    (unsaturated,) = recoloured(
        grey[:1] * torch.tensor([1, 0, 0], dtype=torch.uint8), [ColourChange(saturation=0)]
    )
    assert torch.allclose(unsaturated, torch.tensor(128 * 0.299), atol=1e-3)


def test_blur_and_lost_detail_keep_the_mean_and_soften_edges(corpus: Corpus) -> None:
    frame = corpus.take(0).frame(0)[0][0].numpy().astype(float)
    for change in (Change(blur=1.7), Change(detail=80)):
        soft = augmented(corpus, change)[0].astype(float)
        assert abs(soft.mean() - frame.mean()) < 0.5
        assert np.abs(np.diff(soft, axis=0)).max() < 0.7 * np.abs(np.diff(frame, axis=0)).max()


def test_batches_depend_only_on_seed_and_number(corpus: Corpus) -> None:
    draw = PairSampler(corpus, size=64)
    stream = batches(draw, 2, seed=5)
    first, second = next(stream), next(stream)
    resumed = next(batches(draw, 2, seed=5, start=1))
    assert all((second[name] == resumed[name]).all() for name in second)
    assert not all((first[name] == second[name]).all() for name in first)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, as in loader processes: with more, pictures differ by a grey level."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_several_loader_processes_draw_the_same_batches_in_the_same_order(corpus: Corpus) -> None:
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


def test_a_batch_that_cannot_be_divided_says_what_can() -> None:
    with pytest.raises(UserError, match="multiple of 6"):
        RankSlice(8, accumulate=2, world=3)


def test_a_corpus_is_rebuilt_when_its_data_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_shard(tmp_path / "a.tar", clips=2, pictures=1)
    shards, folder = [tmp_path / "a.tar"], tmp_path / "corpus"
    first = ensure_corpus(shards, folder, 4, one_in=1000, seed=0)
    written = (folder / "frames.npy").stat().st_mtime_ns
    again = ensure_corpus(shards, folder, 4, one_in=1000, seed=0)
    assert (folder / "frames.npy").stat().st_mtime_ns == written and again.digest == first.digest
    assert not capsys.readouterr().err
    more = ensure_corpus(shards, folder, 6, one_in=1000, seed=0)
    assert more.lengths.tolist() == [6, 6, 1] and more.digest != first.digest
    assert "rebuilding it" in capsys.readouterr().err
    assert first.frames[0].any()  # a process that has mapped the old one keeps it
    make_shard(tmp_path / "b.tar", clips=1, pictures=0, seed=1)
    shards.append(tmp_path / "b.tar")
    assert len(ensure_corpus(shards, folder, 6, one_in=1000, seed=0).lengths) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "corpus"]


def test_a_file_that_is_not_a_tar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.tar"
    path.write_bytes(b"not a tar at all" * 100)
    with pytest.raises(UserError, match=r"broken\.tar"):
        list(read_shard(path))
