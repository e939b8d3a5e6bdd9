"""Samples as bytes, the same every time: no clocks, no names of users, one encoder thread."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.labels import Labels
from liveportrait.data.shards import PICTURE_SIDE

JPEG_QUALITY = 92


class ClipEncoder:
    """H.264 4:2:0 in MP4, in memory; a key frame every second, so that training can start anywhere."""

    def __init__(self, fps: int, crf: int) -> None:
        self._memory = io.BytesIO()
        self._container = av.open(self._memory, "w", format="mp4", options={"fflags": "+bitexact"})
        stream = self._container.add_stream(
            "libx264", rate=fps, options={"crf": str(crf), "preset": "medium"}
        )
        stream.width = stream.height = PICTURE_SIDE
        stream.pix_fmt = "yuv420p"
        stream.gop_size = fps
        # x264 decides differently with other numbers of threads.
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
    """Append a file to a tar, with neither date nor owner."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
