"""Parts, the results of single inputs: a tar of samples, and a JSON file that shows that the part is complete.

Parts are stored in the output folder under the input's fingerprint. Each file gets its name in one step and the JSON
file comes last, so a process killed at any moment leaves only complete parts. The same samples always give the same
bytes: no time stamps, no user names, one encoder thread.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.labels import Labels
from liveportrait.data.shards import PICTURE_SIDE
from liveportrait.errors import UserError
from liveportrait.folders import sweep_unfinished
from liveportrait.media import output_file

FOLDER = "parts"


@dataclass(frozen=True)
class Dropped:
    """A piece of an input that is in no sample."""

    reason: str  # one of a few fixed words, to count by
    detail: str  # figures for the reader
    start_s: float | None = None  # None: the entire input
    end_s: float | None = None


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """A sample without its pixels, for the last step."""

    key: str
    frames: int
    is_video: bool
    score: float  # quality, 0 to 1
    embedding: NDArray[np.float32] | None  # (128,); None: unlabelled
    hashes: NDArray[np.uint8]  # (n,32)
    about: dict[str, Any]  # contents of KEY.json; identity and path are added at the end

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
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
        """The inverse of `to_json`."""
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
    """The samples of one input, and what was dropped from it."""

    kind: str  # video, image or unknown
    seconds: float  # of video
    samples: tuple[SampleRecord, ...]
    dropped: tuple[Dropped, ...]


def write_part(folder: Path, key: str, part: Part, members: Mapping[str, bytes]) -> None:
    """Store a part; `members` are its samples' files by name."""
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
    """Whether the part of an input is complete."""
    return _paths(folder, key)[1].exists()


def read_part(folder: Path, key: str) -> Part:
    """A stored part. Raises UserError if the file was damaged after it was written."""
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
        raise UserError(
            f"{path} is damaged ({error}): delete it, and its input will be prepared again"
        ) from error


def read_members(folder: Path, key: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a part's files, in order."""
    path = _paths(folder, key)[0]
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if (file := tar.extractfile(member)) is not None:
                    yield member.name, file.read()
    except (OSError, tarfile.TarError) as error:
        remedy = f"delete it and {path.stem}.json, and their input will be prepared again"
        raise UserError(f"{path} is damaged ({error}): {remedy}") from error


def sweep(folder: Path) -> None:
    """Remove temporary files that killed processes left behind."""
    for place in (folder, folder / FOLDER):
        sweep_unfinished(place)


def _paths(folder: Path, key: str) -> tuple[Path, Path]:
    return folder / FOLDER / f"{key}.tar", folder / FOLDER / f"{key}.json"


JPEG_QUALITY = 92


class ClipEncoder:
    """Encodes H.264 4:2:0 in MP4, in memory, with a key frame every second so that training can start anywhere."""

    def __init__(self, fps: int, crf: int) -> None:
        self._memory = io.BytesIO()
        self._container = av.open(self._memory, "w", format="mp4", options={"fflags": "+bitexact"})
        stream = self._container.add_stream(
            "libx264", rate=fps, options={"crf": str(crf), "preset": "medium"}
        )
        stream.width = stream.height = PICTURE_SIDE
        stream.pix_fmt = "yuv420p"
        stream.gop_size = fps
        # x264's output depends on the number of threads.
        stream.codec_context.thread_count = 1
        self._stream = stream
        self.frames = 0

    def __enter__(self) -> ClipEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def add(self, crop: NDArray[np.uint8]) -> None:
        """Append a frame (256,256,3) RGB."""
        frame = av.VideoFrame.from_ndarray(crop, format="rgb24")
        frame.pts = self.frames
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> bytes:
        """The MP4 file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._memory.getvalue()


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A picture (H,W,3) RGB as JPEG."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    )
    return data.tobytes()


def npz(labels: Labels) -> bytes:
    """Arrays as a compressed .npz."""
    memory = io.BytesIO()
    np.savez_compressed(memory, allow_pickle=False, **{name: labels[name] for name in sorted(labels)})
    return memory.getvalue()


def json_bytes(about: Mapping[str, Any]) -> bytes:
    """An object as JSON with sorted keys."""
    return json.dumps(about, sort_keys=True, ensure_ascii=False).encode()


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append a file to a tar, without date and owner."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
