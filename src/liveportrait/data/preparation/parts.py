"""The part of the result that one input gives: a tar of its samples, and a JSON file that says it is complete.

Parts lie in the output folder under the input's fingerprint. Each file takes its name in one step and the JSON file
comes last, so that a process killed at any moment leaves whole parts only.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.encoder import add_member, json_bytes
from liveportrait.errors import UserError
from liveportrait.media import output_file

FOLDER = "parts"


@dataclass(frozen=True)
class Dropped:
    """A part of an input that no sample shows."""

    reason: str  # one of a few words, to count by
    detail: str  # figures, for people
    start_s: float | None = None  # None: the input as a whole
    end_s: float | None = None


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """A sample without its pixels, as the last step needs it."""

    key: str
    frames: int
    is_video: bool
    score: float  # quality, 0 to 1
    embedding: NDArray[np.float32] | None  # (128,); None: unlabelled
    hashes: NDArray[np.uint8]  # (n,32)
    about: dict[str, Any]  # of KEY.json; identity and path are added at the end

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "key": self.key,
            "frames": self.frames,
            "is_video": self.is_video,
            "score": self.score,
            "embedding": None if self.embedding is None else [float(value) for value in self.embedding],
            "hashes": [row.tobytes().hex() for row in self.hashes],
            "about": self.about,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> SampleRecord:
        """The inverse."""
        hashes = np.frombuffer(bytes.fromhex("".join(stored["hashes"])), np.uint8)
        embedding = stored["embedding"]
        return cls(
            stored["key"],
            stored["frames"],
            stored["is_video"],
            stored["score"],
            None if embedding is None else np.array(embedding, np.float32),
            hashes.reshape(len(stored["hashes"]), -1),
            stored["about"],
        )


@dataclass(frozen=True, eq=False)
class Part:
    """The samples of one input, and what is dropped of it."""

    kind: str  # video, image or unknown
    seconds: float  # of video, as shown
    samples: tuple[SampleRecord, ...]
    dropped: tuple[Dropped, ...]


def write_part(folder: Path, key: str, part: Part, members: Mapping[str, bytes]) -> None:
    """Store a part; `members` are the samples' files by name."""
    tar_path, json_path = _paths(folder, key)
    if members:
        with output_file(tar_path, overwrite=True) as temporary, tarfile.open(temporary, "w") as tar:
            for name, content in members.items():
                add_member(tar, name, content)
    stored = {
        "kind": part.kind,
        "seconds": part.seconds,
        "samples": [sample.to_json() for sample in part.samples],
        "dropped": [asdict(dropped) for dropped in part.dropped],
    }
    with output_file(json_path, overwrite=True) as temporary:
        temporary.write_bytes(json_bytes(stored))


def has_part(folder: Path, key: str) -> bool:
    """Whether an input is finished."""
    return _paths(folder, key)[1].exists()


def read_part(folder: Path, key: str) -> Part:
    """A stored part. Raises UserError where the file was damaged after it was written."""
    path = _paths(folder, key)[1]
    try:
        stored = json.loads(path.read_bytes())
        return Part(
            stored["kind"],
            stored["seconds"],
            tuple(SampleRecord.from_json(sample) for sample in stored["samples"]),
            tuple(Dropped(**dropped) for dropped in stored["dropped"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it, and its input is prepared anew") from error


def read_members(folder: Path, key: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a part's files, in order."""
    path = _paths(folder, key)[0]
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    yield member.name, file.read()
    except (OSError, tarfile.TarError) as error:
        remedy = f"delete it and {path.stem}.json, and their input is prepared anew"
        raise UserError(f"{path} is damaged ({error}): {remedy}") from error


def sweep(folder: Path) -> None:
    """Remove what killed processes left behind under temporary names."""
    for path in (folder / FOLDER).glob(".liveportrait-*"):
        path.unlink(missing_ok=True)


def _paths(folder: Path, key: str) -> tuple[Path, Path]:
    return folder / FOLDER / f"{key}.tar", folder / FOLDER / f"{key}.json"
