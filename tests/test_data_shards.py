"""Shards with broken members: skipped, counted and named, or refused; and entries without labels."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_shards import make_shard

from liveportrait.data.shards import Sample, read_entries, read_shard
from liveportrait.errors import UserError
from liveportrait.training.data.corpus import build_corpus, load_corpus

Members = dict[str, bytes]


def members(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return {m.name: handle.read() for m in tar if (handle := tar.extractfile(m)) is not None}


def write(path: Path, content: Members) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """Two clips, 0-000 and 0-001, and two pictures, 0-002 and 0-003."""
    path = tmp_path_factory.mktemp("whole") / "shard.tar"
    make_shard(path, clips=2, pictures=2)
    return members(path)


def relabelled(npz: bytes, change: Callable[[dict[str, np.ndarray]], None]) -> bytes:
    with np.load(io.BytesIO(npz)) as stored:
        labels = {name: stored[name] for name in stored.files}
    change(labels)
    out = io.BytesIO()
    np.savez(out, **labels)
    return out.getvalue()


def without_rotation(labels: dict[str, np.ndarray]) -> None:
    del labels["rot"]


def one_frame_less(labels: dict[str, np.ndarray]) -> None:
    for name in labels:
        labels[name] = labels[name][:-1]


def of_a_larger_picture(labels: dict[str, np.ndarray]) -> None:
    labels["lmk"] = np.clip(labels["lmk"].astype(np.int64) * 3, 0, 65535).astype(np.uint16)


def normalised(labels: dict[str, np.ndarray]) -> None:
    labels["lmk"] = (labels["lmk"] / 256).astype(np.uint16)


def large_picture() -> bytes:
    return cv2.imencode(".jpg", np.full((512, 512, 3), 90, np.uint8))[1].tobytes()


BREAKAGES = {
    "mp4 cut": ("0-000.mp4", lambda data: data[: len(data) // 2], "Invalid data"),
    "mp4 is something else": ("0-000.mp4", lambda data: b"hello" * 99, "Invalid data"),
    "npz is not a zip": ("0-000.npz", lambda data: b"PK" + data[90:], "0-000"),
    "npz cut": ("0-000.npz", lambda data: data[:200], "zip"),
    "a label is missing": ("0-000.npz", lambda data: relabelled(data, without_rotation), "without rot"),
    "counts disagree": ("0-000.npz", lambda data: relabelled(data, one_frame_less), "12 frames"),
    "another size": ("0-000.npz", lambda data: relabelled(data, of_a_larger_picture), "256 px"),
    "another unit": ("0-000.npz", lambda data: relabelled(data, normalised), "256 px"),
    "json cut": ("0-000.json", lambda data: data[:-1], "0-000"),
    "json is a list": ("0-000.json", lambda data: b"[]", "object"),
    "jpg cut": ("0-002.jpg", lambda data: data[: len(data) * 2 // 3], "cut off"),
    "jpg of another size": ("0-002.jpg", lambda data: large_picture(), "512x512"),
}


@pytest.mark.parametrize("case", BREAKAGES)
def test_a_broken_member_is_skipped_and_reported_or_refused(
    case: str, whole: Members, tmp_path: Path
) -> None:
    name, broken, words = BREAKAGES[case]
    path = write(tmp_path / "shard.tar", {**whole, name: broken(whole[name])})
    warnings: list[str] = []
    keys = [sample.key for sample in read_shard(path, warnings.append)]
    lost = name.split(".")[0]
    assert keys == [f"0-00{k}" for k in range(4) if f"0-00{k}" != lost]
    assert len(warnings) == 1 and lost in warnings[0] and str(path) in warnings[0] and words in warnings[0]
    with pytest.raises(UserError, match=lost):
        list(read_shard(path))


def test_a_truncated_shard_yields_its_intact_samples(whole: Members, tmp_path: Path) -> None:
    path = write(tmp_path / "shard.tar", whole)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"0-002.npz") + 700])
    warnings: list[str] = []
    assert [sample.key for sample in read_shard(path, warnings.append)] == ["0-000", "0-001"]
    assert len(warnings) == 1 and "0-002" in warnings[0]
    with pytest.raises(UserError, match="cannot be read"):
        list(read_shard(path))


def test_entries_without_labels_are_yielded_on_request(whole: Members, tmp_path: Path) -> None:
    cat = {"cat.jpg": whole["0-002.jpg"], "cat.json": json.dumps({"domain": "animal"}).encode()}
    path = write(tmp_path / "shard.tar", {**whole, **cat})
    assert "cat" not in [sample.key for sample in read_shard(path)]
    entries = list(read_entries(path))
    assert [isinstance(entry, Sample) for entry in entries] == [True] * 4 + [False]
    assert (entries[-1].key, entries[-1].domain) == ("cat", "animal")
    assert entries[-1].frames().shape == (1, 256, 256, 3)
    assert entries[0].domain == "photo"


def test_a_corpus_is_built_from_intact_samples(whole: Members, tmp_path: Path, capsys) -> None:
    # A damaged frame in the middle: all packets are there, so only decoding can reveal it.
    video = bytearray(whole["0-001.mp4"])
    start = video.index(b"mdat") + 900
    video[start : start + 1500] = bytes(1500)
    path = write(tmp_path / "shard.tar", {**whole, "0-000.npz": b"nothing", "0-001.mp4": bytes(video)})
    build_corpus([path], tmp_path / "corpus", frames_per_clip=12, one_in=10**9, seed=0)
    printed = capsys.readouterr().err
    assert "skipped 2 broken samples" in printed and "0-000" in printed and "0-001" in printed
    assert len(load_corpus(tmp_path / "corpus").clip) == 2
