"""Media containers: opened, if they are such and nothing else; and the kind of a file, told by its first bytes.

FFmpeg also opens text files as terminal recordings and playlists that name other files or network addresses;
here it may open the formats below from local files only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal

import av
from av.audio.stream import AudioStream
from av.codec import CodecContext
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from liveportrait.errors import UserError
from liveportrait.media.files import check_input

_DEMUXERS = "mov,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac,aac"
_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}

PICTURES = "JPEG, PNG, WebP, GIF, BMP or TIFF"
VIDEOS = "MP4, MOV, MKV, WebM, AVI or GIF"

_SIGNATURES = (  # offset, bytes, format
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
)
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"}


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


def alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """A decoder that keeps the transparency of VP8 and VP9, which the usual ones drop; None where there is none."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        decoder = CodecContext.create(name, "r")
    except UnknownCodecError:  # FFmpeg may be built without: colours alone, then
        return None
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def picture_format(path: Path) -> str | None:
    """The picture format that the file's first bytes announce, or None."""
    with path.open("rb") as file:
        head = file.read(16)
    found = (name for offset, magic, name in _SIGNATURES if head[offset : offset + len(magic)] == magic)
    return next(found, None)


def media_kind(path: Path | str) -> Literal["image", "video"]:
    """Whether the file is a picture or a video; a GIF of several frames is a video.

    Raises UserError where it is neither, or there is no such file. Only its beginning is looked at: damage
    further on is found by `load_image` and `VideoReader`.
    """
    path = check_input(path)
    picture = picture_format(path)
    if picture not in (None, "GIF"):
        return "image"
    try:
        with open_media(path) as container:
            packets = container.demux(require_video(container, path))
            frames = sum(1 for _ in islice((packet for packet in packets if packet.size), 2))
    except UserError as error:
        if picture == "GIF":
            return "image"
        if path.suffix.lower() in _VIDEO_SUFFIXES or "no video track" in str(error):
            raise
        raise UserError(f"{path} is neither a picture ({PICTURES}) nor a video ({VIDEOS})") from error
    return "image" if picture == "GIF" and frames == 1 else "video"
