"""Opening media containers safely, and recognising the kind of a file by its first bytes.

FFmpeg would also open text files as terminal recordings, and playlists that name other files or network addresses;
here it may open only the formats below, and only from local files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

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
from liveportrait.limits import check_pixels, max_pixels, picture_bytes
from liveportrait.media.files import check_input

_DEMUXERS = "mov,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,wav,mp3,flac,aac"
OPEN_OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}  # for every file that is read

PICTURES = "JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP or TIFF"
VIDEOS = "MP4, MOV, MKV, WebM, AVI, or an animated GIF, WebP, PNG or AVIF"

_SIGNATURES = (  # offset, bytes, format
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"ftypcrx ", "camera's raw"),
)
# For files that start with a "ftyp" box: the major brand or, if that is a general one, a compatible brand.
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_GENERAL_BRANDS = {b"mif1", b"msf1", b"miaf"}
UNREADABLE = ("JPEG XL", "camera's raw")
# Bytes found in files with several frames, and rarely in those with one.
_SIGNS_OF_ANIMATION = {"PNG": b"acTL", "WebP": b"ANMF", "AVIF": b"avis"}
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"}

S = TypeVar("S", AudioStream, VideoStream)

# Streams that accompany another stream, or are meant for some listeners only.
_SECONDARY = (
    Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.timed_thumbnails
    | Disposition.dependent
)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The opened container of a video or sound file. Raises UserError if it cannot be opened."""
    check_input(path)
    try:
        # The limit also applies to the frames that FFmpeg decodes to probe the file.
        options = {**OPEN_OPTIONS, "max_pixels": str(max_pixels())}
        container = av.open(os.path.abspath(path), options=options, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path) from error
    with container:
        yield container


def _unreadable(path: Path) -> UserError:
    return UserError(
        f"{path} cannot be read as a video: it is damaged, cut off or in an unknown format; "
        "play it to check, or convert it to MP4"
    )


def video_stream(container: InputContainer) -> VideoStream | None:
    """The video stream that players choose; the cover picture of a song does not count."""
    streams = container.streams.video
    return _preferred(stream for stream in streams if not stream.disposition & Disposition.attached_pic)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The audio stream that players choose."""
    return _preferred(container.streams.audio)


def _preferred(streams: Iterable[S]) -> S | None:
    """The first stream marked as default, otherwise the first one; streams that can be decoded come first."""
    return min(streams, key=_rank, default=None)


def _rank(stream: AudioStream | VideoStream) -> tuple[bool, bool, bool]:
    disposition = stream.disposition
    return stream.codec_context is None, not disposition & Disposition.default, bool(disposition & _SECONDARY)


def require_video(container: InputContainer, path: Path) -> VideoStream:
    """The video stream that players choose. Raises UserError if there is none."""
    stream = video_stream(container)
    if stream is None and audio_stream(container) is None:
        raise _unreadable(path)
    if stream is None:
        raise UserError(f"{path} has no video track: a file with moving pictures is needed")
    if stream.codec_context is None:
        raise UserError(f"{path}: its video codec is unknown here: convert it to MP4 with H.264")
    check_pixels(path, stream.width, stream.height)
    stream.codec_context.options = {"max_pixels": str(max_pixels())}
    return stream


def alpha_decoder(stream: VideoStream) -> VideoCodecContext | None:
    """A decoder that keeps the transparency of VP8 and VP9, which the default ones drop; None if not available."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        decoder = CodecContext.create(name, "r")
    except UnknownCodecError:  # FFmpeg may be built without it: then there are colours only
        return None
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def picture_format(path: Path) -> str | None:
    """The picture format that the file's first bytes announce, or None."""
    with path.open("rb") as file:
        head = file.read(256)
    found = (name for offset, magic, name in _SIGNATURES if head[offset : offset + len(magic)] == magic)
    return next(found, None) or _format_by_brand(head)


def _format_by_brand(head: bytes) -> str | None:
    """AVIF or HEIC if the first box of a file names one of their brands (ISO 14496-12, 4.3), else None."""
    if head[4:8] != b"ftyp":
        return None
    first, length = head[8:12], int.from_bytes(head[:4], "big")
    brands = {head[place : place + 4] for place in range(16, min(length, len(head)), 4)}
    if first in _AVIF_BRANDS or (first in _GENERAL_BRANDS and brands & _AVIF_BRANDS):
        return "AVIF"
    return "HEIC" if first in _HEIC_BRANDS | _GENERAL_BRANDS else None


def is_animated(path: Path, picture: str) -> bool:
    """Whether a file in a picture format other than GIF holds several frames; False if it is damaged."""
    sign = _SIGNS_OF_ANIMATION.get(picture)
    if sign is None or sign not in picture_bytes(path):
        return False
    import PIL.Image  # slow to import, and few files need it

    try:
        with PIL.Image.open(path, formats=[picture]) as opened:
            # A still picture may come before the frames, for programs that cannot show them.
            return int(getattr(opened, "n_frames", 1)) > 1 + bool(opened.info.get("default_image"))
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError):
        return False


def media_kind(path: Path | str) -> Literal["image", "video"]:
    """Whether the file is a picture or a video; a GIF, WebP, PNG or AVIF with several frames is a video.

    Raises UserError if it is neither, or there is no such file. Only the beginning of the file is read: later damage is
    found by `load_image` and `VideoReader`.
    """
    path = check_input(path)
    picture = picture_format(path)
    if picture not in (None, "GIF"):
        return "video" if is_animated(path, picture) else "image"
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
