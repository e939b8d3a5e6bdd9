"""Pictures through Pillow: formats that OpenCV does not read correctly, colour profiles, missing ends, animations.

Pillow is slow to import, so callers import this module only where they need it.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageOps
from PIL.Image import DecompressionBombError
from PIL.Image import Image as Picture

from liveportrait.errors import UserError
from liveportrait.limits import check_frames, check_pixels, picture_bytes
from liveportrait.media.colour import flatten
from liveportrait.media.gamut import ADOBE_RGB, GAMMA_22, profile_to_srgb, signal_to_srgb
from liveportrait.media.probe import MAX_LAST_FRAME_S, Timeline, build_timeline
from liveportrait.types import Image

_BROKEN = (OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, struct.error)

_MIN_DURATION_S = 0.01  # frames with this duration or less
_DEFAULT_DURATION_S = 0.1  # are shown for this long instead, as in browsers

_EXIF, _COLOUR_SPACE, _INTEROPERABILITY = 0x8769, 0xA001, 0xA005  # EXIF 2.3
_UNCALIBRATED, _ADOBE = 0xFFFF, "R03"

_JPEG_END = b"\xff\xd9"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_LOST_ROWS = 16  # pixel rows of a JPEG (one row of its blocks) that may be affected by missing bytes


def load_modern(path: Path, picture: str) -> Image:
    """An AVIF or HEIC `picture` as (H,W,3) uint8 RGB: upright, sRGB, transparency laid on white.

    Raises UserError if it is damaged, or if it is HEIC and pillow-heif is missing.
    """
    with _reported(path, picture):
        if picture == "HEIC":
            return _rgb(_open_heic(path), path.read_bytes())
        with _opened(picture_bytes(path), picture) as opened:
            check_pixels(path, *opened.size)
            return _rgb(opened, path.read_bytes())


def size_of(path: Path, picture: str) -> tuple[int, int]:
    """Width and height in px from the header of a `picture`. Raises UserError if it cannot be read."""
    with _reported(path, picture):
        if picture == "HEIC":
            return tuple(_heif(path).size)
        with _opened(picture_bytes(path), picture) as opened:
            return opened.size


def _open_heic(path: Path) -> Picture:
    heif = _heif(path)
    check_pixels(path, *heif.size)
    picture: Picture = heif.to_pillow()
    # Without its EXIF data: the picture is already upright, but EXIF still has the camera's orientation.
    picture.info["icc_profile"] = heif.info.get("icc_profile")
    return picture


def _heif(path: Path) -> Any:
    try:
        from pillow_heif import open_heif
    except ImportError as error:
        raise UserError(
            f"{path} is a HEIC picture, and pillow-heif, which reads them, is missing: "
            "install it with pip install 'liveportrait[heif]', or export it as JPEG or PNG"
        ) from error
    return open_heif(path)


def check_size(path: Path, data: bytes, picture: str) -> None:
    """Raise UserError if a file's header announces more pixels, or a longer side, than we accept."""
    try:
        with _opened(data, picture) as opened:
            width, height = opened.size
    except _BROKEN:
        return
    check_pixels(path, width, height)


def in_srgb(image: Image, data: bytes, picture: str) -> Image:
    """Convert a decoded picture (H,W,3) uint8 to sRGB if the bytes of its file declare other colours.

    These are declared by code points (PNG), an ICC profile, or a camera's EXIF entry for Adobe RGB (JPEG).
    """
    if picture == "PNG" and (codes := _png_codes(data)):
        return signal_to_srgb(image, *codes)
    try:
        with _opened(data, picture) as opened:
            profile = opened.info.get("icc_profile")
            if not profile:
                return signal_to_srgb(image, GAMMA_22, ADOBE_RGB) if _is_adobe_rgb(opened) else image
            if profile[16:20] == b"CMYK" and opened.mode == "CMYK":
                return np.array(profile_to_srgb(ImageOps.exif_transpose(opened), profile))
    except _BROKEN:  # OpenCV could read the pixels: only the colour information is lost
        return image
    if profile[16:20] == b"GRAY" and np.ptp(image, axis=2).max() == 0:
        return np.array(profile_to_srgb(PIL.Image.fromarray(image[..., 0]), profile))
    return np.array(profile_to_srgb(PIL.Image.fromarray(image), profile))


def with_end_marker(data: bytes, picture: str) -> bytes | None:
    """The bytes of a file that lacks only its end marker, with that marker added; None if more is missing."""
    if picture == "PNG":
        place, last = 8, b""
        while place + 12 <= len(data):
            length, last = struct.unpack_from(">I4s", data, place)
            place += 12 + length
        return data[:place] + _PNG_END if last == b"IDAT" and place <= len(data) else None
    return _completed_jpeg(data) if picture == "JPEG" else None


