"""Reading training shards: tar files in WebDataset layout, `KEY.mp4` or `KEY.jpg` with `KEY.npz` and `KEY.json`."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.errors import UserError
from liveportrait.media.container import OPEN_OPTIONS
from liveportrait.media.files import check_input

LANDMARKS = 111
BLENDSHAPES = 52
PICTURE_SIDE = 256
# Landmarks may lie slightly outside the picture; farther out they belong to a picture of another size.
MAX_COORDINATE = 1.25 * PICTURE_SIDE
# If the box of the landmarks is smaller than this, they are not in px of the picture.
MIN_EXTENT = PICTURE_SIDE / 8
JPEG_END = b"\xff\xd9"

Labels = dict[str, NDArray[Any]]
OnBroken = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """One clip or one picture, with or without labels."""

    key: str
    identity: str  # of the person if known, otherwise the key
    domain: str  # photo, generated, stylized or animal; photo if the shard does not say
    is_video: bool
    media: bytes

    def frames(self, wanted: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Decoded frames (n,256,256,3) RGB; `wanted` are ascending frame numbers, all by default.

        Raises UserError if the sample cannot be decoded, or its frames have another number or size.
        """
        try:
            frames = self._decode(wanted)
        except (av.FFmpegError, cv2.error, ValueError) as error:
            raise UserError(
                f"Sample {self.key} cannot be decoded ({error}): prepare its shard again."
            ) from error
        size = (PICTURE_SIDE, PICTURE_SIDE, 3)
        if frames.shape[1:] != size or (wanted is not None and len(frames) != len(wanted)):
            count = "all" if wanted is None else len(wanted)
            raise UserError(
                f"Sample {self.key} has frames of shape {frames.shape}, expected {count} of {size}: "
                "prepare its shard again."
            )
        return frames

    def _decode(self, wanted: NDArray[np.int64] | None) -> NDArray[np.uint8]:
        if not self.is_video:
            decoded = cv2.imdecode(np.frombuffer(self.media, np.uint8), cv2.IMREAD_COLOR_RGB)
            if decoded is None:
                raise ValueError("not a picture")
            return np.asarray(decoded, np.uint8)[None]
        keep = None if wanted is None else set(wanted.tolist())
        with av.open(io.BytesIO(self.media), "r", options=OPEN_OPTIONS) as container:
            stream = container.streams.video[0]
            # By default the decoder silently conceals damage; with threads it does so in any case.
            stream.codec_context.options = {"err_detect": "explode"}
            stream.thread_type = "NONE"
            pictures = [
                frame.to_ndarray(format="rgb24")
                for number, frame in enumerate(container.decode(stream))
                if keep is None or number in keep
            ]
        return np.stack(pictures)


@dataclass(frozen=True)
class Sample(Entry):
    """One labelled clip, or one labelled picture as a clip of one frame."""

    rotation: NDArray[np.float32]  # (T,3,3) canonical face to camera: x right, y up, camera looks along -z
    blendshapes: NDArray[np.float32]  # (T,52) in [0, 1]
    landmarks: NDArray[np.float32]  # (T,111,2) px of the 256 px crop
    measured: NDArray[np.bool_]  # (T,) False where a label is interpolated


def is_held_out(identity: str, one_in: int) -> bool:
    """Whether an identity belongs to the held-out set. A hash decides, so every corpus is split the same way."""
    return int(hashlib.sha256(identity.encode()).hexdigest(), 16) % one_in == 0


def read_shard(path: Path, on_broken: OnBroken | None = None) -> Iterator[Sample]:
    """The labelled samples of a shard, in order; entries without labels (animals) are skipped.

    A broken member is reported to `on_broken` in one sentence and skipped; without `on_broken` it raises UserError. A
    file that is not a tar always raises UserError.
    """
    return (entry for entry in read_entries(path, on_broken) if isinstance(entry, Sample))


def read_entries(path: Path, on_broken: OnBroken | None = None) -> Iterator[Entry]:
    """All entries of a shard, in order: a `Sample` if there are labels, else an `Entry`. Errors as for `read_shard`.

    The labels' shapes, counts and ranges are checked, and whether the media is complete; no pixels are decoded.
    """
    for key, parts in read_groups(path, on_broken):
        try:
            yield _entry(key, parts)
        except _BROKEN as error:
            sentence = f"Sample {key} of shard {path} is broken ({error})"
            if on_broken is None:
                raise UserError(f"{sentence}: fetch or prepare the shard again.") from error
            on_broken(f"{sentence}.")


# What a broken member may raise: zip and numpy, JSON, FFmpeg, OpenCV, our own checks.
_BROKEN = (
    zipfile.BadZipFile,
    ValueError,
    TypeError,
    RecursionError,
    OSError,
    EOFError,
    av.FFmpegError,
    cv2.error,
)


