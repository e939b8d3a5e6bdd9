"""How much a picture or video may hold. What its header says is compared before anything is decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from liveportrait.errors import UserError

MAX_PIXELS = 2**28  # 16384x16384, 0.8 GB as RGB: more than any camera's, and WebP's largest
MAX_FRAMES = 1_000_000  # nine hours at 30 frames per second
_BYTES_A_PIXEL = 8  # 16-bit RGBA, not compressed
_BYTES_ASIDE = 2**26  # of profiles, thumbnails and notes
_BIGGEST_SIDE = 10**6  # px, of what libpng decodes
_FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # of a JPEG, ITU-T T.81, table B.1


@dataclass(frozen=True)
class MediaLimits:
    """Limits on the pictures and videos that are read."""

    max_pixels: int | None = None
    """maximum width times height of a picture or frame; by default $LIVEPORTRAIT_MAX_PIXELS, or 268435456"""
    max_frames: int | None = None
    """maximum number of frames of a video or motion; by default $LIVEPORTRAIT_MAX_FRAMES, or 1000000"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a limit that lets nothing through."""
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} is {value}: choose a number above 0")

    def apply(self) -> None:
        """From now on, in this process and those that it starts."""
        for name, value in vars(self).items():
            if value is not None:
                os.environ[_variable(name)] = str(value)


def max_pixels() -> int:
    """Width times height that a picture or frame may have. Raises `UserError` where the environment's is no number."""
    return _limit("max_pixels", MAX_PIXELS)


def max_frames() -> int:
    """Frames that a video or motion may have. Raises `UserError` where the environment's is no number."""
    return _limit("max_frames", MAX_FRAMES)


def check_pixels(path: Path | str, width: int, height: int) -> None:
    """Raise `UserError` where a picture or frame has more pixels than are read, or a longer side."""
    if width * height > max_pixels() or max(width, height) > _BIGGEST_SIDE:
        raise UserError(
            f"{path} has too many pixels, {width}x{height}: reduce it, 4096 px a side are enough"
            f" (at most {max_pixels()} are read, see --max-pixels)"
        )


def check_frames(path: Path | str, frames: int) -> None:
    """Raise `UserError` where a video or motion has more frames than are read."""
    if frames > max_frames():
        raise UserError(
            f"{path} has {frames} frames or more, pauses included: cut it, or raise --max-frames"
            f" (at most {max_frames()} are read)"
        )


def picture_bytes(path: Path) -> bytes:
    """A picture's file. Raises `UserError` where it is larger than a picture of so many pixels can be."""
    size, most = path.stat().st_size, max_pixels() * _BYTES_A_PIXEL + _BYTES_ASIDE
    if size > most:
        raise UserError(f"{path} has {size} bytes, more than the {most} of a picture that is read: reduce it")
    return path.read_bytes()


def announced_size(data: bytes, picture: str) -> tuple[int, int] | None:
    """Width and height, px, in the header of a PNG, BMP, GIF or JPEG; None for others, or where there is none."""
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