def _completed_jpeg(data: bytes) -> bytes | None:
    """`with_end_marker` for a JPEG, whose decoder silently fills in missing data.

    To find out whether any is missing, noise is put before the marker: it changes the picture if data is missing and is
    skipped otherwise.
    """
    body = data.removesuffix(b"\xff").rstrip(b"\0")  # half of the marker, or space that was never filled
    if body.endswith(b"\xff"):
        body += b"\0"
    noise = np.random.default_rng(0).integers(0, 255, 4096, np.uint8).tobytes()
    try:
        with (
            _opened(body + _JPEG_END, "JPEG") as plain,
            _opened(body + noise + _JPEG_END, "JPEG") as noisy,
        ):
            differs = np.asarray(plain.convert("RGB")) != np.asarray(noisy.convert("RGB"))
    except _BROKEN:
        return None
    rows = np.flatnonzero(differs.any(axis=(1, 2)))
    height = len(differs)
    is_complete = not len(rows) or height - rows[0] <= min(_MAX_LOST_ROWS, height // 10)
    return body + _JPEG_END if is_complete else None


class AnimatedPicture:
    """The frames of an animated WebP, PNG or AVIF with their times.

    All frames are decoded once at the start: only that gives their times and shows whether the file is complete.
    """

    def __init__(self, path: Path, picture: str) -> None:
        """Raises UserError if the file is damaged or cut off."""
        self.path = path
        self._picture = picture
        times, end = [], 0.0
        for time, duration, _ in self._frames():
            times.append(time)
            end = time + min(duration, MAX_LAST_FRAME_S)
        self.timeline: Timeline = build_timeline(np.array(times), (), end, has_audio=False, pixel_aspect=1.0)

    def frames(self) -> Generator[tuple[float, Image], None, None]:
        """Each frame's time in s, and the frame as (H,W,3) uint8 RGB on white."""
        return ((time, frame) for time, _, frame in self._frames())

    def _frames(self) -> Iterator[tuple[float, float, Image]]:
        """Times, durations in s, and frames."""
        with _reported(self.path, self._picture), _opened(picture_bytes(self.path), self._picture) as opened:
            time = 0.0
            # An animated PNG's default image, for programs that cannot animate, is not one of its frames.
            first, count = bool(opened.info.get("default_image")), getattr(opened, "n_frames", 1)
            check_pixels(self.path, *opened.size)
            check_frames(self.path, count)
            for number in range(first, count):
                opened.seek(number)
                opened.load()
                duration = opened.info.get("duration", 0) / 1000
                if self._picture == "AVIF":
                    time = opened.info["timestamp"] / 1000  # its durations are rounded
                elif duration <= _MIN_DURATION_S:
                    duration = _DEFAULT_DURATION_S
                yield time, duration, _rgb(opened.copy())
                time += duration


def _rgb(picture: Picture, data: bytes = b"") -> Image:
    """A picture as (H,W,3) uint8 sRGB: upright, on white, converted by its profile or the code points in `data`."""
    profile = picture.info.get("icc_profile")
    upright = ImageOps.exif_transpose(picture)
    if upright.mode not in ("L", "RGB"):
        transparent = upright.has_transparency_data
        upright = upright.convert("RGBA" if transparent else "RGB")
        if transparent:
            upright = PIL.Image.fromarray(flatten(np.asarray(upright)))
    if profile:
        return np.array(profile_to_srgb(upright, profile))
    image = np.array(upright.convert("RGB"))
    place = data.find(b"colrnclx")
    if 0 <= place <= len(data) - 12:
        primaries, transfer = struct.unpack_from(">HH", data, place + 8)
        image = signal_to_srgb(image, transfer, primaries)
    return image


def _png_codes(data: bytes) -> tuple[int, int] | None:
    """Transfer function and primaries (ITU-T H.273) from a PNG's cICP chunk."""
    place = data.find(b"cICP", 0, max(data.find(b"IDAT"), 0))
    return (data[place + 5], data[place + 4]) if place > 0 else None


def _is_adobe_rgb(opened: Picture) -> bool:
    """Whether the EXIF data of a camera's picture without a profile says that it is Adobe RGB (DCF 2.0)."""
    exif = opened.getexif()
    space = exif.get_ifd(_EXIF).get(_COLOUR_SPACE)
    index = exif.get_ifd(_INTEROPERABILITY).get(1, "")
    return space == _UNCALIBRATED and str(index).startswith(_ADOBE)


@contextmanager
def _opened(data: bytes, picture: str) -> Iterator[Picture]:
    """A file of the given format opened without Pillow's pixel limit, which large camera sensors exceed."""
    PIL.Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata
        with PIL.Image.OPEN[picture.upper()][0](io.BytesIO(data), "") as opened:
            yield opened


@contextmanager
def _reported(path: Path, picture: str) -> Iterator[None]:
    try:
        yield
    except DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels: scale it down; 4096 px per side are enough") from error
    except _BROKEN as error:
        raise UserError(
            f"{path} cannot be decoded: the {picture} is damaged or cut off; copy it again"
        ) from error
