"""Size limits of pictures and videos, checked against their headers before anything is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from liveportrait.errors import UserError

MAX_PIXELS = 2**28  # 16384x16384, 0.8 GB as RGB: more than any camera gives, and WebP's maximum
MAX_FRAMES = 1_000_000  # nine hours at 30 frames per second
_BYTES_PER_PIXEL = 8  # 16-bit RGBA, uncompressed
_METADATA_BYTES = 2**26  # profiles, thumbnails and comments
_MAX_SIDE = 10**6  # px, libpng's limit
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # of a JPEG, ITU-T T.81, table B.1


@dataclass(frozen=True)
class MediaLimits:
    """Limits on the pictures and videos that are read."""

    max_pixels: int | None = None
    """maximum width times height of a picture or frame; by default $LIVEPORTRAIT_MAX_PIXELS, or 268435456"""
    max_frames: int | None = None
    """maximum number of frames of a video or motion; by default $LIVEPORTRAIT_MAX_FRAMES, or 1000000"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a limit below 1."""
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} is {value}: choose a number above 0")

    def apply(self) -> None:
        """Set the limits for this process and those that it starts."""
        for name, value in vars(self).items():
            if value is not None:
                os.environ[_variable(name)] = str(value)


def max_pixels() -> int:
    """The largest width times height of a picture or frame. Raises `UserError` if the environment's is not a number."""
    return _limit("max_pixels", MAX_PIXELS)


def max_frames() -> int:
    """The most frames of a video or motion. Raises `UserError` if the environment's is not a number."""
    return _limit("max_frames", MAX_FRAMES)


def check_pixels(path: Path | str, width: int, height: int) -> None:
    """Raise `UserError` for a picture or frame with too many pixels or too long a side."""
    if width * height > max_pixels() or max(width, height) > _MAX_SIDE:
        raise UserError(
            f"{path} has too many pixels, {width}x{height}: scale it down, 4096 px a side are enough"
            f" (at most {max_pixels()} are read, see --max-pixels)"
        )


def check_frames(path: Path | str, frames: int) -> None:
    """Raise `UserError` for a video or motion with too many frames."""
    if frames > max_frames():
        raise UserError(
            f"{path} has {frames} frames or more, pauses included: shorten it, or raise --max-frames"
            f" (at most {max_frames()} are read)"
        )


def picture_bytes(path: Path) -> bytes:
    """The contents of a picture's file. Raises `UserError` if it is larger than any picture within the limits."""
    size, limit = path.stat().st_size, max_pixels() * _BYTES_PER_PIXEL + _METADATA_BYTES
    if size > limit:
        raise UserError(f"{path} has {size} bytes, and a picture may have at most {limit}: scale it down")
    return path.read_bytes()


def header_size(data: bytes, picture: str) -> tuple[int, int] | None:
    """Width and height, px, in the header of a PNG, BMP, GIF or JPEG; None for other formats or a broken header."""
    match picture:
        case "PNG":
            return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        case "BMP":
            width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
            return abs(width), abs(height)
        case "GIF":
            return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        case "JPEG":
            return _jpeg_size(data)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAME_HEADERS:
            return int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7])
        # A marker may be preceded by any number of bytes 0xFF.
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _limit(name: str, default: int) -> int:
    given = os.environ.get(_variable(name), "")
    if given and not (given.isdecimal() and int(given) > 0):
        raise UserError(f"{_variable(name)} is {given!r} in the environment: give a whole number above 0")
    return int(given) if given else default


def _variable(name: str) -> str:
    return f"LIVEPORTRAIT_{name.upper()}"
