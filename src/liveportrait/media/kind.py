"""What a file holds, told by its first bytes; the suffix only words the error."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Literal

from liveportrait.errors import UserError
from liveportrait.media.container import open_media, require_video
from liveportrait.media.files import check_input

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
_VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"}


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
