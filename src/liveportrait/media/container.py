"""Opening media containers, and nothing else than media containers.

FFmpeg also opens text files as terminal recordings and playlists that name other files or network addresses;
here it may open the formats below from local files only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from liveportrait.errors import UserError
from liveportrait.media.files import check_input

_DEMUXERS = "mov,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac,aac"
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The opened container of a video or sound file. Raises UserError where it cannot be opened."""
    check_input(path)
    try:
        container = av.open(os.path.abspath(path), options=_OPTIONS, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise _unreadable(path) from error
    with container:
        yield container


def _unreadable(path: Path) -> UserError:
    return UserError(
        f"{path} cannot be read as a video: it is damaged, cut off or of an unknown format; "
        "play it to check, or convert it to MP4"
    )


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures; the cover of a song does not count."""
    streams = container.streams.video
    return next((s for s in streams if not s.disposition & Disposition.attached_pic), None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first stream of sound."""
    return next(iter(container.streams.audio), None)


def require_video(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures. Raises UserError where there is none."""
    stream = video_stream(container)
    if stream is None and audio_stream(container) is None:
        raise _unreadable(path)
    if stream is None:
        raise UserError(f"{path} has no video track: a file with moving pictures is needed")
    if stream.codec_context is None:
        raise UserError(f"{path}: its video codec is unknown here: convert it to MP4 with H.264")
    return stream
