"""Resident corpora and streamed shards give the examples of the plain loader, and resuming is exact."""

from __future__ import annotations

import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_shards import make_shard
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.networks.interface import Motion
from liveportrait.training.config import DataConfig
from liveportrait.training.data.augment import Change, augment_batch, random_colour, random_similarity
from liveportrait.training.data.batches import (
    BackgroundBatches,
    RankSlice,
    ResidentBatches,
    ResidentCorpus,
    batches,
)
from liveportrait.training.data.corpora import open_batches, open_corpora
from liveportrait.training.data.corpus import Corpus, ensure_corpus
from liveportrait.training.data.samplers import ClipSampler, FrameSampler, PairSampler, Shot
from liveportrait.training.data.stream import ShardStream, StreamBatches, Window, count_slots

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number in range(4):
        make_shard(folder / f"{number}.tar", clips=3, pictures=2, seed=number)
    return folder


@pytest.fixture(scope="module")
def corpus(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus") / "all"
    return ensure_corpus([shards / "0.tar"], folder, 8, one_in=1000, seed=0)


def assert_alike(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Motions within 1e-5, pixels within one grey level of rounding."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name.endswith("picture"):
            assert (found[name].int() - value.int()).abs().max() <= 1, name
        else:
            assert torch.allclose(found[name], value, atol=1e-5), name


@pytest.mark.parametrize("kind", ["frames", "pairs"])
def test_resident_batches_equal_the_loaders(corpus: Corpus, kind: str) -> None:
    sampler: ClipSampler = FrameSampler(corpus, blinks=0.5) if kind == "frames" else PairSampler(corpus, 128)
    rank_slice = RankSlice(12)
    resident = ResidentBatches(sampler, rank_slice, seed=4, start=1, device=CPU)
    for wanted in itertools.islice(batches(sampler, rank_slice, seed=4, start=1), 2):
        assert_alike(next(resident), wanted)


def test_a_batch_of_changes_equals_each_change_alone(corpus: Corpus) -> None:
    """All kinds of changes in one batch, as on a device."""
    rng = np.random.default_rng(3)
    head = random_similarity(rng, degrees=16, zoom=0.1, shift=0.1)
    move = random_similarity(rng, degrees=20, zoom=0.15, shift=0.12)
    changes = [
        Change(),
        Change(blink=1.0),
        Change(head=head),
        Change(flip=True),
        Change(move=move),
        Change(colour=random_colour(rng)),
        Change(blur=1.7),
        Change(detail=80),
        Change(0.6, head, move, True, random_colour(rng), 0.8),
    ]
    together = ResidentCorpus(corpus, CPU).augment_batch([Shot(0, 2, change) for change in changes], 128)
    frame = corpus.take(0).frame(2)
    plain = together["picture"][0].int()
    for row, change in enumerate(changes):
        picture, motion = augment_batch(*frame, [change], 128)
        assert_alike(
            {name: value[row : row + 1] for name, value in together.items()},
            {"picture": picture, **motion._asdict()},
        )
        assert row == 0 or (picture[0].int() - plain).abs().float().mean() > 0.05  # something happens


def stream_of(shards: Path, corpus: Corpus, one_in: int = 1000) -> ShardStream:
    paths = tuple(sorted(shards.glob("*.tar")))
    effect = np.zeros((52, 63), np.float32)
    return ShardStream(paths, tuple(count_slots(p) for p in paths), effect, 8, one_in, seed=0)


def stream_batches(
    stream: ShardStream, sampler: ClipSampler, rank_slice: RankSlice, workers: int = 1
) -> StreamBatches:
    return StreamBatches(stream, sampler, rank_slice, 7, workers=workers, window=4, draws_per_clip=2)


def test_a_stream_resumes_exactly_at_any_batch(shards: Path, corpus: Corpus) -> None:
    stream, sampler = stream_of(shards, corpus), PairSampler(corpus, 64)
    through = stream_batches(stream, sampler, RankSlice(4))
    wanted = [through(number) for number in range(14)]  # into the second epoch of 20 clips
    for start in (3, 12):
        resumed = stream_batches(stream, sampler, RankSlice(4))
        for number in (start, start + 1):
            found = resumed(number)
            assert all((found[name] == wanted[number][name]).all() for name in found)


def test_a_stream_reads_every_clip_once_per_epoch_with_any_number_of_readers(
    shards: Path, corpus: Corpus
) -> None:
    stream = stream_of(shards, corpus)
    assert stream.slots == (5, 5, 5, 5)

    def clips(reader: int, readers: int, count: int) -> list[bytes]:
        read = itertools.islice(stream.read(reader, readers, 0), count)
        return [clip.frames[0].tobytes() for clip in read if clip is not None]

    alone = clips(0, 1, 20)
    assert len(set(alone)) == 20
    assert set(clips(0, 2, 10) + clips(1, 2, 10)) == set(alone)
    orders = [stream.order(epoch, 0, 1) for epoch in range(4)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders) and orders[0] != orders[1]


def test_a_window_holds_no_more_than_its_size(shards: Path, corpus: Corpus) -> None:
    window = Window(stream_of(shards, corpus), 3, reader=0, readers=1, tick=0)
    seen = []
    for _ in range(6):
        assert len(window.lengths) <= 3
        seen.append(window.take(0).frames[0].tobytes())
        window.advance()
    assert len(set(seen)) == 6


def test_a_stream_lifts_clips_as_the_corpus_does(shards: Path, tmp_path: Path) -> None:
    """Given the effect measured on all clips, a clip lifted alone has the same motion as in the corpus."""
    data = DataConfig(("*.tar",), frames_per_clip=12, hold_out_one_in=4, mode="stream")
    corpus, _, stream = open_corpora(data, shards, tmp_path / "run", seed=0)
    assert stream is not None
    by_picture = {
        corpus.take(n).frames[0].tobytes(): corpus.take(n).motion for n in range(len(corpus.lengths))
    }
    compared = 0
    for clip in itertools.islice(stream.read(0, 1, 0), 20):
        if clip is not None and (motion := by_picture.pop(clip.frames[0].tobytes(), None)) is not None:
            compared += 1
            for name in Motion._fields:
                assert np.allclose(getattr(clip.motion, name), getattr(motion, name), atol=1e-4), name
    assert compared == len(corpus.lengths) and not by_picture  # both hold out the same clips


def test_a_broken_member_is_skipped_named_and_counted(
    shards: Path, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((shards / "0.tar").read_bytes())
    with tarfile.open(shards / "0.tar") as tar:
        member = tar.getmember("0-001.npz")
        content[member.offset_data : member.offset_data + 200] = bytes(200)
        content[member.offset_data + member.size - 200 : member.offset_data + member.size] = bytes(200)
    (tmp_path / "0.tar").write_bytes(content)
    broken, whole = stream_of(tmp_path, corpus), stream_of(shards, corpus)
    found = list(itertools.islice(broken.read(0, 1, 0), 5))
    assert [clip is None for clip in found] == [False, True, False, False, False]
    said = capsys.readouterr().err
    assert "0-001" in said and "skipped (1" in said
    assert whole.slots[0] == broken.slots[0]


def test_worker_processes_stream_in_a_fixed_order(shards: Path, tmp_path: Path) -> None:
    data = DataConfig(("*.tar",), 8, 4, mode="stream", workers=2, window=4, draws_per_clip=2, sample_shards=2)
    corpus, held_out, stream = open_corpora(data, shards, tmp_path / "run", seed=0)
    assert 0 < len(corpus.lengths) < 10 and len(held_out.lengths)  # of two shards
    sampler, rank_slice = PairSampler(corpus, 64), RankSlice(2)
    loader = open_batches(sampler, stream, data, rank_slice, seed=7, start=5, device=CPU)
    try:
        found = [next(loader) for _ in range(2)]
    finally:
        loader.close()
    assert stream is not None
    for number, batch in zip((5, 6), found, strict=True):
        wanted = stream_batches(stream, sampler, rank_slice, workers=2)(number)
        assert all((batch[name].numpy() == wanted[name]).all() for name in wanted)


def refuse(number: int) -> dict[str, np.ndarray]:
    raise UserError(f"batch {number} cannot be drawn")


def test_an_error_in_a_worker_is_raised_in_the_trainer() -> None:
    loader = BackgroundBatches(refuse, start=3)
    try:
        with pytest.raises(UserError, match="batch 3 cannot be drawn"):
            next(loader)
    finally:
        loader.close()


def test_fewer_shards_than_readers_is_an_error_with_a_remedy(shards: Path, corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"lower data\.workers"):
        stream_batches(stream_of(shards, corpus), FrameSampler(corpus), RankSlice(4, world=2), workers=3)


def test_a_window_without_labels_is_an_error(shards: Path, corpus: Corpus) -> None:
    everyone_held_out = stream_of(shards, corpus, one_in=1)
    with pytest.raises(UserError, match="held out"):
        stream_batches(everyone_held_out, FrameSampler(corpus), RankSlice(2))(0)
