"""The last step, from parts to shards. It sees all inputs, so identities and duplicates are determined here.

Samples are ordered by fingerprint, not by time, so a resumed run writes exactly the same bytes. Since fingerprints are
hashes, this also shuffles the samples.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liveportrait.data.preparation.matches import cluster, duplicates
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import (
    Dropped,
    Part,
    SampleRecord,
    add_member,
    json_bytes,
    read_members,
    read_part,
)
from liveportrait.data.preparation.report import Statistics
from liveportrait.media import output_file

MEGABYTE = 1 << 20
TAR_BLOCK = 512
# What a picture counts, compared with a clip, when deciding which of two duplicates to keep
PICTURE_SECONDS = 1.0


@dataclass(frozen=True)
class Chosen:
    """A sample that goes into a shard."""

    part: str  # key of its part
    record: SampleRecord
    identity: str


@dataclass(frozen=True)
class Selection:
    """The samples of all parts that were chosen, and all pieces that were dropped."""

    chosen: tuple[Chosen, ...]
    dropped: tuple[tuple[str, Dropped], ...]  # key of the part, and a piece; duplicates included
    video_seconds: float


def select(folder: Path, keys: Sequence[str], options: PrepareOptions) -> Selection:
    """Read the parts, assign identities and find duplicates. An identity is named after its first sample."""
    parts: list[tuple[str, Part]] = [(key, read_part(folder, key)) for key in sorted(keys)]
    samples = [(key, sample) for key, part in parts for sample in part.samples]
    identities = _identities([sample for _, sample in samples], options.same_identity)
    worth = [
        record.score * (record.frames / options.fps if record.is_video else PICTURE_SECONDS)
        for _, record in samples
    ]
    # Samples without a face have no identity that could separate them: they form one group.
    groups = ["" if record.embedding is None else identities[n] for n, (_, record) in enumerate(samples)]
    repeated = duplicates([record.hashes for _, record in samples], worth, groups, options.duplicate_bits)
    dropped = [(key, item) for key, part in parts for item in part.dropped]
    for number, kept in sorted(repeated.items()):
        key, record = samples[number]
        start = record.about.get("src_start_s")
        end = None if start is None else round(start + record.frames / options.fps, 3)
        dropped.append((key, Dropped("duplicate", f"of {samples[kept][1].key}", start, end)))
    chosen = [
        Chosen(key, record, identities[number])
        for number, (key, record) in enumerate(samples)
        if number not in repeated
    ]
    return Selection(tuple(chosen), tuple(dropped), sum(part.seconds for _, part in parts))


def write_shards(
    folder: Path, chosen: Sequence[Chosen], names: dict[str, str], options: PrepareOptions
) -> tuple[list[Path], Statistics]:
    """Write shards of the chosen samples; `names` are the inputs' names by key. Earlier shards are replaced."""
    statistics = Statistics(options.fps)
    shards: list[Path] = []
    room = 0
    with ExitStack() as stack:
        tar: tarfile.TarFile | None = None
        for members in _samples(folder, chosen, names, statistics):
            if tar is None or room <= 0:
                stack.close()
                shards.append(folder / f"shard-{len(shards):05d}.tar")
                temporary = stack.enter_context(output_file(shards[-1], overwrite=True))
                tar = stack.enter_context(tarfile.open(temporary, "w"))
                room = options.shard_megabytes * MEGABYTE
            for name, content in members.items():
                add_member(tar, name, content)
                room -= len(content) + TAR_BLOCK
    for old in set(folder.glob("shard-*.tar")) - set(shards):
        old.unlink()
    return shards, statistics


def _samples(
    folder: Path, chosen: Sequence[Chosen], names: dict[str, str], statistics: Statistics
) -> Iterator[dict[str, bytes]]:
    """The files of each sample, media first and JSON last."""
    by_part: dict[str, list[Chosen]] = {}
    for sample in chosen:
        by_part.setdefault(sample.part, []).append(sample)
    for key, samples in by_part.items():
        files: dict[str, dict[str, bytes]] = {}
        for name, content in read_members(folder, key):
            stem, _, suffix = name.rpartition(".")
            files.setdefault(stem, {})[suffix] = content
        for sample in samples:
            own = files[sample.record.key]
            statistics.add(sample.record, sample.identity, own.get("npz"))
            about: dict[str, Any] = {
                **sample.record.about,
                "identity": sample.identity,
                "path": names[sample.part],
            }
            yield {
                **{f"{sample.record.key}.{suffix}": content for suffix, content in own.items()},
                f"{sample.record.key}.json": json_bytes(about),
            }


def _identities(samples: Sequence[SampleRecord], threshold: float) -> list[str]:
    """The identity of each sample: the key of its identity's first sample, or its own key if it has no face."""
    names = [sample.key for sample in samples]
    known = [(index, e) for index, sample in enumerate(samples) if (e := sample.embedding) is not None]
    if not known:
        return names
    first: dict[int, str] = {}
    numbers = cluster(np.stack([embedding for _, embedding in known]), threshold).tolist()
    for (index, _), number in zip(known, numbers, strict=True):
        names[index] = first.setdefault(number, names[index])
    return names