def read_groups(path: Path, on_broken: OnBroken | None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members by suffix, for each run of members with the same key. Errors as for `read_shard`."""
    key, parts = "", dict[str, bytes]()
    opened = False
    if path.exists():
        check_input(path)  # reading a pipe might never end
    try:
        with tarfile.open(path) as tar:
            opened = True
            for member in tar:
                name, _, suffix = member.name.rpartition(".")
                if name != key and parts:
                    yield key, parts
                    parts = {}
                key = name
                if (handle := tar.extractfile(member)) is not None:
                    parts[suffix] = handle.read()
    except FileNotFoundError as error:
        raise UserError(f"No shard at {path}: check the path in the training configuration.") from error
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if on_broken is None or not opened:
            reason = " ".join(str(error).split())  # tarfile's message has a line for each format it tried
            raise UserError(f"Shard {path} cannot be read ({reason}): fetch or prepare it again.") from error
        on_broken(f"Shard {path} is cut off at sample {key or 'one'} ({error}).")
        return
    if parts:
        yield key, parts


def _entry(key: str, parts: dict[str, bytes]) -> Entry:
    """Raises one of _BROKEN."""
    about = json.loads(parts.get("json", b"{}"))
    if not isinstance(about, dict):
        raise ValueError("its json is not an object")
    is_video = "mp4" in parts
    if not is_video and "jpg" not in parts:
        raise ValueError("no mp4 and no jpg")
    media = parts["mp4"] if is_video else parts["jpg"]
    identity = str(about.get("identity") or about.get("id") or key)
    domain = str(about.get("domain") or "photo")
    frames = _video_frames(media) if is_video else _picture_frames(media)
    if "npz" not in parts:
        return Entry(key, identity, domain, is_video, media)
    labels = _labels(parts["npz"], frames)
    return Sample(
        key,
        identity,
        domain,
        is_video,
        media,
        rotation=labels["rot"].astype(np.float32),
        blendshapes=labels["bs"].astype(np.float32) / np.float32(255),
        landmarks=labels["lmk"].astype(np.float32) / np.float32(64),
        measured=labels["meas"].astype(bool),
    )


def _video_frames(media: bytes) -> int:
    """The number of frames of a video, by its packets. Raises ValueError or FFmpegError if it is broken."""
    with av.open(io.BytesIO(media), "r", options=OPEN_OPTIONS) as container:
        if not container.streams.video:
            raise ValueError("an mp4 without a video track")
        stream = container.streams.video[0]
        if (stream.width, stream.height) != (PICTURE_SIDE, PICTURE_SIDE):
            raise ValueError(f"frames of {stream.width}x{stream.height} px, expected {PICTURE_SIDE}")
        count = 0
        for packet in container.demux(stream):
            if packet.size and packet.is_corrupt:
                raise ValueError(f"the video is cut off in frame {count}")
            count += packet.size > 0
        if stream.frames and count != stream.frames:
            raise ValueError(f"the video is cut off: {count} of {stream.frames} frames")
    return count


def _picture_frames(media: bytes) -> int:
    """Always 1. Raises ValueError if the picture is broken."""
    small = cv2.imdecode(np.frombuffer(media, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    if small is None or not media.rstrip(b"\0").endswith(JPEG_END):
        raise ValueError("the picture is not a JPEG, or is cut off")
    height, width = small.shape
    if (height, width) != (PICTURE_SIDE // 8, PICTURE_SIDE // 8):
        raise ValueError(f"a picture of about {8 * width}x{8 * height} px, expected {PICTURE_SIDE}")
    return 1


def _labels(stored: bytes, frames: int) -> Labels:
    """Labels with a first axis of length `frames`. Raises ValueError or KeyError if they are wrong."""
    if not zipfile.is_zipfile(io.BytesIO(stored)):
        raise ValueError("its npz is not a zip archive, or is cut off")
    with np.load(io.BytesIO(stored), allow_pickle=False) as file:
        if missing := {"rot", "bs", "lmk"} - set(file.files):
            raise ValueError(f"labels without {', '.join(sorted(missing))}")
        labels: Labels = {name: file[name] for name in file.files}
    if labels["rot"].ndim == 2:
        labels = {name: value[None] for name, value in labels.items()}
    labels.setdefault("meas", np.ones(len(labels["rot"]), bool))
    for name, shape in (("rot", (3, 3)), ("bs", (BLENDSHAPES,)), ("lmk", (LANDMARKS, 2)), ("meas", ())):
        if labels[name].shape != (frames, *shape):
            found, wanted = labels[name].shape, (frames, *shape)
            raise ValueError(f"labels {name} of shape {found} for {frames} frames, expected {wanted}")
    if not np.isfinite(labels["rot"]).all():
        raise ValueError("rotations are not finite")
    points = labels["lmk"].astype(np.float32) / 64
    if points.max() > MAX_COORDINATE or np.ptp(points, axis=1).max(axis=-1).min() < MIN_EXTENT:
        raise ValueError(
            f"landmarks from {points.min():.0f} to {points.max():.0f} px do not fit a picture of {PICTURE_SIDE} px"
        )
    return labels
