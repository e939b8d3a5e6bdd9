"""Reads training shards: tar files in WebDataset layout, `KEY.mp4` or `KEY.jpg` with `KEY.npz` and `KEY.json`."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.errors import UserError

LANDMARKS = 111
PICTURE_SIDE = 256


@dataclass(frozen=True)
class Sample:
    """One clip, or one picture as a clip of one frame."""

    key: str
    identity: str  # of the person, where known; otherwise the key
    is_video: bool
    media: bytes
    rotation: NDArray[np.float32]  # (T,3,3) canonical face to camera: x right, y up, camera looks along -z
    blendshapes: NDArray[np.float32]  # (T,52) in [0, 1]
    landmarks: NDArray[np.float32]  # (T,111,2) px of the 256 px crop
    measured: NDArray[np.bool_]  # (T,) False where a label is interpolated

    def frames(self, wanted: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Decoded frames (n,256,256,3) RGB; `wanted` are ascending frame numbers, all by default.

        Raises UserError when the sample cannot be decoded.
        """
        try:
            return self._decode(wanted)
        except (av.FFmpegError, ValueError) as error:
            raise UserError(
                f"Sample {self.key} cannot be decoded ({error}): prepare its shard anew."
            ) from error

    def _decode(self, wanted: NDArray[np.int64] | None) -> NDArray[np.uint8]:
        if not self.is_video:
            decoded = cv2.imdecode(np.frombuffer(self.media, np.uint8), cv2.IMREAD_COLOR_RGB)
            if decoded is None:
                raise ValueError("not a picture")
            return np.asarray(decoded, np.uint8)[None]
        keep = None if wanted is None else set(wanted.tolist())
        with av.open(io.BytesIO(self.media), "r") as container:
            pictures = [
                frame.to_ndarray(format="rgb24")
                for number, frame in enumerate(container.decode(video=0))
                if keep is None or number in keep
            ]
        return np.stack(pictures)


def read_shard(path: Path) -> Iterator[Sample]:
    """The labelled samples of a shard, in order. Pictures without landmarks (animals) are passed over.

    Raises UserError when the file is not a tar or a member is broken.
    """
    try:
        with tarfile.open(path) as tar:
            key, parts = "", dict[str, bytes]()
            for member in tar:
                name, _, suffix = member.name.rpartition(".")
                if name != key and parts:
                    yield from _sample(key, parts)
                    parts = {}
                key = name
                if (handle := tar.extractfile(member)) is not None:
                    parts[suffix] = handle.read()
            if parts:
                yield from _sample(key, parts)
    except FileNotFoundError as error:
        raise UserError(f"No shard at {path}: check the path in the training configuration.") from error
    except (tarfile.TarError, zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise UserError(f"Shard {path} cannot be read ({error}): fetch or prepare it anew.") from error


def _sample(key: str, parts: dict[str, bytes]) -> Iterator[Sample]:
    if "npz" not in parts:
        return
    with np.load(io.BytesIO(parts["npz"])) as stored:
        labels: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
    about = json.loads(parts.get("json", b"{}"))
    single = labels["rot"].ndim == 2
    if single:
        labels = {name: value[None] for name, value in labels.items()}
    count = len(labels["rot"])
    yield Sample(
        key=key,
        identity=str(about.get("identity") or about.get("id") or key),
        is_video="mp4" in parts,
        media=parts["mp4"] if "mp4" in parts else parts["jpg"],
        rotation=labels["rot"].astype(np.float32),
        blendshapes=labels["bs"].astype(np.float32) / np.float32(255),
        landmarks=labels["lmk"].astype(np.float32) / np.float32(64),
        measured=labels.get("meas", np.ones(count, bool)).astype(bool),
    )
